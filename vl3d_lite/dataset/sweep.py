"""Sweeps: sets of fields that together cover a cloud."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vl3d_lite.dataset.centers import spread_centers, typical_shape
from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.geometry import Shape, farthest_points
from vl3d_lite.spec import Spec

WINDOW = 65_536  # points considered together: bounds the memory of a step


@dataclass(frozen=True)
class Sweep:
    """Fields that together cover a cloud.

    Attributes:
        centers: ``(F, 3)`` float64, local frame.
        rows: For each field its ascending rows of the finest level.
        counts: ``(N,)`` int32, fields that hold each point.
    """

    centers: np.ndarray
    rows: list[np.ndarray]
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def cover(
    prepared: PreparedCloud,
    spec: Spec,
    *,
    votes: int = 1,
    seed: int = 0,
    extractor: FieldExtractor | None = None,
) -> Sweep:
    """Choose fields that hold every point of a cloud at least `votes` times.

    One lattice per vote, each with its own shift; then redundant fields are removed,
    and fields are added where points lack votes. A point stays short of votes only
    where so many others have its coordinates that a field centered on it does not
    hold the point itself.

    Args:
        prepared: The cloud.
        spec: The spec with the fields and stages.
        votes: At least 1.
        seed: Seed of the shifts.
        extractor: The extractor of the cloud; a new one by default.
    """
    extractor = FieldExtractor(prepared, spec) if extractor is None else extractor
    rng = np.random.default_rng(seed)
    shape = typical_shape(extractor, rng)
    counts = np.zeros(len(prepared.xyz), np.int32)
    fields = []
    for _ in range(votes):
        method = spec.fields.prediction_centers
        for center in spread_centers(method, prepared, spec.fields, shape, rng):
            for rows in _exhaust(extractor, center):
                counts[rows] += 1
                fields.append((center, rows))
    fields = list(_without_redundant(fields, counts, votes))
    fields.extend(_additional(extractor, shape, counts, votes))
    centers = np.array([center for center, _ in fields]).reshape(-1, 3)
    return Sweep(centers, [rows for _, rows in fields], counts)


def _exhaust(extractor: FieldExtractor, center: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of the fields at a center that together hold the shape's points.

    This is one field, unless farthest-point sampling thins it: then as many as are
    necessary, each sampled from the points that remain.
    """
    points = extractor.stages[0].points
    rows = (
        extractor.inside(center)[0] if extractor.farthest else extractor.select(center)
    )
    if len(rows) <= points:
        if len(rows):
            yield rows
        return
    while len(rows) > points:
        chosen = farthest_points(extractor.prepared.xyz[rows], points)
        yield np.sort(rows[chosen])
        rows = np.delete(rows, chosen)
    if len(rows):
        yield rows


def _without_redundant(
    fields: list[tuple[np.ndarray, np.ndarray]], counts: np.ndarray, votes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Drop fields, smallest first, whose points have more votes than necessary."""
    dropped = set()
    for number in sorted(range(len(fields)), key=lambda n: len(fields[n][1])):
        rows = fields[number][1]
        if counts[rows].min() > votes:
            counts[rows] -= 1
            dropped.add(number)
    for number, field in enumerate(fields):
        if number not in dropped:
            yield field


def _additional(
    extractor: FieldExtractor, shape: Shape, counts: np.ndarray, votes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield fields for the points that lack votes; `counts` is updated."""
    xyz = extractor.prepared.xyz
    short = np.flatnonzero(counts < votes)
    while len(short):
        window, first = short[:WINDOW], short[0]
        offsets = (xyz[window] - xyz[first])[:, : shape.axes]
        near = window[shape.measure(list(offsets.T)) <= shape.limit]
        center = xyz[near].mean(axis=0)
        rows = extractor.select(center)
        if not _holds(rows, first):
            center = xyz[first]
            rows = extractor.select(center)
        if not _holds(rows, first):  # too many points at the same coordinates
            short = short[1:]
            continue
        counts[rows] += 1
        yield center, rows
        short = short[counts[short] < votes]


def _holds(rows: np.ndarray, row: int) -> bool:
    position = int(np.searchsorted(rows, row))
    return position < len(rows) and bool(rows[position] == row)
