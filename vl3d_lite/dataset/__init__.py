"""From clouds to grid cells, receptive fields and batches."""
