"""Density and spacing of the points of a cloud."""

import numpy as np
from scipy.spatial import cKDTree

POINTS_PER_SQUARE = 16  # of the squares that density is measured on, on average
CELLS_PER_SQUARE = 3  # along an edge, at least, where points stand for cells
SAMPLES = 20_000  # points whose nearest neighbor is searched


def horizontal_density(
    xyz: np.ndarray, counts: np.ndarray | None = None, *, cell: float = 0.0
) -> tuple[float, tuple[float, float]]:
    """Horizontal point density in points/m2, over squares that hold points.

    Args:
        xyz: ``(n, 3)`` in meters, at least one point.
        counts: ``(n,)`` number of points that each stands for; one by default.
        cell: Edge in meters of the grid cells that they stand for. Squares are
            larger than cells, so that none of them is empty by chance.

    Returns:
        The median over squares of about 16 points, and the 10th and 90th
        percentile.
    """
    extent = np.maximum(np.ptp(xyz[:, :2], axis=0), 1e-3)
    density = (len(xyz) if counts is None else counts.sum()) / np.prod(extent)
    # The size of the squares follows from the density and the density from them;
    # empty land is out after the first round.
    for _ in range(4):
        edge = max(np.sqrt(POINTS_PER_SQUARE / density), CELLS_PER_SQUARE * cell)
        squares = np.unique(square_of_point(xyz, edge), return_inverse=True)[1]
        inside = np.bincount(squares, counts)
        density = np.median(inside) / edge**2
    low, high = np.quantile(inside, [0.1, 0.9]) / edge**2
    return float(density), (float(low), float(high))


def square_of_point(xyz: np.ndarray, edge: float) -> np.ndarray:
    """Index of the square of a horizontal grid that holds each point, ``(n,)``."""
    cells = np.floor((xyz[:, :2] - xyz[:, :2].min(axis=0)) / edge).astype(np.int64)
    return cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]


def nearest_distance(xyz: np.ndarray) -> float:
    """Median distance of points to their nearest neighbor, in meters."""
    rng = np.random.default_rng(0)
    tree = cKDTree(xyz, balanced_tree=False)
    rows = rng.integers(len(xyz), size=min(SAMPLES, len(xyz)))
    return float(np.median(tree.query(xyz[rows], 2)[0][:, 1]))
