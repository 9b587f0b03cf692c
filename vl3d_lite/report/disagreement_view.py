"""Pictures of a place: from above, and cut through it from the side."""

from collections.abc import Sequence

import numpy as np

from vl3d_lite.evaluation.disagreements import Disagreement
from vl3d_lite.report.cross_section import CrossSection
from vl3d_lite.report.top_view import Picture, TopView, draw_classes, draw_errors

SIDE = 160  # pixels; a page holds ten places
_SURROUNDINGS = 2.5  # times the longer side of the place
_LEAST = 30  # times the distance that connects points: some context for small ones
_SLICE = 0.1  # of the window: a thinner one is mostly empty
_SPARSE = 0.5  # points a pixel: a cut may have gaps, a map should not


def draw_place(
    place: Disagreement,
    xyz: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    colors: Sequence[str],
    *,
    origin: np.ndarray,
    distance: float,
) -> list[Picture]:
    """Errors from above, then the reference and the prediction in one cut.

    The cut runs along x or y, whichever the place is longer in, upright through
    its middle.

    Args:
        place: Where.
        xyz: ``(n, 3)`` float64 meters, relative to `origin`.
        reference: ``(n,)`` int class index, -1 where there is none.
        prediction: ``(n,)`` int class index.
        names: Class names.
        colors: ``#rrggbb`` of each class.
        origin: ``(3,)`` float64.
        distance: That connects the points of a place, in meters.

    Returns:
        Three pictures.
    """
    middle = np.array([place.x, place.y, place.z]) - origin
    extent = np.array([place.x_max - place.x_min, place.y_max - place.y_min])
    window = max(_SURROUNDINGS * extent.max(), _LEAST * distance)
    inside = np.flatnonzero((np.abs(xyz[:, :2] - middle[:2]) <= window / 2).all(axis=1))
    xyz, reference, prediction = xyz[inside], reference[inside], prediction[inside]
    above = TopView.of(xyz, SIDE)
    pictures = [draw_errors(above, reference, prediction)]
    cut = CrossSection.at(
        xyz,
        middle,
        0 if extent[0] >= extent[1] else 1,
        window,
        _SLICE * window,
        side=SIDE,
        per_pixel=_SPARSE,
    )
    for title, labels in (("Reference", reference), ("Prediction", prediction)):
        title = f"{title}, cut along {'xy'[cut.along]}"
        labels = labels[cut.points]
        pictures.append(draw_classes(cut.view, title, labels, names, colors))
    return pictures
