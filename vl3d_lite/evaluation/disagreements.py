"""Places: connected points on which prediction and reference disagree."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vl3d_lite.spec.schema.spec import Spec

# Half of the 26 cells around one: the other half sees the same pairs.
_AROUND = [
    (x, y, z)
    for x in (-1, 0, 1)
    for y in (-1, 0, 1)
    for z in (-1, 0, 1)
    if (x, y, z) > (0, 0, 0)
]


@dataclass(frozen=True)
class Disagreement:
    """Connected points of one class that all got one other class.

    Args:
        cloud: Name of the cloud.
        reference: Name of the class that the reference gives.
        prediction: Name of the class that was predicted.
        points: How many, at least 1.
        confident_points: Those of at least the asked confidence; 0 where no
            confidence is known.
        mean_confidence: NaN where none is known.
        x: Of the point nearest to the middle, in the cloud's own coordinates.
        y: See `x`.
        z: See `x`.
        x_min: Extent, in the cloud's own coordinates; so are the next five.
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


def find_disagreements(
    cloud: str,
    xyz: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    confidence: np.ndarray | None,
    class_names: Sequence[str],
    *,
    origin: np.ndarray,
    distance: float,
    confident: float,
    points: int,
    always: int = 10,
) -> list[Disagreement]:
    """Where a cloud's wrong points lie together, the largest places first.

    Wrong points are sorted into cells of edge `distance`; those of a pair of
    classes in one cell, or in cells that touch, are one place. So points within
    `distance` always are, and points over ``2 * sqrt(3) * distance`` apart only
    by others between them. Memory grows with wrong points, not with points.

    Args:
        cloud: Its name.
        xyz: ``(n, 3)`` float64 meters, relative to `origin`.
        reference: ``(n,)`` int class index, -1 where there is none.
        prediction: ``(n,)`` int class index.
        confidence: ``(n,)`` float in [0, 1], or None.
        class_names: Name of each class index.
        origin: ``(3,)`` float64.
        distance: In meters, positive.
        confident: From which on a point is a confident one.
        points: Places of more points than this are listed.
        always: So many places are listed however small they are.
    """
    wrong = np.flatnonzero((reference >= 0) & (reference != prediction))
    pairs = reference[wrong].astype(np.int64) * len(class_names) + prediction[wrong]
    found = []
    for pair in np.unique(pairs):
        rows = wrong[pairs == pair]
        names = [class_names[index] for index in divmod(int(pair), len(class_names))]
        near = xyz[rows]
        label = _connected(near, distance)
        sure = None if confidence is None else confidence[rows].astype(np.float64)
        size = np.bincount(label)
        # Only these can be listed; the rest are not worth their sums.
        largest = np.argsort(-size, kind="stable")[: max(always, (size > points).sum())]
        order = np.argsort(label, kind="stable")
        stops = np.cumsum(size)
        for number in largest:
            own = order[stops[number] - size[number] : stops[number]]
            found.append(
                _place(
                    cloud,
                    names,
                    near[own],
                    None if sure is None else sure[own],
                    origin,
                    confident,
                )
            )
    found.sort(key=lambda place: -place.points)
    kept = sum(place.points > points for place in found)
    return found[: max(always, kept)]


def _connected(xyz: np.ndarray, distance: float) -> np.ndarray:
    """``(n,)`` number of the component of each point."""
    cells = np.floor((xyz - xyz.min(axis=0)) / distance).astype(np.int64)
    # An empty cell on every side: no offset leads into another row.
    sides = cells.max(axis=0) + 3
    steps = np.array([sides[1] * sides[2], sides[2], 1])
    keys, cell = np.unique((cells + 1) @ steps, return_inverse=True)
    some, others = [], []
    for offset in _AROUND:
        wanted = keys + np.dot(offset, steps)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        touches = np.flatnonzero(keys[place] == wanted)
        some.append(touches)
        others.append(place[touches])
    some, others = np.concatenate(some), np.concatenate(others)
    graph = coo_array(
        (np.ones(len(some), bool), (some, others)), shape=(len(keys), len(keys))
    )
    return connected_components(graph, directed=False)[1][cell.ravel()]


def _place(cloud, names, xyz, confidence, origin, confident) -> Disagreement:
    middle = xyz[np.argmin(((xyz - xyz.mean(axis=0)) ** 2).sum(axis=1))]
    known = confidence is not None
    corners = (middle, xyz.min(axis=0), xyz.max(axis=0))
    return Disagreement(
        cloud,
        *names,
        len(xyz),
        int((confidence >= confident - 1e-6).sum()) if known else 0,
        float(confidence.mean()) if known else float("nan"),
        *(round(float(value), 3) for corner in corners for value in corner + origin),
    )


def confident_disagreements(
    places: Sequence[Disagreement], spec: Spec
) -> list[Disagreement]:
    """Places of more confident points than the spec asks for, the most first."""
    limit = spec.evaluation.min_points
    some = [place for place in places if place.confident_points > limit]
    return sorted(some, key=lambda place: -place.confident_points)


def summarize_disagreements(places: Sequence[Disagreement], spec: Spec) -> dict:
    """What ``metrics.json`` says of disagreements; ``disagreements.csv`` has them."""
    limit = spec.evaluation.min_points
    listed = [place for place in places if place.points > limit]
    confident = confident_disagreements(places, spec)
    return {
        "more_than_points": limit,
        "distance": spec.link_distance,
        "confident_from": spec.evaluation.min_confidence,
        "places": len(listed),
        "points": sum(place.points for place in listed),
        "confident_disagreements": len(confident),
        "confident_points": sum(place.confident_points for place in confident),
    }


def disagreements_csv(places: Sequence[Disagreement]) -> str:
    """One row per disagreement, columns named as the fields of `Disagreement`."""
    stream = io.StringIO()
    names = list(Disagreement.__dataclass_fields__)
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for place in places:
        row = asdict(place)
        mean = row["mean_confidence"]
        row["mean_confidence"] = "" if np.isnan(mean) else f"{mean:.4f}"
        writer.writerow(row)
    return stream.getvalue()
