"""Read LAS and LAZ files."""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.crs import Crs, factors, read_crs
from vl3d_lite.clouds.exclusion import CODE, Exclusion
from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.labeling import Labeling
from vl3d_lite.clouds.layout import Dimension, dimensions_of
from vl3d_lite.clouds.points import Spans, read_records, spread_spans
from vl3d_lite.errors import DataError, ResourceError

Progress = Callable[[int, int], None]


def read_las(
    path: str | Path,
    *,
    dimensions: Sequence[str] = (),
    class_codes: Mapping[str, Sequence[int]] | None = None,
    label_dimension: str = CODE,
    ignored: Sequence[str] = (),
    excluded: Exclusion | None = None,
    finite: bool = True,
    nan_missing: Collection[str] = (),
    unit: str | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> PointCloud:
    """Read a LAS or LAZ file: coordinates in meters, dimensions and class indices.

    Args:
        path: The file.
        dimensions: LAS or extra dimensions to read; ``name[0]`` is the first element
            of an extra dimension of several. Scaled ones and whole numbers with a
            declared no-data (NaN) are float64; the others keep their stored type.
        class_codes: Class names, in order, to codes; others have the index -1.
        label_dimension: Holds the codes; a file without it has no labels.
        ignored: Flags; a point with one of them has the index -1. Point formats 0 to
            5 lack `overlap`: there no point has it.
        excluded: Points to mark; index -1, values unchecked, coordinates any sign.
        finite: Whether values that are not finite are an error.
        nan_missing: Dimensions whose NaN is a missing value, as declared no-data is.
        unit: "m", "ft", "us-ft", "cm" or "mm"; by default that of the CRS, or m.
        most: Read at most so many points, spread over the file in even spans.
        progress: Called after each chunk with the points read and all points.

    Returns:
        The points in the order of the file.

    Raises:
        DataError: The file cannot be used (see `read_header`), lacks a dimension or
            holds a value that is not finite; or all points are excluded.
        ResourceError: The cloud does not fit in memory.

    Example:
        >>> import vl3d_lite
        >>> cloud = vl3d_lite.read_las("scan.laz", dimensions=["intensity"])
        >>> cloud.xyz.shape, cloud.attributes["intensity"].dtype
        ((6000, 3), dtype('uint16'))
    """
    header = read_header(path)
    crs = read_crs(header, unit)
    meters = factors(crs, header, unit)
    wanted = _pick(header, dimensions)
    spans = spread_spans(header.point_count, most or header.point_count)
    check = _FiniteCheck(header, finite, frozenset(nan_missing))
    labeling = Labeling(header, class_codes, ignored, excluded, label_dimension)
    with _memory_errors(header, wanted):
        cloud = _read(header, meters, wanted, labeling, check, spans, progress)
    declared = (d.name for d in wanted if d.no_data is not None)
    return replace(cloud, crs=crs.name, missing=check.nan_missing.union(declared))


@contextlib.contextmanager
def _memory_errors(header: FileHeader, wanted: Sequence[Dimension]) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        need = header.point_count * (28 + sum(d.value_dtype.itemsize for d in wanted))
        raise ResourceError(
            f"{header.path}: {header.point_count} points need {need / 2**30:.1f} GiB "
            "of memory. Split the file into tiles or use a machine with more memory."
        ) from error


@dataclass(frozen=True, eq=False)
class LasSummary:
    """Summary of a LAS file.

    Args:
        path: The file.
        version: Such as "1.4".
        point_format: 0 to 10.
        compressed: Whether it is LAZ.
        points: Number of points.
        dimensions: Names of all dimensions, in the order of the record.
        extra_dimensions: Names of the extra ones among them.
        scales: ``(3,)`` file units per integer step.
        offsets: ``(3,)`` file units.
        extent: ``(2, 3)`` minimum and maximum as the header has them, file units.
        crs: Name and units of the reference system.
        code_counts: Code to number of points; None where they were not counted.
    """

    path: Path
    version: str
    point_format: int
    compressed: bool
    points: int
    dimensions: tuple[str, ...]
    extra_dimensions: tuple[str, ...]
    scales: np.ndarray
    offsets: np.ndarray
    extent: np.ndarray
    crs: Crs
    code_counts: dict[int, int] | None


def describe_las(
    path: Path,
    *,
    count_codes: bool = False,
    label_dimension: str = CODE,
    ignored: Sequence[str] = (),
    excluded: Exclusion | None = None,
    unit: str | None = None,
) -> LasSummary:
    """Summarize a LAS or LAZ file. Points are read only to count codes.

    Args:
        path: The file.
        count_codes: Whether to count the points of each code.
        label_dimension: The dimension that holds the codes.
        ignored: Flags whose points are not counted.
        excluded: Further points that are not counted.
        unit: Unit of the coordinates, as in `read_las`.

    Raises:
        DataError: The file cannot be used.
    """
    header = read_header(path)
    layout = dimensions_of(header)
    counts = None
    if count_codes:
        _pick(header, [label_dimension])
        labeling = Labeling(header, {"any": []}, ignored, excluded, label_dimension)
        counts = _count_codes(header, labeling)
    return LasSummary(
        path=header.path,
        version="{}.{}".format(*header.version),
        point_format=header.point_format,
        compressed=header.compressed,
        points=header.point_count,
        dimensions=tuple(layout),
        extra_dimensions=tuple(name for name, d in layout.items() if d.extra),
        scales=header.scales,
        offsets=header.offsets,
        extent=header.extent,
        crs=read_crs(header, unit),
        code_counts=counts,
    )


def _pick(header: FileHeader, names: Sequence[str]) -> list[Dimension]:
    layout = dimensions_of(header)
    for name in names:
        if name not in layout:
            raise DataError(
                f"{header.path}: no dimension `{name}`. It has: {', '.join(layout)}"
            )
    return [layout[name] for name in dict.fromkeys(names)]


def _read(
    header: FileHeader,
    meters: np.ndarray,
    wanted: list[Dimension],
    labeling: Labeling,
    check: "_FiniteCheck",
    spans: Spans,
    progress: Progress | None,
) -> PointCloud:
    layout = dimensions_of(header)
    axes = [layout[axis] for axis in "XYZ"]
    names = {d.name for d in (*axes, *wanted)} | labeling.names

    total, done = sum(stop - start for start, stop in spans), 0
    local = np.empty((total, 3))
    attributes = {d.name: np.empty(total, d.value_dtype) for d in wanted}
    labels = np.empty(total, np.int32)
    excluded = np.empty(total, bool)
    smallest = np.full(3, np.inf)
    for start, records in read_records(header, frozenset(names), spans):
        here = slice(done, done + len(records))
        done = here.stop
        labels[here], excluded[here] = labeling.labels(records, start)
        kept = ~excluded[here]
        for axis, dimension in enumerate(axes):
            local[here, axis] = steps = dimension.values(records)
            # The origin does not depend on excluded points, such as low noise.
            lowest = steps.min(where=kept, initial=np.iinfo(steps.dtype).max)
            smallest[axis] = min(smallest[axis], lowest)
        for dimension in wanted:
            values = dimension.values(records)
            check(dimension, values, records, kept, start)
            attributes[dimension.name][here] = values
        if progress is not None:
            progress(here.stop, total)
    if excluded.all():
        raise DataError(
            f"{header.path}: all {total:,} points are excluded ({labeling.excluded}). "
            "Correct `excluded_points` or leave the file out."
        )

    # Integers up to 2^32 are exact in float64, and so are their differences.
    local -= smallest
    local *= header.scales * meters
    return PointCloud(
        local=local,
        origin=(smallest * header.scales + header.offsets) * meters,
        meters_per_unit=meters,
        attributes=attributes,
        labels=labels,
        name=header.path.name,
        excluded=excluded if excluded.any() else None,
    )


@dataclass(frozen=True)
class _FiniteCheck:
    """Refuses values that are not finite."""

    header: FileHeader
    enabled: bool
    nan_missing: frozenset[str]

    def __call__(
        self,
        dimension: Dimension,
        values: np.ndarray,
        records: np.ndarray,
        kept: np.ndarray,
        start: int,
    ) -> None:
        """Check the values of the `kept` records, but those that are no-data."""
        if not self.enabled or values.dtype.kind != "f":
            return
        odd = ~np.isfinite(values) & kept
        if not odd.any():
            return
        odd &= ~dimension.is_no_data(records)
        remedy = "Repair the file or leave the dimension out."
        if dimension.name in self.nan_missing:
            odd &= ~np.isnan(values)
        elif np.isnan(values[odd]).any():
            remedy += (
                " If NaN stands for a missing value, set `nan: missing` in the feature."
            )
        if not odd.any():
            return
        first = int(np.argmax(odd))
        raise DataError(
            f"{self.header.path}: point {start + first} has {values[first]} in "
            f"dimension `{dimension.name}`, expected a finite number. {remedy}"
        )


def _count_codes(header: FileHeader, labeling: Labeling) -> dict[int, int]:
    counts: Counter[int] = Counter()
    for start, records in read_records(header, frozenset(labeling.names)):
        codes, counted = labeling.codes(records, start)
        found, numbers = np.unique(codes[counted], return_counts=True)
        counts.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
    return dict(sorted(counts.items()))
