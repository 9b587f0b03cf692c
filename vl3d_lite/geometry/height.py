"""Height above the surrounding ground, on a raster in blocks that hold points."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.ndimage import minimum_filter, minimum_filter1d, uniform_filter

BLOCK = 512  # raster cells a side: 2 MB in float64
# A block of few points is divided, so that scattered points cost no empty rasters.
FEW, SMALL_BLOCK = 64, 32


def height_above_minimum(
    xyz: np.ndarray, radius: float, grid_size: float, threads: int = 1
) -> np.ndarray:
    """Height above the smoothed local minimum of z.

    1. The lowest z of each cell of a raster, whose edge is a tenth of the
       radius but not below the grid size.
    2. A cell lower than everything in its 5 x 5 window is raised to the second
       lowest of that window, so that one low outlier has no effect.
    3. The minimum over a disk of `radius`.
    4. Its mean over a square of about `radius`, interpolated bilinearly between
       cell centers: the height has no steps, and only points of step 2 can be
       below 0.

    The raster is processed in blocks that hold points: memory depends on the points
    and not on the extent, and the result does not depend on the blocks.

    Args:
        xyz: ``(n, 3)`` float64 in meters.
        radius: Radius of the disk in meters; at least two raster cells are used.
        grid_size: Edge of the grid cells in meters.
        threads: Blocks that are processed in parallel.

    Returns:
        ``(n,)`` float64 in meters.
    """
    edge = max(grid_size, radius / 10)
    reach = max(round(radius / edge), 2)
    half = max(int(reach / np.sqrt(2)) - 1, 0)  # the square stays inside the disk

    def ground(raster):
        return _smooth(_disk_minimum(_fill_pits(raster), reach), half)

    # The halo: 1 cell for the interpolation, 2 for the pits.
    return _height_above(ground, xyz, edge, reach + half + 3, threads)


def height_above_opening(
    xyz: np.ndarray, radius: float, grid_size: float, threads: int = 1
) -> np.ndarray:
    """Height above the morphological opening of the lowest z.

    An object that is narrower than twice the radius, such as a house or a crown, has
    its height; a slope has none, however steep, whereas it adds slope times radius to
    `height_above_minimum`.

    1. The lowest z of each cell of a raster, whose edge is a twentieth of the
       radius but not below the grid size.
    2. A cell lower than everything in its 5 x 5 window is raised to the second
       lowest of that window.
    3. Opening: the minimum over a disk of `radius`, then of cells that hold
       points the maximum over the same disk; interpolated bilinearly between
       cell centers.

    The raster is processed in blocks that hold points, as in
    `height_above_minimum`.

    Args:
        xyz: ``(n, 3)`` float64 in meters.
        radius: Radius of the disk in meters: half the width of the largest
            building; at least two raster cells are used.
        grid_size: Edge of the grid cells in meters.
        threads: Blocks that are processed in parallel.

    Returns:
        ``(n,)`` float64 in meters.

    Source:
        Zhang et al., *A progressive morphological filter for removing nonground
        measurements from airborne LIDAR data* (IEEE TGRS 41(4), 2003): its first
        step, with one window and without its threshold.
    """
    edge = max(grid_size, radius / 20)
    reach = max(round(radius / edge), 2)

    def ground(raster):
        lowest = _disk_minimum(_fill_pits(raster), reach)
        return -_disk_minimum(np.where(np.isfinite(raster), -lowest, np.inf), reach)

    # The halo: 1 cell for the interpolation, 2 for the pits.
    return _height_above(ground, xyz, edge, 2 * reach + 3, threads)


def _height_above(
    ground_of: Callable[[np.ndarray], np.ndarray],
    xyz: np.ndarray,
    edge: float,
    halo: int,
    threads: int,
) -> np.ndarray:
    """Height above a surface that is computed from the lowest z of raster cells.

    Args:
        ground_of: Takes a block of the raster, infinity in empty cells, and returns
            the surface at the same cells.
        xyz: ``(n, 3)`` float64 in meters.
        edge: Edge of a raster cell in meters.
        halo: Cells around a block on which the surface inside depends.
        threads: Blocks that are processed in parallel.
    """
    if not len(xyz):
        return np.zeros(0)
    position = xyz[:, :2] / edge
    cell = np.floor(position).astype(np.int64)
    cell -= cell.min(axis=0)
    position -= np.floor(position.min(axis=0))
    width = int(cell[:, 0].max()) + 1 + 2 * halo
    key = cell[:, 1] * width + cell[:, 0]
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    occupied = key[order[starts]]
    lowest = np.minimum.reduceat(xyz[order, 2], starts)
    rows, columns = np.divmod(occupied, width)

    height = np.empty(len(xyz))

    def process(block):
        points, size = block
        corner = cell[points[0]] // size * size - halo
        side = size + 2 * halo
        first, last = np.searchsorted(rows, [corner[1], corner[1] + side])
        near = np.arange(first, last)
        near = near[(columns[near] >= corner[0]) & (columns[near] < corner[0] + side)]
        place = np.stack([columns[near], rows[near]], axis=1)
        # Empty cells around the occupied ones have no effect.
        corner, end = (
            np.maximum(corner, place.min(axis=0) - halo),
            np.minimum(corner + side, place.max(axis=0) + halo + 1),
        )
        raster = np.full((end - corner)[::-1], np.inf)
        x, y = (place - corner).T
        raster[y, x] = lowest[near]
        ground = ground_of(raster)
        u = position[points] - corner - 0.5
        height[points] = xyz[points, 2] - _bilinear(ground, u[:, 0], u[:, 1])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(process, _blocks(cell)))
    return height


def _blocks(cell: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """The points of each block that holds some, and its side in cells."""
    for points in _parts(cell // BLOCK):
        if len(points) > FEW:
            yield points, BLOCK
            continue
        size = min(SMALL_BLOCK, BLOCK)
        for part in _parts(cell[points] // size):
            yield points[part], size


def _parts(key: np.ndarray) -> list[np.ndarray]:
    """The rows of each pair of numbers; none is negative."""
    number = key[:, 1] * (key[:, 0].max() + 1) + key[:, 0]
    order = np.argsort(number, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1)


def _fill_pits(raster: np.ndarray) -> np.ndarray:
    """Raise cells below all others of their 5 x 5 window to the lowest of those."""
    others = np.ones((5, 5), bool)
    others[2, 2] = False
    lowest = minimum_filter(raster, footprint=others, mode="constant", cval=np.inf)
    return np.where(np.isfinite(lowest), np.maximum(raster, lowest), raster)


def _disk_minimum(raster: np.ndarray, reach: int) -> np.ndarray:
    """Minimum over a disk of `reach` cells, row by row: each row is a 1D minimum."""
    result = np.full_like(raster, np.inf)
    padded = np.pad(raster, ((reach, reach), (0, 0)), constant_values=np.inf)
    for step in range(-reach, reach + 1):
        width = 2 * int(np.sqrt(reach**2 - step**2)) + 1
        rows = padded[reach + step : reach + step + len(raster)]
        widened = minimum_filter1d(rows, width, axis=1, mode="constant", cval=np.inf)
        np.minimum(result, widened, out=result)
    return result


def _smooth(raster: np.ndarray, half: int) -> np.ndarray:
    """Mean of the finite cells of a square of ``2 * half + 1`` cells."""
    known = np.isfinite(raster)
    total = uniform_filter(np.where(known, raster, 0.0), 2 * half + 1, mode="constant")
    share = uniform_filter(known.astype(float), 2 * half + 1, mode="constant")
    return np.where(known, total / np.maximum(share, 1e-9), 0.0)


def _bilinear(raster: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, up = x - column, y - row
    below = raster[row, column] * (1 - right) + raster[row, column + 1] * right
    above = raster[row + 1, column] * (1 - right) + raster[row + 1, column + 1] * right
    return below * (1 - up) + above * up
