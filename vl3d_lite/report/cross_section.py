"""Vertical cross-sections of a cloud, as pixels."""

from dataclasses import dataclass

import numpy as np

from vl3d_lite.report.top_view import SIDE, TopView

# In point spacings, so that the level of detail is independent of the density: on
# flat ground three points fall into each of 600 columns of pixels.
_LENGTH = 300
_THICKNESS = 6
_MIN_LENGTH = 30.0  # meters; otherwise a dense scan would show less than a house
_MAX_ASPECT = 50  # length over thickness, which limits it in dense scans


@dataclass(frozen=True)
class CrossSection:
    """Points of a vertical slice and their pixels; up is up in the picture.

    Args:
        along: Axis of the length: 0 for x, 1 for y.
        points: ``(k,)`` int, rows of the cloud, k at least 1.
        view: Pixels of these points.
        middle: ``(3,)`` float, center of the slice, in the coordinates of the cloud.
        length: Maximum length in meters.
        thickness: Thickness in meters.
    """

    along: int
    points: np.ndarray
    view: TopView
    middle: np.ndarray
    length: float
    thickness: float

    @classmethod
    def at(
        cls,
        xyz: np.ndarray,
        middle: np.ndarray,
        along: int,
        length: float,
        thickness: float,
        *,
        side: int = SIDE,
        per_pixel: float | None = None,
    ) -> "CrossSection":
        """Take the cross-section around a point; `length` also limits its height.

        Args:
            xyz: ``(n, 3)`` float, meters. At least one point is in the slice.
            middle: ``(3,)`` float, meters.
            along: Axis of the length: 0 for x, 1 for y.
            length: Meters, positive.
            thickness: Meters, not negative.
            side: Maximum number of pixels along the longer side.
            per_pixel: Minimum number of points per pixel, on average. By default
                there are about two points per column of pixels.
        """
        across = 1 - along
        inside = np.abs(xyz[:, along] - middle[along]) <= length / 2
        inside &= np.abs(xyz[:, across] - middle[across]) <= thickness / 2
        inside &= np.abs(xyz[:, 2] - middle[2]) <= length / 2
        points = np.flatnonzero(inside)
        some = xyz[points]
        if per_pixel is None:
            # Surfaces seen from the side are lines: columns matter, not the area.
            side, per_pixel = int(np.clip(len(points) // 2, 1, side)), 1e-9
        # A side view is a top view with z as north and nearness as height.
        near = -some[:, across]
        view = TopView.of(
            np.column_stack([some[:, along], some[:, 2], near]), side, per_pixel
        )
        return cls(along, points, view, middle, length, thickness)

    @classmethod
    def through(cls, xyz: np.ndarray) -> "CrossSection":
        """Take the cross-section through the middle of a cloud, along its longer side.

        Args:
            xyz: ``(n, 3)`` float, meters, n at least 1.
        """
        extent = np.ptp(xyz[:, :2], axis=0)
        along, across = (0, 1) if extent[0] >= extent[1] else (1, 0)
        spacing = float(np.sqrt(np.prod(extent) / len(xyz)))
        length = min(max(_LENGTH * spacing, _MIN_LENGTH), float(extent.max()))
        thickness = max(_THICKNESS * spacing, length / _MAX_ASPECT)
        # Medians, not means: they lie on points, also in clouds of irregular outline.
        middle = np.empty(3)
        middle[across] = _median(xyz[:, across])
        some = xyz[np.abs(xyz[:, across] - middle[across]) <= thickness / 2]
        middle[2] = _median(some[:, 2])
        some = some[np.abs(some[:, 2] - middle[2]) <= length / 2]
        ends = xyz[:, along].min() + length / 2, xyz[:, along].max() - length / 2
        middle[along] = np.clip(_median(some[:, along]), *sorted(ends))
        return cls.at(xyz, middle, along, length, thickness)

    def title(self, content: str) -> str:
        """Title of a picture of the cross-section."""
        return f"{content}, cross-section along {'xy'[self.along]}"


def _median(values: np.ndarray) -> float:
    """The upper median, which is one of the values."""
    return np.partition(values, len(values) // 2)[len(values) // 2]
