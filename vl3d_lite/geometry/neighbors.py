"""Nearest neighbors of points: k-d trees of SciPy, or Open3D where it is faster."""

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from vl3d_lite.errors import ResourceError
from vl3d_lite.geometry.open3d import load_open3d

ALONG_CURVE = 4  # candidates before and after a position on the curve
CHUNK = 65_536  # queries between two calls of `progress`; 8 MB at 16 neighbors
WIDE = 32  # neighbors from which Open3D's capped search is 1.04 to 1.7 times faster
MANY = 64_000_000  # neighbors in all from which that outweighs its import (0.5 s)
SAMPLES = 256  # points at which the number of neighbors within the radius is counted


def make_tree(xyz: np.ndarray) -> cKDTree:
    """Build a k-d tree; its settings were measured as the fastest for grid cells."""
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
        queries: ``(m, 3)``; fastest in the order of a space-filling curve.
        k: Neighbors of a query, at least 1.
        radius: Meters; points at this distance or farther are missing.
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

    A point is its own first neighbor even where others have its coordinates.

    Args:
        xyz: ``(n, 3)``.
        k: Neighbors of a point, itself included.
        radius: Meters; points at this distance or farther are missing.
        threads: Threads that search.
        progress: Called with the number of points done since the last call.

    Returns:
        ``(n, k)`` int32; -1 where there is no such neighbor.
    """
    if len(xyz) == 0:
        return np.zeros((0, k), np.int32)
    tree = make_tree(xyz)
    rows = None
    if radius is not None and _suits_open3d(tree, k, radius):
        rows = _by_open3d(xyz, k, radius)
    if rows is None:
        rows = nearest(tree, xyz, k, radius=radius, threads=threads, progress=progress)
    elif progress is not None:
        progress(len(xyz))
    _put_self_first(rows)
    return rows


def _suits_open3d(tree: cKDTree, k: int, radius: float) -> bool:
    """Whether Open3D is faster: many neighbors, and hardly more within the radius.

    Open3D examines every point within the radius: where there are three times `k`,
    it takes 1.6 times as long as SciPy.
    """
    if k < WIDE or tree.n * k < MANY:
        return False
    samples = tree.data[:: max(1, tree.n // SAMPLES)]
    counts = tree.query_ball_point(samples, radius, return_length=True)
    return counts.mean() <= k


def _by_open3d(xyz: np.ndarray, k: int, radius: float) -> np.ndarray | None:
    """The same search with Open3D; None where it is not installed.

    Open3D needs float32: coordinates are relative to the middle of the cloud.
    """
    try:
        core = load_open3d().core
    except ResourceError:
        return None
    middle = (xyz.min(axis=0) + xyz.max(axis=0)) / 2
    points = core.Tensor((xyz - middle).astype(np.float32))
    search = core.nns.NearestNeighborSearch(points)
    search.hybrid_index(radius)
    return search.hybrid_search(points, radius, k)[0].numpy().astype(np.int32)


def _put_self_first(rows: np.ndarray) -> None:
    """Move each point to the front of its neighbors, in place.

    Where several points have the same coordinates, a search may return another one
    first, or not the point itself: it then replaces the last neighbor.
    """
    others = np.flatnonzero(rows[:, 0] != np.arange(len(rows)))
    found = rows[others]
    is_self = found == others[:, None]
    lost = ~is_self.any(axis=1)
    found[lost, -1] = others[lost]
    is_self[lost, -1] = True
    first = np.argsort(~is_self, axis=1, kind="stable")
    rows[others] = np.take_along_axis(found, first, axis=1)


def nearest_along_curve(
    queries: np.ndarray, positions: np.ndarray, xyz: np.ndarray
) -> np.ndarray:
    """The nearest of the eight points around a position on a space-filling curve.

    This approximates the nearest point without a tree.

    Args:
        queries: ``(m, 3)``.
        positions: ``(m,)`` rows of `xyz` before which the queries would be inserted.
        xyz: ``(n, 3)``, at least one point, in the order of the curve.

    Returns:
        ``(m,)`` rows of `xyz`.
    """
    around = positions[:, None] + np.arange(-ALONG_CURVE, ALONG_CURVE)
    around = np.clip(around, 0, len(xyz) - 1)
    distances = np.square(xyz[around] - queries[:, None]).sum(axis=2)
    best = np.argmin(distances, axis=1)
    return around[np.arange(len(queries)), best]
