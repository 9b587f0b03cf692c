"""Sizes of clouds in points and cells, and the memory that they take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vl3d_lite.dataset.extractor import interlevel_widths
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.spec import Spec, feature_columns

# Peak bytes per point of reading and reducing a file, before features
# (an estimate; benchmarks/bench_prediction.py measures the peak).
BYTES_PER_POINT = 150
SHRINKING = 0.4  # cells of a level per cell of the finer one, where not counted
# Bytes per cell of a mapped cloud that stay in memory: the lookup of one thread, and
# the boxes of the search tree.
MAPPED = 6.0
FIELDS_PER_CELL = 1.7  # fields that hold a cell in a sweep


@dataclass(frozen=True)
class CloudSize:
    """The size of a prepared cloud.

    Attributes:
        points: Points of the file.
        cells: Cells of each level; of the finest alone where others are not known.
        mapped: Whether the cloud is mapped from the cache: the system takes back the
            memory of mapped files where it is short.
    """

    points: int
    cells: tuple[int, ...]
    mapped: bool = False


def size_of(cloud: PreparedCloud) -> CloudSize:
    """Measure a prepared cloud."""
    cells = tuple(len(level.xyz) for level in cloud.hierarchy.levels)
    # An array of the cache that is not mapped, for want of open files, is writeable.
    mapped = cloud.stored is not None and not cloud.features.flags.writeable
    return CloudSize(len(cloud.cell_of_point), cells, mapped)


def cloud_bytes(spec: Spec, size: CloudSize, *, swept: bool = False) -> float:
    """Estimate the memory of a prepared cloud.

    Args:
        spec: The spec of the run.
        size: The size of the cloud.
        swept: Whether the fields of a sweep and the votes of cells are included.

    Returns:
        Bytes.
    """
    stages = spec.model.stages
    down, up = interlevel_widths(spec)
    cells = list(size.cells)
    while len(cells) < len(stages):
        cells.append(round(cells[-1] * SHRINKING))
    if size.mapped:
        total = MAPPED * sum(cells)
    else:
        total = 4.0 * size.points
        columns = len(feature_columns(spec.features))
        # Features, labels, counts, keys, and coordinates in order.
        total += cells[0] * (4 * columns + 4 + 4 + 8 + 24)
        for number, stage in enumerate(stages):
            total += cells[number] * (24 + 4 * stage.neighbors + 4)
            if number + 1 < len(stages):
                total += cells[number + 1] * 4 * down[number]
                total += cells[number] * 4 * (up + 1)
    if swept:
        total += cells[0] * (8 * FIELDS_PER_CELL + 8 * len(spec.classes) + 8)
    else:
        total += 8 * cells[0]
    return total


def coarser(sizes: Sequence[CloudSize], factor: float) -> list[CloudSize]:
    """Sizes on a grid `factor` times as coarse.

    A surface has ``factor**2`` times fewer cells.
    """
    return [
        replace(size, cells=tuple(max(1, round(n / factor**2)) for n in size.cells))
        for size in sizes
    ]
