"""Keras layers for point clouds: tensors in, tensors out."""

from vl3d_lite.model.layers.neighborhood import (
    flat_rows,
    gather_neighbors,
    is_present,
    is_real,
)

__all__ = [
    "flat_rows",
    "gather_neighbors",
    "is_present",
    "is_real",
]
