"""A cloud seen from the side: an upright slice of it, as pixels."""

from dataclasses import dataclass

import numpy as np

from vl3d_lite.report.top_view import SIDE, TopView

# In point spacings, so that every scan shows as much detail: on flat ground three
# points fall into each of 600 columns of pixels.
_LENGTH = 300
_THICKNESS = 6
_LEAST_LENGTH = 30.0  # meters: a dense scan would show less than a house
_SLENDER = 50  # times as long as thick, where the scan is dense


@dataclass(frozen=True)
class CrossSection:
    """Points of an upright slice, and the pixels they fall into, up being up.

    Args:
        along: 0 where the slice runs along x, 1 along y.
        points: ``(k,)`` int, rows of the cloud, k at least 1.
        view: Pixels of those points.
        middle: ``(3,)`` float, its middle, in the coordinates of the cloud.
        length: In meters, at most.
        thickness: In meters.
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
        """Cut through a point; height is bounded like length.

        Args:
            xyz: ``(n, 3)`` float, meters. One point at least lies in the slice.
            middle: ``(3,)`` float.
            along: See the class.
            length: Meters, positive.
            thickness: Meters, not negative.
            side: Most pixels along the longer side.
            per_pixel: Fewest points a pixel, on average. Without it pixels are as
                fine as leaves about two points to a column.
        """
        across = 1 - along
        inside = np.abs(xyz[:, along] - middle[along]) <= length / 2
        inside &= np.abs(xyz[:, across] - middle[across]) <= thickness / 2
        inside &= np.abs(xyz[:, 2] - middle[2]) <= length / 2
        points = np.flatnonzero(inside)
        some = xyz[points]
        if per_pixel is None:
            # Surfaces seen from the side are lines: columns count, not the area.
            side, per_pixel = int(np.clip(len(points) // 2, 1, side)), 1e-9
        # From the side, up is what is north from above, and near is what is high.
        near = -some[:, across]
        view = TopView.of(
            np.column_stack([some[:, along], some[:, 2], near]), side, per_pixel
        )
        return cls(along, points, view, middle, length, thickness)

    @classmethod
    def through(cls, xyz: np.ndarray) -> "CrossSection":
        """Cut through the middle of a cloud, along its longer side.

        Args:
            xyz: ``(n, 3)`` float, meters, n at least 1.
        """
        extent = np.ptp(xyz[:, :2], axis=0)
        along, across = (0, 1) if extent[0] >= extent[1] else (1, 0)
        spacing = float(np.sqrt(np.prod(extent) / len(xyz)))
        length = min(max(_LENGTH * spacing, _LEAST_LENGTH), float(extent.max()))
        thickness = max(_THICKNESS * spacing, length / _SLENDER)
        # Ranks, not means: there are points, also in clouds of odd outlines.
        middle = np.empty(3)
        middle[across] = _median(xyz[:, across])
        some = xyz[np.abs(xyz[:, across] - middle[across]) <= thickness / 2]
        middle[2] = _median(some[:, 2])
        some = some[np.abs(some[:, 2] - middle[2]) <= length / 2]
        ends = xyz[:, along].min() + length / 2, xyz[:, along].max() - length / 2
        middle[along] = np.clip(_median(some[:, along]), *sorted(ends))
        return cls.at(xyz, middle, along, length, thickness)


def _median(values: np.ndarray) -> float:
    """One of the values themselves."""
    return np.partition(values, len(values) // 2)[len(values) // 2]
