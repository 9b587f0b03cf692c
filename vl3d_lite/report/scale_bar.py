"""The scale bar of a picture: a round length and its share of the width."""

from dataclasses import dataclass

import numpy as np

from vl3d_lite.clouds import unit_name

_LONGEST = 0.4  # share of the width of the picture
_ROUND = (5, 2, 1)


@dataclass(frozen=True)
class ScaleBar:
    """A scale bar below a picture.

    Attributes:
        share: Length as a share of the picture's width, in (0, 0.4].
        text: Length with its unit, such as "50 us-ft".
    """

    share: float
    text: str


def scale_bar(width: float, meters_per_unit: float) -> ScaleBar | None:
    """The longest round scale bar that a picture has room for.

    Args:
        width: Width of the picture in meters.
        meters_per_unit: Meters in one unit of the bar, positive.

    Returns:
        None where the picture has no extent.
    """
    room = _LONGEST * width / meters_per_unit
    if not (room > 0 and np.isfinite(room)):
        return None
    power = 10.0 ** np.floor(np.log10(room))
    length = next(step * power for step in _ROUND if step * power <= room)
    share = length * meters_per_unit / width
    return ScaleBar(float(share), f"{length:g} {unit_name(meters_per_unit)}")
