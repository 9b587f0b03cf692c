"""Disagreements: connected points whose prediction differs from the reference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vl3d_lite.clouds import Frame
from vl3d_lite.spec import Spec
from vl3d_lite.system import csv_text

# Half of the 26 cells around a cell: the other half gives the same pairs.
_OFFSETS = [
    (x, y, z)
    for x in (-1, 0, 1)
    for y in (-1, 0, 1)
    for z in (-1, 0, 1)
    if (x, y, z) > (0, 0, 0)
]


@dataclass(frozen=True)
class Disagreement:
    """Connected points of one reference class with one other predicted class.

    Args:
        cloud: Name of the cloud.
        reference: Name of the reference class.
        prediction: Name of the predicted class.
        points: Number of points, at least 1.
        confident_points: Number of points of at least the minimum confidence; 0
            where the confidence is unknown.
        mean_confidence: In [0, 1]; NaN where the confidence is unknown.
        x: Coordinates of the point nearest to the centroid, in the CRS and the unit
            of the cloud; so are `y` and `z`.
        y: See `x`.
        z: See `x`.
        x_min: Extent in the CRS and the unit of the cloud; so are the next five.
        unit: Unit of the coordinates, such as "us-ft" or "us-ft, heights in m".
    """

    cloud: str
    reference: str
    prediction: str
    points: int
    confident_points: int
    mean_confidence: float
    x: float
    y: float
    z: float
    x_min: float
    y_min: float
    z_min: float
    x_max: float
    y_max: float
    z_max: float
    unit: str = "m"


def find_disagreements(
    cloud: str,
    xyz: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    confidence: np.ndarray | None,
    class_names: Sequence[str],
    *,
    frame: Frame,
    link_distance: float,
    min_confidence: float,
    min_points: int,
    top: int = 10,
) -> list[Disagreement]:
    """Group the wrong points of a cloud into disagreements, the largest first.

    Wrong points are sorted into cubic cells of edge `link_distance`; points of the
    same pair of classes in one cell, or in adjacent cells, are connected. Points
    within `link_distance` are therefore always connected, and points more than
    ``2 * sqrt(3) * link_distance`` apart only through points between them. Memory
    grows with the number of wrong points, not with the size of the cloud.

    Args:
        cloud: Name of the cloud.
        xyz: ``(n, 3)`` float64 meters, local to `frame`.
        reference: ``(n,)`` int class index, -1 where a point is unlabeled.
        prediction: ``(n,)`` int class index.
        confidence: ``(n,)`` float in [0, 1], or None.
        class_names: Name of each class index.
        frame: The place and the unit of the cloud.
        link_distance: In meters, positive.
        min_confidence: Confidence in [0, 1] from which on a wrong point counts as
            confident.
        min_points: Disagreements of more points than this are listed.
        top: The `top` largest are listed regardless of their size.
    """
    wrong = np.flatnonzero((reference >= 0) & (reference != prediction))
    pairs = reference[wrong].astype(np.int64) * len(class_names) + prediction[wrong]
    found = []
    for pair in np.unique(pairs):
        rows = wrong[pairs == pair]
        truth, answer = (class_names[i] for i in divmod(int(pair), len(class_names)))
        label = _connected(xyz[rows], link_distance)
        size = np.bincount(label)
        # Only these can be listed; the others are skipped before any statistics.
        count = max(top, int((size > min_points).sum()))
        largest = np.argsort(-size, kind="stable")[:count]
        order = np.argsort(label, kind="stable")
        stops = np.cumsum(size)
        for number in largest:
            own = rows[order[stops[number] - size[number] : stops[number]]]
            values = None if confidence is None else confidence[own]
            found.append(
                _disagreement(
                    cloud, truth, answer, xyz[own], values, frame, min_confidence
                )
            )
    found.sort(key=lambda entry: -entry.points)
    large = sum(entry.points > min_points for entry in found)
    return found[: max(top, large)]


def _connected(xyz: np.ndarray, link_distance: float) -> np.ndarray:
    """``(n,)`` int, the connected component of each point."""
    cells = np.floor((xyz - xyz.min(axis=0)) / link_distance).astype(np.int64)
    # One empty cell on each side, so that no offset wraps into the next row.
    sides = cells.max(axis=0) + 3
    steps = np.array([sides[1] * sides[2], sides[2], 1])
    keys, cell = np.unique((cells + 1) @ steps, return_inverse=True)
    edges = []
    for offset in _OFFSETS:
        wanted = keys + np.dot(offset, steps)
        candidate = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        adjacent = np.flatnonzero(keys[candidate] == wanted)
        edges.append(np.stack([adjacent, candidate[adjacent]]))
    rows, columns = np.concatenate(edges, axis=1)
    graph = coo_array(
        (np.ones(len(rows), bool), (rows, columns)), shape=(len(keys), len(keys))
    )
    return connected_components(graph, directed=False)[1][cell.ravel()]


def _disagreement(
    cloud: str,
    reference: str,
    prediction: str,
    xyz: np.ndarray,
    confidence: np.ndarray | None,
    frame: Frame,
    min_confidence: float,
) -> Disagreement:
    central = xyz[np.argmin(((xyz - xyz.mean(axis=0)) ** 2).sum(axis=1))]
    x, y, z = _coordinates(frame, central)
    x_min, y_min, z_min = _coordinates(frame, xyz.min(axis=0))
    x_max, y_max, z_max = _coordinates(frame, xyz.max(axis=0))
    confident_points, mean_confidence = 0, float("nan")
    if confidence is not None:
        confidence = confidence.astype(np.float64)
        # A threshold such as 0.9 is stored as float32, a little below or above it.
        confident_points = int((confidence >= min_confidence - 1e-6).sum())
        mean_confidence = float(confidence.mean())
    return Disagreement(
        cloud=cloud,
        reference=reference,
        prediction=prediction,
        points=len(xyz),
        confident_points=confident_points,
        mean_confidence=mean_confidence,
        x=x,
        y=y,
        z=z,
        x_min=x_min,
        y_min=y_min,
        z_min=z_min,
        x_max=x_max,
        y_max=y_max,
        z_max=z_max,
        unit=frame.units,
    )


def _coordinates(frame: Frame, point: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in frame.coordinates(point)]


def confident_disagreements(
    disagreements: Sequence[Disagreement], spec: Spec
) -> list[Disagreement]:
    """Disagreements of more than ``evaluation.min_points`` confident points.

    Returns:
        The entries with the most confident points first.
    """
    limit = spec.evaluation.min_points
    found = [entry for entry in disagreements if entry.confident_points > limit]
    return sorted(found, key=lambda entry: -entry.confident_points)


def summarize_disagreements(
    disagreements: Sequence[Disagreement], spec: Spec
) -> dict[str, float]:
    """Settings and counts of the disagreements, an entry of ``metrics.json``."""
    limit = spec.evaluation.min_points
    listed = [entry for entry in disagreements if entry.points > limit]
    confident = confident_disagreements(disagreements, spec)
    return {
        "min_points": limit,
        "link_distance": spec.link_distance,
        "min_confidence": spec.evaluation.min_confidence,
        "count": len(listed),
        "points": sum(entry.points for entry in listed),
        "confident_count": len(confident),
        "confident_points": sum(entry.confident_points for entry in confident),
    }


def disagreements_csv(disagreements: Sequence[Disagreement]) -> str:
    """CSV with one row per disagreement and one column per field.

    An unknown mean confidence is empty.
    """
    lines: list[Sequence] = [list(Disagreement.__dataclass_fields__)]
    for entry in disagreements:
        row = asdict(entry)
        mean = row["mean_confidence"]
        row["mean_confidence"] = "" if np.isnan(mean) else f"{mean:.4f}"
        lines.append(list(row.values()))
    return csv_text(lines)
