"""Sizes of clouds in points and cells, and the memory they take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vl3d_lite.clouds.reading import describe_las
from vl3d_lite.dataset.extractor import interlevel_widths
from vl3d_lite.dataset.files import BYTES_PER_POINT
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.errors import VL3DError
from vl3d_lite.spec.schema.clouds import feature_columns
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.resources import memory_limit

SHRINKS = 0.4  # cells of a level for each of the level before, where not counted
SWEEP = 1.7  # fields that hold a cell in a pass over a cloud


@dataclass(frozen=True)
class CloudSize:
    """How large a cloud is once it is prepared.

    Attributes:
        points: Of the file.
        cells: Of each level; the finest alone where others are not known.
    """

    points: int
    cells: tuple[int, ...]


def size_of(cloud: PreparedCloud) -> CloudSize:
    """The size of a prepared cloud."""
    cells = tuple(len(level.xyz) for level in cloud.hierarchy.levels)
    return CloudSize(len(cloud.cell_of_point), cells)


def cloud_bytes(spec: Spec, size: CloudSize, *, swept: bool = False) -> float:
    """Bytes of a prepared cloud with its features and, if swept, its fields."""
    stages = spec.model.stages
    down, up = interlevel_widths(spec)
    cells = list(size.cells)
    while len(cells) < len(stages):
        cells.append(round(cells[-1] * SHRINKS))
    total = 4.0 * size.points
    columns = len(feature_columns(spec.features))
    # Features, scaled ones, labels, counts, keys, and coordinates in order.
    total += cells[0] * (8 * columns + 4 + 4 + 8 + 24)
    for number, stage in enumerate(stages):
        total += cells[number] * (24 + 4 * stage.neighbors + 4)
        if number + 1 < len(stages):
            total += cells[number + 1] * 4 * down[number] + cells[number] * 4 * (up + 1)
    if swept:
        total += cells[0] * (8 * SWEEP + 8 * len(spec.classes) + 8)
    else:
        total += 8 * cells[0]
    return total


def fits_beside(path: Path, spec: Spec) -> bool:
    """Whether a cloud may be prepared while another one is predicted.

    It takes half of the memory that is free at most, however few of its points
    share a cell.
    """
    try:
        points = describe_las(path).points
    except VL3DError:  # it is told when the cloud's turn has come
        return False
    size = CloudSize(points, (points,))
    needed = points * BYTES_PER_POINT + cloud_bytes(spec, size, swept=True)
    return needed <= memory_limit() / 2


def coarser(sizes: Sequence[CloudSize], factor: float) -> list[CloudSize]:
    """Clouds on a grid `factor` times as coarse: surfaces have its square fewer."""
    return [
        replace(size, cells=tuple(max(1, round(n / factor**2)) for n in size.cells))
        for size in sizes
    ]
