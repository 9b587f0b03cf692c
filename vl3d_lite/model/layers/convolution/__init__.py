"""Kernel point convolutions."""
