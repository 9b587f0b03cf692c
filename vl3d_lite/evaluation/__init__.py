"""Scores of predictions, and where they disagree with the reference."""
