"""Read LAS and LAZ files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.crs import Crs, factors, read_crs
from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.layout import Dimension, dimensions_of
from vl3d_lite.clouds.points import Spans, read_records, spread_spans
from vl3d_lite.errors import DataError, ResourceError

Progress = Callable[[int, int], None]


def read_las(
    path: str | Path,
    *,
    dimensions: Sequence[str] = (),
    class_codes: Mapping[str, Sequence[int]] | None = None,
    ignored: Sequence[str] = (),
    finite: bool = True,
    unit: str | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> PointCloud:
    """Read a LAS or LAZ file: coordinates in meters, dimensions and class indices.

    Args:
        path: The file.
        dimensions: LAS or extra dimensions to read; ``name[0]`` is the first element
            of an extra dimension of several. Scaled extra dimensions are float64
            values; the others keep their stored type.
        class_codes: Class names, in the order of their indices, to LAS codes. Other
            codes have the index -1, as all have without `class_codes`.
        ignored: Flags; a point with one of them has the index -1. Point formats 0 to
            5 lack `overlap`: there no point has it.
        finite: Whether values that are not finite are an error.
        unit: Unit of the coordinates, "m", "ft", "us-ft", "cm" or "mm"; by default
            that of the file's reference system, or meters.
        most: Read no more points than this, in spans spread evenly over the file.
        progress: Called after each chunk with the points read and all points.

    Returns:
        The points in the order of the file.

    Raises:
        DataError: The file cannot be used (see `read_header` and `meters_per_unit`),
            lacks a dimension, or holds a value that is not finite.
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
    try:
        cloud = _read(
            header, meters, wanted, class_codes, ignored, finite, spans, progress
        )
    except MemoryError as error:
        need = header.point_count * (28 + sum(d.value_dtype.itemsize for d in wanted))
        raise ResourceError(
            f"{header.path}: {header.point_count} points need {need / 2**30:.1f} GiB "
            "of memory. Split the file into tiles or use a machine with more memory."
        ) from error
    cloud.crs = crs.name
    return cloud


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
        code_counts: LAS code to number of points; None where they were not counted.
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
    ignored: Sequence[str] = (),
    unit: str | None = None,
) -> LasSummary:
    """Summarize a LAS or LAZ file. Points are read only to count codes.

    Args:
        path: The file.
        count_codes: Whether to count the points of each code.
        ignored: Flags whose points are not counted.
        unit: Unit of the coordinates, as in `read_las`.

    Raises:
        DataError: The file cannot be used.
    """
    header = read_header(path)
    layout = dimensions_of(header)
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
        code_counts=_count_codes(header, ignored) if count_codes else None,
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
    class_codes: Mapping[str, Sequence[int]] | None,
    ignored: Sequence[str],
    finite: bool,
    spans: Spans,
    progress: Progress | None,
) -> PointCloud:
    layout = dimensions_of(header)
    axes = [layout[axis] for axis in "XYZ"]
    code = layout["classification"]
    index_of_code = _class_indices(class_codes)
    flags = [layout[name] for name in ignored if name in layout] if class_codes else []
    names = {d.name for d in (*axes, *wanted, *flags)}
    names |= {code.name} if class_codes else set()

    total, done = sum(stop - start for start, stop in spans), 0
    local = np.empty((total, 3))
    attributes = {d.name: np.empty(total, d.value_dtype) for d in wanted}
    labels = np.full(total, -1, np.int32)
    smallest = np.full(3, np.inf)
    for start, records in read_records(header, frozenset(names), spans):
        here = slice(done, done + len(records))
        done = here.stop
        for axis, dimension in enumerate(axes):
            steps = dimension.values(records)
            local[here, axis] = steps
            smallest[axis] = min(smallest[axis], steps.min())
        for dimension in wanted:
            values = dimension.values(records)
            if finite:
                _check_finite(header, dimension, values, start)
            attributes[dimension.name][here] = values
        if class_codes:
            labels[here] = index_of_code[code.values(records)]
        for flag in flags:
            labels[here][flag.values(records) != 0] = -1
        if progress is not None:
            progress(here.stop, total)

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
    )


def _class_indices(class_codes: Mapping[str, Sequence[int]] | None) -> np.ndarray:
    indices = np.full(256, -1, np.int32)
    for index, codes in enumerate((class_codes or {}).values()):
        indices[list(codes)] = index
    return indices


def _check_finite(
    header: FileHeader, dimension: Dimension, values: np.ndarray, start: int
) -> None:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    first = int(np.argmin(np.isfinite(values)))
    raise DataError(
        f"{header.path}: point {start + first} has {values[first]} in dimension "
        f"`{dimension.name}`, expected a finite number. Repair the file or leave the "
        "dimension out."
    )


def _count_codes(header: FileHeader, ignored: Sequence[str]) -> dict[int, int]:
    layout = dimensions_of(header)
    code = layout["classification"]
    flags = [layout[name] for name in ignored if name in layout]
    counts = np.zeros(256, np.int64)
    for _, records in read_records(header, frozenset(d.name for d in (code, *flags))):
        counted = np.ones(len(records), bool)
        for flag in flags:
            counted &= flag.values(records) == 0
        counts += np.bincount(code.values(records)[counted], minlength=256)
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts)}
