"""The nearest neighbors of points, by SciPy's k-d trees."""

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

CHUNK = 65_536  # queries between two calls of `progress`; 8 MB at 16 neighbors


def make_tree(xyz: np.ndarray) -> cKDTree:
    """A k-d tree split at midpoints, with the leaf size measured best for grids."""
    return cKDTree(xyz, leafsize=24, balanced_tree=False)


def nearest(
    tree: cKDTree,
    queries: np.ndarray,
    k: int,
    *,
    radius: float | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Rows of the ``k`` nearest points of a tree, the nearest first.

    Args:
        tree: Tree of ``n`` points.
        queries: ``(m, 3)``, best in the order of a space-filling curve.
        k: Neighbors of a query, at least 1.
        radius: Points at this distance (meters) or farther count as missing.
        threads: Threads that search.
        progress: Called with the number of queries done since the last call.

    Returns:
        ``(m, k)`` int32; -1 where there is no such neighbor.
    """
    reach = np.inf if radius is None else radius
    rows = np.empty((len(queries), k), np.int32)
    for start in range(0, len(queries), CHUNK):
        part = queries[start : start + CHUNK]
        found = tree.query(
            part, np.arange(1, k + 1), distance_upper_bound=reach, workers=threads
        )[1]
        found[found == tree.n] = -1
        rows[start : start + CHUNK] = found
        if progress is not None:
            progress(len(part))
    return rows


def neighbors_within(
    xyz: np.ndarray,
    k: int,
    *,
    radius: float | None = None,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """The ``k`` nearest neighbors of points among themselves, self first.

    A point is its own first neighbor even where others share its place.

    Args:
        xyz: ``(n, 3)``.
        k: Neighbors of a point, itself included.
        radius: Points at this distance (meters) or farther count as missing.
        threads: Threads that search.
        progress: Called with the number of points done since the last call.

    Returns:
        ``(n, k)`` int32; -1 where there is no such neighbor.
    """
    if len(xyz) == 0:
        return np.zeros((0, k), np.int32)
    rows = nearest(
        make_tree(xyz), xyz, k, radius=radius, threads=threads, progress=progress
    )
    _put_self_first(rows)
    return rows


def _put_self_first(rows: np.ndarray) -> None:
    others = np.flatnonzero(rows[:, 0] != np.arange(len(rows)))
    found = rows[others]
    is_self = found == others[:, None]
    lost = ~is_self.any(axis=1)
    found[lost, -1] = others[lost]
    is_self[lost, -1] = True
    first = np.argsort(~is_self, axis=1, kind="stable")
    rows[others] = np.take_along_axis(found, first, axis=1)
