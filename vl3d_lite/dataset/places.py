"""Where clouds lie: their reference system and their extent, coarsely."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from vl3d_lite.clouds import read_crs, read_header

FAR = 50_000.0  # m; beyond it, towns, plants and flights are most likely others
COARSE = 1000.0  # units of the file, to which extents are rounded outwards

Corner = tuple[float, float]


class Place(BaseModel):
    """An area that clouds of one reference system lie in.

    Attributes:
        system: Code of the horizontal system, such as ``EPSG:2154``, or else its name;
            empty where a file names none.
        unit: Meters in one unit of x and y.
        low: Least x and y in units of the file, rounded down to whole thousands.
        high: Largest x and y, rounded up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    unit: float
    low: Corner
    high: Corner

    def distance(self, other: "Place") -> float:
        """Meters between two places; infinite where their systems differ.

        Files without a system are compared by their coordinates: where these are far
        from each other, either the places are, or the systems differ.
        """
        if self.system != other.system:
            return float("inf")
        gaps = np.maximum(
            np.subtract(self.low, other.high), np.subtract(other.low, self.high)
        )
        return float(np.hypot(*np.maximum(gaps, 0.0))) * self.unit


def place_of(path: Path, unit: str | None = None) -> Place:
    """The place of a cloud, from its header.

    Args:
        path: LAS or LAZ file.
        unit: A name of `UNITS`, which replaces the unit of the file.

    Raises:
        DataError: The header cannot be used.
    """
    header = read_header(path)
    crs = read_crs(header, unit)
    low = np.floor(header.extent[0, :2] / COARSE) * COARSE
    high = np.ceil(header.extent[1, :2] / COARSE) * COARSE
    return Place(
        system=crs.plane,
        unit=crs.horizontal,
        low=(float(low[0]), float(low[1])),
        high=(float(high[0]), float(high[1])),
    )


def joined(places: Iterable[Place]) -> list[Place]:
    """Places of which those that are not far from each other are one."""
    result: list[Place] = []
    for place in places:
        near = [one for one in result if one.distance(place) <= FAR]
        result = [one for one in result if one not in near]
        group = [place, *near]
        low = np.min([one.low for one in group], axis=0)
        high = np.max([one.high for one in group], axis=0)
        update = {
            "low": (float(low[0]), float(low[1])),
            "high": (float(high[0]), float(high[1])),
        }
        result.append(place.model_copy(update=update))
    return sorted(result, key=lambda one: (one.system, one.low))
