"""Read point records in chunks."""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import lazrs
import numpy as np

from vl3d_lite.clouds.header import LASZIP, FileHeader
from vl3d_lite.clouds.layout import standard_length
from vl3d_lite.clouds.laz_process import decompressing
from vl3d_lite.clouds.laz_worker import Job, is_short, problem_of
from vl3d_lite.errors import DataError

# A chunk of LAS fits the cache of a processor. LAZ is compressed in chunks of 50,000
# points; ten of them are decompressed in parallel.
LAS_CHUNK = 100_000
LAZ_CHUNK = 500_000
SPAN = 50_000
# Layers of a chunk without extra bytes, which add one each (LASzip version 3).
LAYERS = {6: 9, 7: 10, 8: 11, 9: 10, 10: 12}

_LAYERS = {
    "Z": lazrs.SELECTIVE_DECOMPRESS_Z,
    "intensity": lazrs.SELECTIVE_DECOMPRESS_INTENSITY,
    "classification": lazrs.SELECTIVE_DECOMPRESS_CLASSIFICATION,
    "scan_angle": lazrs.SELECTIVE_DECOMPRESS_SCAN_ANGLE,
    "user_data": lazrs.SELECTIVE_DECOMPRESS_USER_DATA,
    "point_source_id": lazrs.SELECTIVE_DECOMPRESS_POINT_SOURCE_ID,
    "gps_time": lazrs.SELECTIVE_DECOMPRESS_GPS_TIME,
    "red": lazrs.SELECTIVE_DECOMPRESS_RGB,
    "green": lazrs.SELECTIVE_DECOMPRESS_RGB,
    "blue": lazrs.SELECTIVE_DECOMPRESS_RGB,
    "nir": lazrs.SELECTIVE_DECOMPRESS_NIR,
    **dict.fromkeys(
        (
            "synthetic",
            "key_point",
            "withheld",
            "overlap",
            "scan_direction_flag",
            "edge_of_flight_line",
        ),
        lazrs.SELECTIVE_DECOMPRESS_FLAGS,
    ),
}
_BASE_LAYER = frozenset(
    ("X", "Y", "return_number", "number_of_returns", "scanner_channel")
)


Spans = Sequence[tuple[int, int]]  # first point and the one after the last


def spread_spans(points: int, most: int) -> Spans:
    """Spans of points that are spread evenly over a file.

    Args:
        points: Points of the file.
        most: Points of all spans together; a span has at most 50,000, the usual
            chunk of LAZ.

    Returns:
        A single span where the file has at most that many points.
    """
    if points <= most:
        return [(0, points)]
    count = -(-most // SPAN)
    length = most // count
    # Starts of chunks: the decompressor has to begin there anyway.
    steps = (points - length) / max(count - 1, 1)
    starts = sorted({round(number * steps) // SPAN * SPAN for number in range(count)})
    return [(start, min(start + length, points)) for start in starts]


def read_records(
    header: FileHeader,
    names: frozenset[str] | None = None,
    spans: Spans | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Read the point records of a file in chunks.

    Args:
        header: The header from `read_header`.
        names: The dimensions that are needed; None for all. The bytes of other
            dimensions are undefined, since LAZ layers are skipped.
        spans: The points to read, in order; by default all.

    Yields:
        The index of the first point, and ``(m, record length)`` uint8. The next
        step overwrites the array.

    Raises:
        DataError: The points cannot be read.
    """
    if spans is None:
        spans = [(0, header.point_count)]
    if header.compressed:
        return _unpack(header, names, spans)
    return _read(header, spans)


def _read(header: FileHeader, spans: Spans) -> Iterator[tuple[int, np.ndarray]]:
    size = min(LAS_CHUNK, header.point_count)
    buffer = np.empty((size, header.record_length), np.uint8)
    with open(header.path, "rb", buffering=0) as file:
        for start, count in _steps(spans, size):
            file.seek(header.data_start + start * header.record_length)
            records = buffer[:count]
            view = memoryview(cast(Any, records)).cast("B")
            while len(view):
                count = _system_read(header, file, view)
                view = view[count:]
            yield start, records


def _steps(spans: Spans, size: int) -> Iterator[tuple[int, int]]:
    """First point and number of points of each chunk of at most `size`."""
    for first, stop in spans:
        for start in range(first, stop, size):
            yield start, min(size, stop - start)


def _system_read(header: FileHeader, file: io.FileIO, view: memoryview) -> int:
    try:
        count = file.readinto(view)
    except OSError as error:
        raise _unreadable(header, error.strerror) from error
    if not count:
        raise _unreadable(header, "it ended while it was read")
    return count


def _unpack(
    header: FileHeader, names: frozenset[str] | None, spans: Spans
) -> Iterator[tuple[int, np.ndarray]]:
    size, length = min(LAZ_CHUNK, header.point_count), header.record_length
    with open(header.path, "rb") as file, ExitStack() as stack:
        most = max(os.fstat(file.fileno()).st_size, header.point_count * length)
        with _laz_errors(header):
            memory, read = stack.enter_context(
                decompressing(file, _job(header, names), size * length, most)
            )
        buffer = np.frombuffer(memory, np.uint8).reshape(size, length)
        for start, count in _steps(spans, size):
            with _laz_errors(header):
                read(start, count)
            yield start, buffer[:count]


def _job(header: FileHeader, names: frozenset[str] | None) -> Job:
    layers = LAYERS.get(header.point_format, 0)
    if layers:
        layers += header.record_length - standard_length(header.point_format)
    return {
        "record": (header.data(LASZIP) or b"").hex(),
        "start": header.data_start,
        "record_length": header.record_length,
        "layers": layers,
        "selection": _layers(names),
    }


def _layers(names: frozenset[str] | None) -> int:
    if names is None:
        return lazrs.SELECTIVE_DECOMPRESS_ALL
    layers = lazrs.SELECTIVE_DECOMPRESS_XY_RETURNS_CHANNEL
    for name in names - _BASE_LAYER:
        # Extra dimensions and waveforms are rare: any of them selects all of them.
        layers |= _LAYERS.get(
            name,
            lazrs.SELECTIVE_DECOMPRESS_ALL_EXTRA_BYTES
            | lazrs.SELECTIVE_DECOMPRESS_WAVEPACKET,
        )
    return layers


@contextmanager
def _laz_errors(header: FileHeader) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if (problem := problem_of(error)) is not None:
            raise _unreadable(header, problem) from error
        if is_short(error):
            raise MemoryError from error
        raise


def _unreadable(header: FileHeader, problem: str | None) -> DataError:
    return DataError(
        f"{header.path}: the points cannot be read ({problem}); the file is cut short "
        "or damaged. Download or copy the file again."
    )
