"""LAS point clouds in, classified LAS point clouds out."""

__version__ = "0.1.0"
