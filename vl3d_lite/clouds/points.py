"""Read point records in chunks."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import lazrs
import numpy as np

from vl3d_lite.clouds.header import LASZIP, FileHeader
from vl3d_lite.clouds.layout import standard_length
from vl3d_lite.errors import DataError

# A chunk of LAS fits the cache of a processor. LAZ is compressed in chunks of 50,000
# points; ten of them are decompressed in parallel.
LAS_CHUNK = 100_000
LAZ_CHUNK = 500_000
SPAN = 50_000
# The parallel decompressor holds a whole LAZ chunk for each of its calls.
LARGEST_LAZ_CHUNK = 5_000_000
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
    size = min(LAZ_CHUNK, header.point_count)
    buffer = np.empty((size, header.record_length), np.uint8)
    data = header.data(LASZIP)
    with open(header.path, "rb") as file:
        file.seek(header.data_start)
        with _laz_errors(header):
            laz = lazrs.LazVlr(data)
            _check_chunks(header, file, laz)
            parallel = (
                laz.uses_variable_size_chunks()
                or 0 < laz.chunk_size() <= LARGEST_LAZ_CHUNK
            )
            kind = lazrs.ParLasZipDecompressor if parallel else lazrs.LasZipDecompressor
            unpacker = kind(file, data, lazrs.DecompressionSelection(_layers(names)))
        following = 0
        for start, count in _steps(spans, size):
            records = buffer[:count]
            with _laz_errors(header):
                if start != following:
                    unpacker.seek(start)
                following = start + count
                unpacker.decompress_many(records.reshape(-1))
            yield start, records


def _check_chunks(header: FileHeader, file: BinaryIO, laz: lazrs.LazVlr) -> None:
    """Raise an error where chunks or layers claim more bytes than the file has.

    The decompressor allocates what they claim, up to 4 GB per layer, before it reads
    a byte. The position of `file` does not change.
    """
    table = lazrs.read_chunk_table(file, laz)
    first = start = file.tell()
    left = header.path.stat().st_size - first
    if sum(length for _, length in table) > left:
        raise _unreadable(header, "its chunks claim more bytes than there are")
    if header.point_format in LAYERS:
        layers = LAYERS[header.point_format]
        layers += header.record_length - standard_length(header.point_format)
        for _, length in table:
            file.seek(start + header.record_length)
            sizes = np.frombuffer(file.read(4 * (layers + 1)), "<u4")[1:]
            if sizes.sum(dtype=np.int64) > length:
                raise _unreadable(header, "a chunk claims more bytes than it has")
            start += length
    file.seek(first - 8)


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
    except (lazrs.LazrsError, ValueError, OSError) as error:
        raise _unreadable(header, str(error)) from error
    except BaseException as error:
        # A panic of the Rust code is a BaseException of a class of its own.
        if type(error).__name__ == "PanicException":
            raise _unreadable(header, "its compressed points are damaged") from error
        raise


def _unreadable(header: FileHeader, problem: str | None) -> DataError:
    return DataError(
        f"{header.path}: the points cannot be read ({problem}); the file is cut short "
        "or damaged. Download or copy the file again."
    )
