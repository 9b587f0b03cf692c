"""From network outputs to votes, confidences and classified files."""
