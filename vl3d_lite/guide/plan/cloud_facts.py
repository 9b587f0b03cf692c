"""What a plan knows of a cloud."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.dataset.class_counts import class_counts
from vl3d_lite.spec.schema.spec import Spec


@dataclass(frozen=True, eq=False)
class CloudFacts:
    """A cloud as a run will see it.

    Attributes:
        path: The file.
        group: ``train``, ``validation`` or ``predict``.
        points: Of the file.
        codes: LAS code to points; None where they are not counted.
        flagged: Points of a class that `ignored_flags` leaves out; not in `codes`.
        density: Points a square meter; None where only the header was read.
        nearest: Median distance of neighboring cells in meters, likewise.
        cells: Of each level, likewise.
        fields: ``(F, stages)`` points of probed training fields, or None.
        swept: ``(F,)`` points of the fields that cover the cloud once, or None.
        means: Mean of each feature over the cells, or None.
        spread: Their standard deviation, or None.
        labels: Cells of each class, or None.
        footprint: Width of the widest building in meters, 0 if there is none.
    """

    path: Path
    group: str
    points: int
    codes: dict[int, int] | None = None
    flagged: int = 0
    density: float | None = None
    nearest: float | None = None
    cells: tuple[int, ...] | None = None
    fields: np.ndarray | None = None
    swept: np.ndarray | None = None
    means: np.ndarray | None = None
    spread: np.ndarray | None = None
    labels: np.ndarray | None = None
    footprint: float = 0.0


def counted_classes(
    spec: Spec, clouds: Sequence[CloudFacts], group: str
) -> dict[str, int]:
    """Points of each class in a group of clouds."""
    counts = [
        class_counts(spec, c.codes) for c in clouds if c.group == group and c.codes
    ]
    return {name: sum(c[name] for c in counts) for name in spec.classes}
