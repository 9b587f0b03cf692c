"""Pictures of a disagreement: from above and in a cross-section."""

from collections.abc import Sequence

import numpy as np

from vl3d_lite.clouds import Frame
from vl3d_lite.evaluation import Disagreement
from vl3d_lite.report.cross_section import CrossSection
from vl3d_lite.report.top_view import Picture, TopView, draw_classes, draw_errors

SIDE = 160  # pixels; a page shows ten disagreements
_WINDOW = 2.5  # times the longer side of the disagreement
_MIN_WINDOW = 30  # times the link distance: context for small disagreements
_THICKNESS = 0.1  # share of the window; a thinner section is mostly empty
_PER_PIXEL = 0.5  # points per pixel; a section may have gaps, unlike a map


def draw_disagreement(
    disagreement: Disagreement,
    xyz: np.ndarray,
    reference: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    colors: Sequence[str],
    *,
    frame: Frame,
    link_distance: float,
) -> list[Picture]:
    """Draw the errors from above, and reference and prediction in a cross-section.

    The section passes through the center of the disagreement, along x or y,
    whichever its extent is larger in.

    Args:
        disagreement: The disagreement.
        xyz: ``(n, 3)`` float64 meters, local to `frame`.
        reference: ``(n,)`` int class index, -1 where a point is unlabeled.
        prediction: ``(n,)`` int class index.
        names: Class names.
        colors: ``#rrggbb`` of each class.
        frame: The place and the unit of the cloud.
        link_distance: Distance in meters within which the points of a disagreement
            are connected.

    Returns:
        Three pictures.
    """
    item = disagreement
    middle = frame.to_local(np.array([item.x, item.y, item.z]))
    low = frame.to_local(np.array([item.x_min, item.y_min, item.z_min]))
    high = frame.to_local(np.array([item.x_max, item.y_max, item.z_max]))
    extent = (high - low)[:2]
    window = max(_WINDOW * extent.max(), _MIN_WINDOW * link_distance)
    inside = np.flatnonzero((np.abs(xyz[:, :2] - middle[:2]) <= window / 2).all(axis=1))
    xyz, reference, prediction = xyz[inside], reference[inside], prediction[inside]
    above = TopView.of(xyz, SIDE)
    pictures = [draw_errors(above, reference, prediction)]
    section = CrossSection.at(
        xyz,
        middle,
        0 if extent[0] >= extent[1] else 1,
        window,
        _THICKNESS * window,
        side=SIDE,
        per_pixel=_PER_PIXEL,
    )
    for title, labels in (("Reference", reference), ("Prediction", prediction)):
        title, labels = section.title(title), labels[section.points]
        pictures.append(draw_classes(section.view, title, labels, names, colors))
    return pictures
