"""Match the points of two clouds by their coordinates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import PointCloud, read_header


def match_points(source: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """Find the row of each point of a cloud in another cloud of the same points.

    Args:
        source: ``(n, 3)`` int64 coordinates.
        other: ``(n, 3)`` int64 coordinates.

    Returns:
        ``(n,)`` int64: the row of `other` that holds the point of each row of
        `source`; -1 where several points share the coordinates. In equal order
        every point has its own row. None where a point has no partner.
    """
    if np.array_equal(source, other):
        return np.arange(len(source))
    if source.shape != other.shape:
        return None
    order, other_order = np.lexsort(source.T), np.lexsort(other.T)
    ordered = source[order]
    if not np.array_equal(ordered, other[other_order]):
        return None
    repeated = np.zeros(len(source) + 1, bool)
    repeated[1:-1] = np.all(ordered[1:] == ordered[:-1], axis=1)
    rows = np.empty(len(source), np.int64)
    rows[order] = np.where(repeated[1:] | repeated[:-1], -1, other_order)
    return rows


def match_clouds(
    paths: Sequence[Path], clouds: Sequence[PointCloud]
) -> np.ndarray | None:
    """Find the row of each point of a cloud in another cloud of the same points.

    Coordinates are compared in steps of the coarser of the two files.

    Args:
        paths: The files of the two clouds.
        clouds: Their points.

    Returns:
        ``(n,)`` int64: the row in the second cloud of each point of the first, as
        `match_points` finds it. None where a point has no partner.
    """
    steps = [
        read_header(path).scales * cloud.meters_per_unit
        for path, cloud in zip(paths, clouds, strict=True)
    ]
    step = np.maximum(*steps)
    first, second = (np.rint(cloud.xyz / step).astype(np.int64) for cloud in clouds)
    return match_points(first, second)
