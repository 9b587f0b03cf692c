"""The header of a LAS file, checked against the size of the file.

Only a few kilobytes are read, and nothing is allocated because a header claims it: a
malicious file is rejected in milliseconds.
"""

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from laspy.point.dims import ALL_POINT_FORMATS_DTYPE

from vl3d_lite.clouds.header import (
    COMPATIBLE,
    EVLR_HEAD,
    EXTRA_BYTES,
    HEADER_SIZES,
    LASZIP,
    VLR_HEAD,
    FileHeader,
    Record,
)
from vl3d_lite.clouds.header_cache import HeaderCache
from vl3d_lite.errors import DataError
from vl3d_lite.system import identity_of

# No producer writes more; a file with more is made to keep the reader busy.
MOST_RECORDS = 65_536
# Identical points, which no scan has, were measured at 2300 to 6100 to 1 (lazrs).
HIGHEST_COMPRESSION = 20_000
# A larger one overflows when it multiplies a 32-bit integer.
LARGEST_SCALE = 1e290
CHUNKED = (2, 3)  # compressors of the LASzip record whose points can be read
POINTWISE = 1  # one chunk without a table, written by LASzip in 2010
VARIABLE_CHUNKS = 0xFFFFFFFF
# Extra bytes of LASzip's compatibility mode; they hold the codes above 31.
COMPATIBLE_CODES = b"LAS 1.4 classification"

CACHE = HeaderCache()
AGAIN = "Download or copy the file again."
CONVERT = "Convert the file with LAStools: las2las -i {0} -o {1}_new.laz"


def read_header(path: str | Path) -> FileHeader:
    """Read the header of a LAS or LAZ file and check it against the file.

    A file that was read before and has not changed since is not parsed again.

    Args:
        path: The file.

    Returns:
        The header. The points themselves are not read.

    Raises:
        DataError: The file cannot be read, is not LAS, is cut short, holds no
            points, or its header claims what the file cannot hold.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise DataError(
                f"{path}: is a folder, expected a LAS or LAZ file. Name a file in it."
            )
        with open(path, "rb") as file:
            identity = identity_of(path, file.fileno())
            header = CACHE.get(identity)
            if header is None:
                header = _Check(path, file).header()
                CACHE.put(identity, header)
            # Messages name the path as it was given.
            return header if header.path == path else replace(header, path=path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}). "
            "Check the permissions and the disk."
        ) from error


class _Check:
    """Parses and checks the header of an open file, in one pass."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.bytes = os.fstat(file.fileno()).st_size

    def error(self, problem: str, remedy: str = AGAIN) -> DataError:
        return DataError(f"{self.path}: {problem}. {remedy}")

    def read(self, start: int, length: int, what: str) -> bytes:
        self.file.seek(start)
        data = self.file.read(length)
        if len(data) < length:
            raise self.error(
                f"the file ends within its {what} ({self.bytes} bytes, expected at "
                f"least {start + length}); it is cut short"
            )
        return data

    def header(self) -> FileHeader:
        signature = self.file.read(4)
        if signature != b"LASF":
            raise self.error(
                f"not a LAS file: it starts with {signature!r}, expected b'LASF'"
                if signature
                else "the file is empty",
                "Give a .las or .laz file.",
            )
        raw = self.read(0, 227, "header")
        major, minor = raw[24], raw[25]
        if major != 1 or minor not in HEADER_SIZES:
            raise self.error(
                f"LAS version {major}.{minor} is unknown, expected 1.0 to 1.5",
                "Convert the file, for example with las2las or pdal translate.",
            )
        size, data_start, vlr_count = struct.unpack_from("<HII", raw, 94)
        if size < HEADER_SIZES[minor]:
            raise self.error(
                f"the header claims a size of {size} bytes, but LAS 1.{minor} "
                f"headers have {HEADER_SIZES[minor]}"
            )
        raw = self.read(0, size, "header")
        if not size <= data_start <= self.bytes:
            raise self.error(
                f"the header puts the points at byte {data_start}, but they must lie "
                f"between the header ({size} bytes) and the end of the file "
                f"({self.bytes} bytes)"
            )
        point_format, compressed, record_length = self.point_record(raw)
        scales, offsets, extent = self.coordinates(raw)
        vlrs = self.records(size, vlr_count, data_start, VLR_HEAD, "VLR")
        evlrs, waveform_start = self.extended_records(raw, minor, data_start)
        header = FileHeader(
            path=self.path,
            raw=raw,
            version=(major, minor),
            point_format=point_format,
            compressed=compressed,
            record_length=record_length,
            point_count=self.point_count(raw, minor),
            data_start=data_start,
            scales=scales,
            offsets=offsets,
            extent=extent,
            vlrs=vlrs,
            evlrs=evlrs,
            waveform_start=waveform_start,
        )
        self.check_compatibility(header)
        if compressed:
            self.check_compressed_points(header)
        else:
            self.check_points(header)
        return header

    def point_record(self, raw: bytes) -> tuple[int, bool, int]:
        code, record_length = struct.unpack_from("<BH", raw, 104)
        compressed = code & 0xC0 == 0x80
        point_format = code & 0x3F if compressed else code
        if point_format not in ALL_POINT_FORMATS_DTYPE:
            raise self.error(
                f"point format {point_format} is unknown, expected 0 to 10",
                "Convert the file, for example with las2las or pdal translate.",
            )
        smallest = ALL_POINT_FORMATS_DTYPE[point_format].itemsize
        if record_length < smallest:
            raise self.error(
                f"the header claims {record_length} bytes a point, but point format "
                f"{point_format} needs at least {smallest}"
            )
        return point_format, compressed, record_length

    def coordinates(self, raw: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers = np.frombuffer(raw, "<f8", 12, 131)
        scales, offsets = numbers[:3].copy(), numbers[3:6].copy()
        extent = numbers[6:].reshape(3, 2)[:, ::-1].T.copy()
        if not ((scales > 0) & (scales < LARGEST_SCALE)).all():
            raise self.error(
                "the scales must be positive and finite, the header has "
                f"{scales.tolist()}"
            )
        if not np.isfinite(offsets).all():
            raise self.error(
                f"the offsets must be finite, the header has {offsets.tolist()}"
            )
        for shared in (scales, offsets, extent):
            shared.flags.writeable = False  # several readers get the same header
        return scales, offsets, extent

    def point_count(self, raw: bytes, minor: int) -> int:
        (count,) = struct.unpack_from("<I", raw, 107)
        if minor >= 4:
            count = struct.unpack_from("<Q", raw, 247)[0] or count
        if count == 0:
            raise self.error("holds 0 points", "Leave it out of the list of clouds.")
        return count

    def records(
        self, start: int, count: int, end: int, head: int, what: str
    ) -> tuple[Record, ...]:
        if count > min((end - start) // head, MOST_RECORDS):
            raise self.error(
                f"the header claims {count} {what}s, but there is room for "
                f"{min((end - start) // head, MOST_RECORDS)}"
            )
        records = []
        for number in range(count):
            raw = self.read(start, head, f"{what} {number}")
            length = int.from_bytes(
                raw[20:22] if head == VLR_HEAD else raw[20:28], "little"
            )
            if start + head + length > end:
                raise self.error(
                    f"{what} {number} claims {length} bytes, but only "
                    f"{end - start - head} are left; it is damaged or cut short"
                )
            records.append(Record(raw, start + head, length))
            start += head + length
        return tuple(records)

    def extended_records(
        self, raw: bytes, minor: int, data_start: int
    ) -> tuple[tuple[Record, ...], int]:
        waveform_start = struct.unpack_from("<Q", raw, 227)[0] if minor >= 3 else 0
        if minor >= 4:
            start, count = struct.unpack_from("<QI", raw, 235)
            if count and not data_start <= start <= self.bytes:
                raise self.error(
                    f"the header puts the EVLRs at byte {start} of a file of "
                    f"{self.bytes} bytes; it is damaged or cut short"
                )
            records = self.records(start, count, self.bytes, EVLR_HEAD, "EVLR")
            return (records if count else ()), waveform_start
        internal = raw[6] & 2
        if minor == 3 and internal and waveform_start:
            if not data_start <= waveform_start <= self.bytes:
                raise self.error(
                    f"the header puts the waveforms at byte {waveform_start} of a "
                    f"file of {self.bytes} bytes; it is damaged or cut short"
                )
            return (
                self.records(
                    waveform_start, 1, self.bytes, EVLR_HEAD, "waveform record"
                ),
                waveform_start,
            )
        return (), waveform_start

    def check_compatibility(self, header: FileHeader) -> None:
        extra = header.data(EXTRA_BYTES) or b""
        if header.find(COMPATIBLE) or COMPATIBLE_CODES in extra:
            raise self.error(
                "the points are LAS 1.4 in LASzip's compatibility mode, which hides "
                "class codes above 31, flags and returns in extra bytes; this mode is "
                "not supported",
                self.conversion(),
            )

    def conversion(self) -> str:
        return CONVERT.format(self.path.name, self.path.stem)

    def check_points(self, header: FileHeader) -> None:
        held = (self.bytes - header.data_start) // header.record_length
        missing = header.point_count - held
        if missing > 0:
            raise self.error(
                f"{missing} of {header.point_count} points are missing; the file is "
                "cut short or its header is wrong"
            )

    def check_compressed_points(self, header: FileHeader) -> None:
        data = header.data(LASZIP)
        if data is None or len(data) < 34:
            raise self.error("the points are LAZ, but the LASzip record is missing")
        compressor, chunk_size = struct.unpack_from("<H10xI", data)
        if compressor not in CHUNKED:
            kind = "pointwise" if compressor == POINTWISE else f"of kind {compressor}"
            raise self.error(
                f"the points are LAZ {kind}, without chunks, which is not supported; "
                "the file itself may be whole",
                self.conversion(),
            )
        item_count = struct.unpack_from("<H", data, 32)[0]
        if len(data) < 34 + 6 * item_count:
            raise self.error("the LASzip record is cut short")
        items = np.frombuffer(data, "<u2", 3 * item_count, 34).reshape(-1, 3)
        if items[:, 1].sum(dtype=np.int64) != header.record_length:
            raise self.error(
                f"the LASzip record describes points of {items[:, 1].sum()} bytes, the "
                f"header points of {header.record_length}"
            )
        packed = self.bytes - header.data_start
        if header.point_count * header.record_length > HIGHEST_COMPRESSION * packed:
            raise self.error(
                f"the header claims {header.point_count} points, which {packed} bytes "
                "cannot hold; points are missing or the header is wrong"
            )
        self.check_chunks(header, chunk_size)

    def check_chunks(self, header: FileHeader, chunk_size: int) -> None:
        cut = "the compressed points end early; the file is cut short"
        first = header.data_start + 8
        (table,) = struct.unpack("<q", self.read(first - 8, 8, "points"))
        if table == -1:  # written to a stream: the offset is at the end of the file
            (table,) = struct.unpack("<q", self.read(self.bytes - 8, 8, "points"))
        if not first <= table <= self.bytes - 8:
            raise self.error(cut)
        count = struct.unpack("<4xI", self.read(table, 8, "chunk table"))[0]
        # Every chunk starts with one uncompressed point.
        if count * header.record_length > table - first:
            raise self.error(
                f"its table claims {count} chunks of points, which {table - first} "
                "bytes cannot hold"
            )
        if chunk_size != VARIABLE_CHUNKS and count * chunk_size < header.point_count:
            missing = header.point_count - count * chunk_size
            raise self.error(
                f"at least {missing} of {header.point_count} points are missing; the "
                "file is cut short or its header is wrong"
            )
