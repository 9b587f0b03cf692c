"""Units of length of coordinates, and the frame in which a cloud is computed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Meters in one unit, under the names of `clouds.unit`.
UNITS: Mapping[str, float] = {
    "m": 1.0,
    "ft": 0.3048,
    "us-ft": 1200 / 3937,
    "cm": 0.01,
    "mm": 0.001,
}
# ft and us-ft differ by 2e-6; the databases of pyproj round to 15 digits.
_SAME = 1e-8


def same_unit(one: float, other: float) -> bool:
    """Whether two units, in meters, are the same but for rounding."""
    return bool(np.isclose(one, other, rtol=_SAME, atol=0))


def unit_name(meters: float) -> str:
    """Name of a unit of length, such as "us-ft"; its size where it has none.

    Args:
        meters: Meters in one unit, positive.
    """
    for name, size in UNITS.items():
        if same_unit(meters, size):
            return name
    return f"{meters:.6g} m"


def units_text(horizontal: float, vertical: float) -> str:
    """Units of the axes, such as "us-ft" or "us-ft, heights in m".

    Args:
        horizontal: Meters in one unit of x and y.
        vertical: Meters in one unit of z.
    """
    name = unit_name(horizontal)
    if same_unit(horizontal, vertical):
        return name
    return f"{name}, heights in {unit_name(vertical)}"


@dataclass(frozen=True, eq=False)
class Frame:
    """The place of a cloud in its file: every origin is added here.

    Args:
        origin: ``(3,)`` float64, meters: the world coordinates of local zero.
        meters_per_unit: ``(3,)`` float64, meters in one unit of x, y and z of the
            file.
        crs: Name of the reference system; empty where the file has none.
    """

    origin: np.ndarray
    meters_per_unit: np.ndarray
    crs: str = ""

    @classmethod
    def local(cls) -> "Frame":
        """A frame in meters without a place."""
        return cls(np.zeros(3), np.ones(3))

    def coordinates(self, local: np.ndarray) -> np.ndarray:
        """Coordinates in the file's own unit, ``(..., 3)`` float64.

        Args:
            local: ``(..., 3)`` meters from `origin`.
        """
        return (local + self.origin) / self.meters_per_unit

    def to_local(self, coordinates: np.ndarray) -> np.ndarray:
        """Meters from `origin`, ``(..., 3)`` float64, of coordinates of the file."""
        return coordinates * self.meters_per_unit - self.origin

    @property
    def unit(self) -> str:
        """Unit of x and y, such as "us-ft"."""
        return unit_name(float(self.meters_per_unit[0]))

    @property
    def units(self) -> str:
        """Units of all axes, such as "us-ft" or "us-ft, heights in m"."""
        return units_text(*self.meters_per_unit[[0, 2]].tolist())
