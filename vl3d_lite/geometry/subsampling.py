"""Grid cells along a space-filling curve, and farthest-point sampling."""

from typing import NamedTuple

import numpy as np

from vl3d_lite.errors import DataError

BITS = 21  # of each axis; three axes fill 63 bits of a key
EDGE_TOLERANCE = 1e-9  # of a cell: 0.3 / 0.1 is 2.9999999999999996 but in cell 3

_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


class Cells(NamedTuple):
    """The occupied cells of a grid, in the order of their Morton keys.

    Attributes:
        keys: ``(N,)`` uint64, ascending.
        cell_of_point: ``(n,)`` int32, row of ``keys``.
        order: ``(n,)`` points grouped by cell, in input order inside a cell.
        starts: ``(N,)`` where each cell begins in ``order``.
    """

    keys: np.ndarray
    cell_of_point: np.ndarray
    order: np.ndarray
    starts: np.ndarray


def morton_keys(local: np.ndarray, grid_size: float) -> np.ndarray:
    """Interleave the integer cell coordinates of each point into one key.

    ``key >> 3 * n`` is the key of the cell of edge ``2**n * grid_size`` that
    holds the point, so that the cells of nested grids are runs of sorted keys.

    Args:
        local: ``(n, 3)`` float64, meters from a corner of the grid.
        grid_size: Edge of a cell in meters.

    Returns:
        ``(n,)`` uint64.

    Raises:
        DataError: A coordinate is not finite, or an axis needs over 2**21 cells.
    """
    keys = np.zeros(len(local), np.uint64)
    for axis in range(3):
        cells = np.floor(local[:, axis] / grid_size + EDGE_TOLERANCE)
        if len(cells) == 0:
            continue
        low, high = cells.min(), cells.max()
        if not np.isfinite(low + high):
            raise DataError(
                f"coordinates must be finite; {'xyz'[axis]} of point "
                f"{np.flatnonzero(~np.isfinite(cells))[0]} is not. "
                "Remove such points first"
            )
        cells -= min(low, 0)
        if high - min(low, 0) >= 2**BITS:
            raise DataError(
                f"the cloud reaches {(high - low) * grid_size:.0f} m along "
                f"{'xyz'[axis]}; cells of {grid_size:g} m allow "
                f"{2**BITS * grid_size:.0f} m. Split the cloud, remove stray points "
                "or raise `fields.grid_size`"
            )
        keys |= _spread(cells.astype(np.uint64)) << np.uint64(2 - axis)
    return keys


def _spread(values: np.ndarray) -> np.ndarray:
    """Insert two zero bits between the bits of ``values`` (21 bits each)."""
    for shift, mask in _SPREAD:
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values


def grid_cells(local: np.ndarray, grid_size: float) -> Cells:
    """Group points by the grid cell that holds them.

    Args:
        local: ``(n, 3)`` float64, meters from a corner of the grid.
        grid_size: Edge of a cell in meters.
    """
    keys = morton_keys(local, grid_size)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = run_starts(ordered)
    cell_of_point = np.empty(len(keys), np.int32)
    cell_of_point[order] = run_numbers(starts, len(keys))
    return Cells(ordered[starts], cell_of_point, order, starts)


def run_starts(ordered: np.ndarray) -> np.ndarray:
    """First row of each run of equal values of a sorted ``(n,)`` array."""
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return np.flatnonzero(first)


def run_numbers(starts: np.ndarray, n: int) -> np.ndarray:
    """Number of the run of each of ``n`` rows, ``(n,)`` int32."""
    counts = np.diff(starts, append=n)
    return np.repeat(np.arange(len(starts), dtype=np.int32), counts)


def run_rows(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Concatenate the rows of several runs.

    Args:
        starts: ``(m,)`` first row of each run.
        counts: ``(m,)`` rows in each run, at least 1.
    """
    if len(starts) == 0:
        return np.zeros(0, np.intp)
    ends = np.cumsum(counts)
    return np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)


def run_means(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean of each run of rows, in float64.

    Args:
        values: ``(n,)`` or ``(n, C)``.
        starts: ``(N,)`` ascending first rows; the first is 0.

    Returns:
        ``(N,)`` or ``(N, C)`` float64.
    """
    if len(starts) == 0:
        return np.zeros((0, *values.shape[1:]))
    counts = np.diff(starts, append=len(values))
    sums = np.add.reduceat(values.astype(np.float64, copy=False), starts, axis=0)
    return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def run_means_of_present(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean of each run of rows over its values that are not NaN, in float64.

    Args:
        values: ``(n,)``.
        starts: ``(N,)`` ascending first rows; the first is 0.

    Returns:
        ``(N,)`` float64; NaN for a run without such values.
    """
    missing = np.isnan(values)
    if not missing.any():
        return run_means(values, starts)
    totals = run_means(np.where(missing, 0, values), starts)
    shares = 1 - run_means(missing, starts)  # of the run, as the totals are
    return np.divide(totals, shares, out=np.full(len(starts), np.nan), where=shares > 0)


def farthest_points(
    xyz: np.ndarray, count: int, *, first: int = 0, spacing: float = 0.0
) -> np.ndarray:
    """Farthest-point sampling: each point is the farthest from those before it.

    The first ``m`` of the result are a sample of ``m`` points, so that one call
    serves every level of a hierarchy. Ties go to the lower row.

    Args:
        xyz: ``(n, D)``.
        count: Points to choose; all of them where there are fewer.
        first: Row of the first point.
        spacing: Sampling stops when every point is within this distance of a chosen
            one, in the unit of ``xyz``.

    Returns:
        At most ``(min(count, n),)`` rows of ``xyz`` in the order of choice.

    Source:
        Gonzalez, *Clustering to minimize the maximum intercluster distance* (1985).
    """
    count = min(count, len(xyz))
    chosen = np.empty(count, np.intp)
    axes = [np.ascontiguousarray(axis, np.float64) for axis in np.transpose(xyz)]
    distance = np.full(len(xyz), np.inf)
    row = first
    for number in range(count):
        chosen[number] = row
        squares = sum((axis - axis[row]) ** 2 for axis in axes)
        np.minimum(distance, squares, out=distance)
        distance[row] = -1  # a chosen point is never chosen again
        row = int(np.argmax(distance))
        if spacing and distance[row] <= spacing**2:
            return chosen[: number + 1]
    return chosen
