"""Clouds that share points or a place, although they should be independent."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import (
    PointSample,
    factors,
    read_crs,
    read_header,
    sample_points,
)
from vl3d_lite.dataset.known_facts import Kind, recall
from vl3d_lite.errors import DataError
from vl3d_lite.geometry import square_of_point
from vl3d_lite.system import CacheFolder, cached_hash, safe_point

# Adjacent tiles share points on their border line: 1 in 1000 of a square tile.
SHARED_POINTS = 0.005
FEWEST_SHARED = 3  # sampled points
# Adjacent strips share squares along their border: about 1 in 35 of a strip.
SHARED_PLACE = 0.05
POINTS_PER_SQUARE = 16  # of the squares that show which land a sample covers
FEWEST_IN_SQUARE = 4
MOST_LISTED = 10  # clouds of a group; the others are counted

SAMPLE: Kind[PointSample] = Kind(
    "sample of points",
    pack=lambda one: ({"one_in": one.one_in}, {"keys": one.keys, "xy": one.xy}),
    unpack=lambda record, arrays: PointSample(
        arrays["keys"], arrays["xy"], record["one_in"]
    ),
)

_Measured = tuple[Path, str | None]  # a cloud, and the unit of its coordinates


@dataclass(frozen=True)
class Overlap:
    """Two clouds that are not independent of each other.

    Args:
        path: The cloud that should be independent.
        other: The cloud that it should be independent of.
        kind: ``content``: equal bytes; ``points``: points at the same places;
            ``place``: the same land, seen by other points.
        share: Share of the smaller of both.
    """

    path: Path
    other: Path
    kind: str
    share: float = 1.0

    def text(self, other: str) -> str:
        """A predicate of the cloud, such as "has the content of ...".

        Args:
            other: The other cloud in words.
        """
        if self.kind == "content":
            return f"has the same content as {other}"
        if self.kind == "points":
            return f"shares points ({self.share:.1%} of the smaller one) with {other}"
        return f"covers land ({self.share:.1%} of the smaller one) of {other}"


@dataclass(frozen=True, eq=False)
class Extent:
    """Where a cloud lies, by its header.

    Args:
        corners: ``(2, 3)`` float64, minimum and maximum in meters.
        crs: Name of the reference system; empty where the file has none.
    """

    corners: np.ndarray
    crs: str

    def overlaps(self, other: "Extent") -> bool:
        """Whether both boxes share more than a face."""
        low = np.maximum(self.corners[0], other.corners[0])
        high = np.minimum(self.corners[1], other.corners[1])
        flat = np.any([np.ptp(e.corners, axis=0) == 0 for e in (self, other)], axis=0)
        flat[2] = True  # tiles of a plain may touch in height alone
        return bool(np.all((high > low) | (high == low) & flat))

    def shared_area(self, other: "Extent") -> float:
        """Share of the smaller box, from above, that lies in the other one."""
        low = np.maximum(self.corners[0], other.corners[0])[:2]
        high = np.minimum(self.corners[1], other.corners[1])[:2]
        areas = [np.prod(np.ptp(e.corners[:, :2], axis=0)) for e in (self, other)]
        return float(np.prod(np.maximum(high - low, 0)) / max(min(areas), 1e-6))


def read_extent(path: Path, unit: str | None = None) -> Extent:
    """The extent of a cloud from its header.

    Args:
        path: LAS or LAZ file.
        unit: The unit of its coordinates, if it is not that of its header.

    Raises:
        DataError: The file cannot be used.
    """
    header = read_header(path)
    crs = read_crs(header, unit)
    return Extent(header.extent * factors(crs, header, unit), crs.name)


class OverlapFinder:
    """Compares clouds by their bytes, their extents and samples of their points.

    A file is hashed only if another one has as many bytes, and its points are read
    only if its extent overlaps that of another one.

    Args:
        unit: The unit of coordinates (`clouds.unit`), or None.
        cache: Where hashes and samples of earlier commands are stored.
    """

    def __init__(
        self, unit: str | None = None, cache: CacheFolder | None = None
    ) -> None:
        self._unit, self._cache = unit, cache
        self._real: dict[Path, Path] = {}
        self._sizes: dict[Path, int] = {}
        self._hashes: dict[Path, str] = {}
        self._samples: dict[_Measured, PointSample] = {}
        self._extents: dict[_Measured, Extent] = {}
        self._unusable: set[Path] = set()

    def find(
        self,
        paths: Sequence[Path],
        others: Sequence[Path],
        units: tuple[str | None, str | None] | None = None,
    ) -> list[Overlap]:
        """The overlaps of clouds with other clouds; each pair at most once.

        A cloud that cannot be read has none: whatever uses it names the error.

        Args:
            paths: The clouds.
            others: The other clouds.
            units: The units of the coordinates of both, if they are not `unit`.
        """
        pairs = itertools.product(dict.fromkeys(paths), dict.fromkeys(others))
        units = units or (self._unit, self._unit)
        return [found for pair in pairs if (found := self._find_one(pair, units))]

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file, computed once."""
        if path not in self._hashes:
            self._hashes[path] = cached_hash(path, self._cache)
        return self._hashes[path]

    def _find_one(
        self, pair: tuple[Path, Path], units: tuple[str | None, str | None]
    ) -> Overlap | None:
        safe_point()
        if self._unusable.intersection(pair):
            return None
        try:
            return self._compare(*zip(pair, units, strict=True))
        except (DataError, OSError):
            self._unusable |= {one for one in pair if not _readable(one)}
            return None

    def _compare(self, one: _Measured, two: _Measured) -> Overlap | None:
        path, other = one[0], two[0]
        same = self._real_path(path) == self._real_path(other)
        if not same and self._size(path) == self._size(other):
            same = self.sha256(path) == self.sha256(other)
        if same:
            return Overlap(path, other, "content")
        extent, extent2 = self._extent(one), self._extent(two)
        if not extent.overlaps(extent2):
            return None
        sample, sample2 = self._sample(one), self._sample(two)
        one_in = max(sample.one_in, sample2.one_in)
        sample, sample2 = sample.thinned(one_in), sample2.thinned(one_in)
        smaller = max(min(len(sample.keys), len(sample2.keys)), 1)
        shared = len(np.intersect1d(sample.keys, sample2.keys, assume_unique=True))
        if shared >= max(FEWEST_SHARED, SHARED_POINTS * smaller):
            return Overlap(path, other, "points", shared / smaller)
        # Without a reference system two scans may have the same local coordinates.
        if extent.crs and extent.crs == extent2.crs:
            share = _shared_squares(sample.xy, sample2.xy)
            if share >= SHARED_PLACE:
                return Overlap(path, other, "place", share)
        return None

    def _real_path(self, path: Path) -> Path:
        if path not in self._real:
            self._real[path] = path.resolve()
        return self._real[path]

    def _size(self, path: Path) -> int:
        if path not in self._sizes:
            self._sizes[path] = path.stat().st_size
        return self._sizes[path]

    def _extent(self, cloud: _Measured) -> Extent:
        if cloud not in self._extents:
            self._extents[cloud] = read_extent(*cloud)
        return self._extents[cloud]

    def _sample(self, cloud: _Measured) -> PointSample:
        if cloud not in self._samples:
            self._samples[cloud], _ = recall(
                self._cache,
                SAMPLE,
                cloud[0],
                cloud[1],
                lambda: sample_points(*cloud),
            )
        return self._samples[cloud]


def _readable(path: Path) -> bool:
    try:
        read_header(path)
    except DataError:
        return False
    return True


def _shared_squares(one: np.ndarray, two: np.ndarray) -> float:
    """Share of the squares with points of the smaller sample that have others' too."""
    if not (len(one) and len(two)):
        return 0.0
    area = max(float(np.prod(np.ptp(xy, axis=0))) for xy in (one, two))
    edge = max(np.sqrt(area * POINTS_PER_SQUARE / min(len(one), len(two))), 1e-3)
    numbers = square_of_point(np.concatenate([one, two]), edge)
    numbers = np.unique(numbers, return_inverse=True)[1]
    size = numbers.max() + 1
    covered = [
        np.bincount(part, minlength=size) >= FEWEST_IN_SQUARE
        for part in (numbers[: len(one)], numbers[len(one) :])
    ]
    both = int(np.count_nonzero(covered[0] & covered[1]))
    smaller = min(int(np.count_nonzero(part)) for part in covered)
    return both / max(smaller, 1)


_NAMES = {"train": "training", "validation": "validation", "predict": "predict"}
# What a cloud is for, what it should be independent of, and what follows if it is not.
_CONSEQUENCES = {
    ("validation", "train"): (
        "validation scores, the choice of the best epoch and the calibration will be "
        "optimistically biased; remove one of them"
    ),
    ("predict", "train"): (
        "the network learns it, so its scores will be optimistically biased; test on "
        "other clouds"
    ),
    ("predict", "validation"): (
        "it chooses the epoch and fits the temperature, so its scores will be "
        "optimistically biased; test on other clouds"
    ),
}


def overlap_warnings(
    clouds: Mapping[str, Sequence[Path]],
    unit: str | None = None,
    cache: CacheFolder | None = None,
) -> Iterator[str]:
    """Name the clouds of a spec that are not independent, and what follows.

    Args:
        clouds: The clouds of ``train``, ``validation`` and ``predict``.
        unit: The unit of their coordinates, if it is not that of their headers.
        cache: Where hashes and samples of earlier commands are stored.
    """
    finder = OverlapFinder(unit, cache)
    for (use, other), consequence in _CONSEQUENCES.items():
        found = finder.find(clouds.get(use, ()), clouds.get(other, ()))
        by_path = itertools.groupby(found, lambda overlap: overlap.path)
        sentences = [
            f"{path}: this {_NAMES[use]} cloud {_predicate(list(same), other)}: "
            f"{consequence}"
            for path, same in by_path
        ]
        yield from sentences[:MOST_LISTED]
        if len(sentences) > MOST_LISTED:
            yield (
                f"{len(sentences) - MOST_LISTED} more {_NAMES[use]} clouds are not "
                f"independent of the {_NAMES[other]} clouds"
            )


def _predicate(found: Sequence[Overlap], other: str) -> str:
    worst = max(found, key=lambda overlap: (overlap.kind == "content", overlap.share))
    if worst.path.resolve() == worst.other.resolve():
        return f"is also in `clouds.{other}`"
    text = worst.text(f"the {_NAMES[other]} cloud {worst.other}")
    return text + (f" and {len(found) - 1} more" if len(found) > 1 else "")
