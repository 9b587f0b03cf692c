"""A sample of the points of a file that copies of these points share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.crs import meters_per_unit
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.layout import dimensions_of
from vl3d_lite.clouds.points import read_records
from vl3d_lite.system import safe_point

SAMPLED_POINTS = 20_000  # at least, of a file that has as many
_STEP = 1e-3  # meters; points of equal coordinates in these steps are the same
_ODD = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


@dataclass(frozen=True, eq=False)
class PointSample:
    """Points that are chosen by their coordinates, and so in every copy alike.

    Args:
        keys: ``(m,)`` uint64, one per place; equal for points at the same place.
        xy: ``(m, 2)`` float64, meters.
        one_in: Number of points of the file for each chosen one; a power of 2.
    """

    keys: np.ndarray
    xy: np.ndarray
    one_in: int

    def thinned(self, one_in: int) -> "PointSample":
        """The sample that a larger file takes of the same points."""
        chosen = _chosen(self.keys, one_in)
        return PointSample(self.keys[chosen], self.xy[chosen], max(one_in, self.one_in))


def sample_points(path: Path, unit: str | None = None) -> PointSample:
    """Sample at least 20,000 points of a file, chosen by their coordinates.

    Args:
        path: LAS or LAZ file.
        unit: The unit of its coordinates, if it is not that of its header.

    Raises:
        DataError: The file cannot be used.
    """
    header = read_header(path)
    factors = meters_per_unit(header, unit)
    layout = dimensions_of(header)
    axes = [layout[axis] for axis in "XYZ"]
    one_in = 1
    while header.point_count >= 2 * one_in * SAMPLED_POINTS:
        one_in *= 2
    found = []
    for _, records in read_records(header, frozenset("XYZ")):
        safe_point()
        stored = np.stack([axis.values(records) for axis in axes], axis=1)
        xyz = (stored * header.scales + header.offsets) * factors
        keys = _keys(xyz)
        chosen = _chosen(keys, one_in)
        found.append((keys[chosen], xyz[chosen, :2]))
    keys = np.concatenate([np.empty(0, np.uint64), *(keys for keys, _ in found)])
    xy = np.concatenate([np.empty((0, 2)), *(xy for _, xy in found)])
    keys, first = np.unique(keys, return_index=True)
    return PointSample(keys, xy[first], one_in)


def _keys(xyz: np.ndarray) -> np.ndarray:
    """``(n,)`` uint64 hash of the coordinates in millimeters."""
    with np.errstate(invalid="ignore"):  # coordinates beyond int64 share a key
        steps = np.rint(xyz / _STEP).astype(np.int64).view(np.uint64)
    keys = np.zeros(len(xyz), np.uint64)
    for axis, odd in zip(steps.T, _ODD, strict=True):
        keys = (keys ^ axis) * np.uint64(odd)
        keys ^= keys >> np.uint64(29)
    return keys


def _chosen(keys: np.ndarray, one_in: int) -> np.ndarray:
    # The high bits depend on all bits of the coordinates.
    return keys >> np.uint64(32) & np.uint64(one_in - 1) == 0
