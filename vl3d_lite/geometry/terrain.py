"""Slope of the terrain, and height of what stands on it."""

import numpy as np

from vl3d_lite.geometry.spacing import square_of_point


def ground_slope(xyz: np.ndarray, edge: float) -> float:
    """Median slope of the terrain in degrees.

    It is taken between neighboring squares, from the lowest point of each. Houses and
    trees change few of the squares, so that they hardly change the median.

    Args:
        xyz: ``(n, 3)`` in meters, at least one point.
        edge: Edge of the squares in meters; several times the point spacing.

    Returns:
        0 if no two squares are neighbors.
    """
    cells = np.floor((xyz[:, :2] - xyz[:, :2].min(axis=0)) / edge).astype(np.int64)
    width = cells[:, 1].max() + 2  # an empty column, so that rows are not neighbors
    keys, square = np.unique(cells[:, 0] * width + cells[:, 1], return_inverse=True)
    lowest = np.full(len(keys), np.inf)
    np.minimum.at(lowest, square, xyz[:, 2])
    slopes = []
    for step in (1, width):
        found = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        beside = keys[found] == keys + step
        slopes.append(np.abs(lowest[found] - lowest)[beside] / edge)
    rises = np.concatenate(slopes)
    return float(np.degrees(np.arctan(np.median(rises)))) if len(rises) else 0.0


def tall_height(xyz: np.ndarray, edge: float, share: float = 0.99) -> float:
    """Height that a share of the points does not exceed, above the lowest nearby.

    Args:
        xyz: ``(n, 3)`` in meters, at least one point.
        edge: Edge of the squares in which the lowest point is taken, in meters.
        share: Share of the points, in [0, 1].
    """
    square = np.unique(square_of_point(xyz, edge), return_inverse=True)[1]
    lowest = np.full(square.max() + 1, np.inf)
    np.minimum.at(lowest, square, xyz[:, 2])
    return float(np.quantile(xyz[:, 2] - lowest[square], share))
