"""Levels of a cloud: nested grids, neighbors within levels and between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vl3d_lite.geometry.neighbors import make_tree, nearest, neighbors_within
from vl3d_lite.geometry.subsampling import run_means, run_numbers, run_starts

CHILDREN = 8  # cells of one level in a cell of the next
INTERPOLATED = 3  # coarse points from which a fine one is interpolated


@dataclass(frozen=True)
class Level:
    """The points of one level.

    Attributes:
        xyz: ``(N, 3)`` float64, meters, in the cloud's local frame.
        neighbors: ``(N, K)`` int32 rows of this level, self first; -1 missing.
        down: ``(N_next, D)`` int32 rows of this level from which each point of the
            next level pools; -1 missing. None at the last level.
        up: ``(N, U)`` int32 rows of the next level from which each point takes
            features, the best first. None at the last level.
        parent: ``(N,)`` int32 row of the cell of the next level that holds each
            point. None at the last level.
    """

    xyz: np.ndarray
    neighbors: np.ndarray
    down: np.ndarray | None = None
    up: np.ndarray | None = None
    parent: np.ndarray | None = None


@dataclass(frozen=True)
class Hierarchy:
    """All levels of a cloud, from the finest to the coarsest.

    Attributes:
        levels: One per stage of the network.
        keys: ``(N_0,)`` uint64 Morton keys of the finest level, ascending.
    """

    levels: list[Level]
    keys: np.ndarray


def build_hierarchy(
    xyz: np.ndarray,
    keys: np.ndarray,
    neighbors: Sequence[int],
    *,
    radii: Sequence[float | None] | None = None,
    interlevel_neighbors: Literal["parents", "nearest"] = "parents",
    interpolate: bool = False,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Hierarchy:
    """Build the levels of a cloud from its finest cells.

    A point of level ``n + 1`` is the mean of the up to eight points of level
    ``n`` in its cell, whose edge is twice theirs.

    Args:
        xyz: ``(N, 3)`` float64 points of the finest level, one per cell.
        keys: ``(N,)`` Morton keys of their cells, ascending.
        neighbors: Neighbors of a point at each level, itself included.
        radii: Largest distance of a neighbor at each level in meters.
        interlevel_neighbors: Cells' parents and children, or the nearest points.
        interpolate: Whether `up` names the three nearest coarse points, not
            one: the parent, or the nearest if `interlevel_neighbors` is "nearest".
        threads: Threads that search.
        progress: Called with (points searched so far, points of all levels).
    """
    points, level_parents = [xyz], []
    level_keys = keys
    for _ in neighbors[1:]:
        level_keys = level_keys >> np.uint64(3)
        starts = run_starts(level_keys)
        level_parents.append(run_numbers(starts, len(level_keys)))
        points.append(run_means(points[-1], starts))
        level_keys = level_keys[starts]
    report = _Progress(sum(map(len, points)), progress)
    levels = []
    for number, (level_xyz, k) in enumerate(zip(points, neighbors, strict=True)):
        radius = None if radii is None else radii[number]
        rows = neighbors_within(
            level_xyz, k, radius=radius, threads=threads, progress=report
        )
        if number == len(points) - 1:
            levels.append(Level(level_xyz, rows))
            continue
        parent, coarse = level_parents[number], points[number + 1]
        by_distance = interlevel_neighbors == "nearest"
        if by_distance:
            down = nearest(make_tree(level_xyz), coarse, k, threads=threads)
        else:
            down = children_of(parent, len(coarse))
        if by_distance or interpolate:
            count = INTERPOLATED if interpolate else 1
            up = nearest(make_tree(coarse), level_xyz, count, threads=threads)
        else:
            up = parent[:, None]
        levels.append(Level(level_xyz, rows, down, up, parent))
    return Hierarchy(levels, keys)


def children_of(parent: np.ndarray, count: int) -> np.ndarray:
    """Children of each coarse cell, left-aligned.

    Args:
        parent: ``(N,)`` ascending rows of the coarse level, each at least once.
        count: Points of the coarse level.

    Returns:
        ``(count, 8)`` int32; -1 where a cell has fewer children.
    """
    starts = run_starts(parent)
    slots = np.arange(len(parent)) - starts[parent]
    children = np.full((count, CHILDREN), -1, np.int32)
    children[parent, slots] = np.arange(len(parent), dtype=np.int32)
    return children


class _Progress:
    """Sums the points searched over all levels."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self.total, self.report, self.done = total, report, 0

    def __call__(self, count: int) -> None:
        self.done += count
        if self.report is not None:
            self.report(self.done, self.total)
