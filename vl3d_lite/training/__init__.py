"""Fitting and resuming, losses, optimizers and the memory a run will need."""
