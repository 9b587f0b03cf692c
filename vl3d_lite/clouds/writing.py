"""Write a classified copy of a LAS or LAZ file."""

import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import lazrs
import numpy as np

from vl3d_lite.clouds.crs import WKT_BIT, contradicting_keys
from vl3d_lite.clouds.crs_records import GEO_KEYS, GEOTIFF, WKT, keys_as_wkt
from vl3d_lite.clouds.header import (
    EVLR_HEAD,
    EXTRA_BYTES,
    HEADER_SIZES,
    LASZIP,
    VLR_HEAD,
    FileHeader,
    Record,
)
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.layout import standard_dimensions, standard_length
from vl3d_lite.clouds.lazrs_file import ErrorKeepingFile, opened_for_lazrs
from vl3d_lite.clouds.points import read_records
from vl3d_lite.clouds.rewriting import ExtraDimension, Rewriting, Values
from vl3d_lite.clouds.signature import SOFTWARE, Signature
from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.system import output_errors, replacing, require_free

COPC = "copc"
LONGEST_VLR = 0xFFFF
# lazrs 0.8 confuses `wavepacket_size` where the scanner channel changes.
LAYERED_WAVEFORMS = (9, 10)
COPY_BLOCK = 1 << 20

logger = logging.getLogger(__name__)


def write_las(
    source: str | Path,
    target: str | Path,
    dimensions: Mapping[str, ExtraDimension | tuple],
    *,
    classification: Values | None = None,
    keep_codes: Sequence[int] = (),
    replace: bool = False,
    overwrite: bool = False,
    log: Callable[[str], None] | None = None,
    signature: Signature | None = None,
    before_rename: Callable[[Path], None] = lambda draft: None,
) -> None:
    """Write a copy of a LAS or LAZ file with more dimensions or other classes.

    Every point keeps its place and its dimensions; header, variable length records
    and waveforms are copied byte for byte except where they must change. The copy is
    written beside `target` and renamed when it is complete.

    Args:
        source: The input.
        target: The copy; compressed by its suffix, else as the input is.
        dimensions: Extra dimensions to add, by name; a tuple holds the arguments
            of an `ExtraDimension`.
        classification: ``(n,)`` LAS codes for the dimension `classification`, or a
            function as in `ExtraDimension`, which may be called twice.
        keep_codes: Points with one of these codes in the input keep it.
        replace: Whether an extra dimension of the same name is replaced.
        overwrite: Whether an existing `target` is replaced.
        log: Called with each change that the file format requires; logs by default.
        signature: Names in the copy the program that wrote it.
        before_rename: Called with the complete copy, which has no name yet.

    Raises:
        SpecError: `target` exists, or is the input.
        DataError: The input cannot be used, or a dimension cannot be added.
        ResourceError: `target` cannot be written, or memory is short.

    Example:
        >>> import numpy as np
        >>> import vl3d_lite
        >>> cloud = vl3d_lite.read_las("scan.laz")
        >>> above = cloud.local[:, 2].astype(np.float32)
        >>> vl3d_lite.write_las(
        ...     "scan.laz", "heights.laz", {"above": (above, "f4", "above the lowest")}
        ... )
        >>> vl3d_lite.read_las("heights.laz", dimensions=["above"]).attributes.keys()
        dict_keys(['above'])
    """
    log = log or logger.info
    source, target = Path(source), Path(target)
    header = read_header(source)
    _check_target(source, target, overwrite)
    added = _extra_dimensions(dimensions)
    with _memory_errors(target):
        rewriting = Rewriting(header, added, classification, keep_codes, replace, log)
        copy = Copy(header, rewriting, _is_compressed(target, header), log, signature)
        with replacing(target, make_folder=False, overwrite=overwrite) as draft:
            copy.write(draft)
            before_rename(draft)


@contextmanager
def _memory_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise ResourceError(
            f"{target}: not enough memory to write it. Free some memory and try again."
        ) from error


def _extra_dimensions(
    dimensions: Mapping[str, ExtraDimension | tuple],
) -> dict[str, ExtraDimension]:
    return {
        name: extra if isinstance(extra, ExtraDimension) else ExtraDimension(*extra)
        for name, extra in dimensions.items()
    }


def _is_compressed(target: Path, header: FileHeader) -> bool:
    suffix = target.suffix.lower()
    return suffix == ".laz" or (suffix != ".las" and header.compressed)


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    with output_errors(target):
        if target.exists() and target.samefile(source):
            raise SpecError(
                f"{target}: is the input itself, which is never changed. "
                "Name another output."
            )
        if target.is_dir():
            raise SpecError(f"{target}: is a folder, expected the name of a file.")
        require_free(target, overwrite=overwrite, remedy="name another output")


class Copy:
    """Writes a copy of a cloud: its records, and the bytes before and after them."""

    def __init__(
        self,
        header: FileHeader,
        rewriting: Rewriting,
        compress: bool,
        log: Callable[[str], None],
        signature: Signature | None = None,
    ) -> None:
        self.header = header
        self.rewriting = rewriting
        self.log = log
        self.signature = signature
        self.raised = rewriting.point_format != header.point_format
        self.laz: lazrs.LazVlr | None = None
        if compress:
            extra = rewriting.record_length - standard_length(rewriting.point_format)
            self.laz = lazrs.LazVlr.new_for_compression(rewriting.point_format, extra)
        self.raw = self._header_block()
        self.evlrs = [r for r in header.evlrs if self._is_kept(r)]
        self.out = np.empty((0, rewriting.record_length), np.uint8)

    def write(self, path: Path) -> None:
        """Write the copy to a new file."""
        with opened_for_lazrs(path) as file:
            self._write(file)

    def converted(self, start: int, records: np.ndarray) -> np.ndarray:
        """Records of the copy, which the next call overwrites."""
        if len(records) > len(self.out):
            self.out = np.empty((len(records), self.rewriting.record_length), np.uint8)
        part = self.out[: len(records)]
        self.rewriting.apply(start, records, part)
        return part

    def _write(self, file: ErrorKeepingFile) -> None:
        vlrs = self._vlr_bytes()
        gap = self._gap()
        raw = self.raw
        struct.pack_into("<HI", raw, 94, len(raw), len(raw) + len(vlrs[1]) + len(gap))
        struct.pack_into("<I", raw, 100, vlrs[0])
        file.write(bytes(raw) + vlrs[1] + gap)
        self._write_points(file)
        file.seek(0, os.SEEK_END)
        self._write_evlrs(file)
        file.seek(0)  # the position of the EVLRs is known only now
        file.write(bytes(raw))

    def _header_block(self) -> bytearray:
        header, raw = self.header, bytearray(self.header.raw)
        minor = header.version[1]
        if self.raised and minor < 4:
            user_bytes = raw[HEADER_SIZES[minor] :]
            by_return = struct.unpack_from("<5I", raw, 111)
            raw = raw[: HEADER_SIZES[minor]].ljust(HEADER_SIZES[4], b"\0")
            struct.pack_into("<5Q", raw, 255, *by_return)
            raw += user_bytes
            minor = 4
            self.log(f"{header.path.name}: LAS 1.{header.version[1]} becomes 1.4")
        elif minor == 0:
            minor = 2
            self.log(f"{header.path.name}: LAS 1.0 becomes 1.2")
        raw[25] = minor
        code = self.rewriting.point_format | (0x80 if self.laz else 0)
        struct.pack_into("<BH", raw, 104, code, self.rewriting.record_length)
        if minor >= 4:
            struct.pack_into("<Q", raw, 247, header.point_count)
        if self.raised:
            struct.pack_into("<6I", raw, 107, *[0] * 6)
            raw[6] |= WKT_BIT
        if self.signature:
            raw[SOFTWARE] = self.signature.software_bytes
        return raw

    def _is_kept(self, record: Record) -> bool:
        user, _ = record.key
        if self.signature and record.key == self.signature.key:
            return False
        return user != COPC and record.key not in (LASZIP, EXTRA_BYTES)

    def _vlr_bytes(self) -> tuple[int, bytes]:
        """Number and bytes of the variable length records before the points."""
        header, entries = self.header, self.rewriting.entries
        wkt = self._new_wkt()
        extra = (
            (header.data(EXTRA_BYTES) if header.find(EXTRA_BYTES) else None)
            if entries is None
            else entries.tobytes()
        )
        blocks = []
        if any(r.key[0] == COPC for r in (*header.vlrs, *header.evlrs)):
            self.log(f"{header.path.name}: COPC becomes plain LAS or LAZ")
        for record in header.vlrs:
            if record.key == EXTRA_BYTES and extra is not None:
                blocks.append(_vlr(EXTRA_BYTES, extra, record.head[22:]))
                extra = None
            elif self._is_kept(record) and not (wkt and record.key in (*GEOTIFF, WKT)):
                blocks.append(record.head + _data(header, record))
        if extra is not None:
            blocks.append(_vlr(EXTRA_BYTES, extra, b"Extra Bytes Record"))
        if wkt:
            blocks.append(_vlr(WKT, wkt, b"OGC WKT"))
        if signature := self.signature:
            description = signature.description.encode("ascii")
            blocks.append(_vlr(signature.key, signature.data, description))
        if self.laz:
            data = self.laz.record_data()
            blocks.append(_vlr(LASZIP, data, b"http://laszip.org"))
        return len(blocks), b"".join(blocks)

    def _new_wkt(self) -> bytes | None:
        # From point format 6 on WKT holds: keys that held until now must become WKT.
        if not self.raised:
            return None
        if self.header.find(WKT) and not contradicting_keys(self.header):
            return None
        wkt = keys_as_wkt(self.header)
        if wkt is not None:
            self.log(f"{self.header.path.name}: GeoTIFF keys become WKT")
        elif self.header.find(GEO_KEYS):
            self.log(
                f"{self.header.path.name}: GeoTIFF keys stay, no WKT is equivalent"
            )
        return wkt

    def _gap(self) -> bytes:
        """The bytes between the last variable length record and the points."""
        last = self.header.vlrs[-1] if self.header.vlrs else None
        start = last.start + last.length if last else self.header.size
        with open(self.header.path, "rb") as file:
            file.seek(start)
            return file.read(self.header.data_start - start)

    def _write_points(self, file: ErrorKeepingFile) -> None:
        packer = lazrs.ParLasZipCompressor(file, self.laz) if self.laz else None
        channel = standard_dimensions(self.header.point_format).get("scanner_channel")
        fragile = self.header.point_format in LAYERED_WAVEFORMS and (
            self.laz or self.header.compressed
        )
        channels: set[int] = set()
        for start, records in read_records(self.header):
            if fragile:
                assert channel is not None  # formats 9 and 10 have it
                channels.update(np.unique(channel.values(records)).tolist())
                self._check_channels(channels)
            part = self.converted(start, records)
            if packer is None:
                file.write(part)
            elif len(part):
                packer.compress_many(part.reshape(-1))
        if packer is not None:
            packer.done()

    def _check_channels(self, channels: set[int]) -> None:
        if len(channels) > 1:
            raise DataError(
                f"{self.header.path}: LAZ of point format {self.header.point_format} "
                "loses the waveform packets of several scanner channels (an error "
                "of lazrs). Give a .las file and name a .las output."
            )

    def _write_evlrs(self, file: ErrorKeepingFile) -> None:
        first = file.tell()
        raw, minor = self.raw, self.raw[25]
        for record in self.evlrs:
            if record.start - EVLR_HEAD == self.header.waveform_start:
                struct.pack_into("<Q", raw, 227, file.tell())
            file.write(record.head)
            with open(self.header.path, "rb") as source:
                source.seek(record.start)
                left = record.length
                while left and (block := source.read(min(left, COPY_BLOCK))):
                    file.write(block)
                    left -= len(block)
        if minor >= 4:
            count = len(self.evlrs)
            struct.pack_into("<QI", raw, 235, first if count else 0, count)


def _data(header: FileHeader, record: Record) -> bytes:
    with open(header.path, "rb") as file:
        file.seek(record.start)
        return file.read(record.length)


def _vlr(key: tuple[str, int], data: bytes, description: bytes) -> bytes:
    if len(data) > LONGEST_VLR:
        raise DataError(
            f"record {key[0]} {key[1]} would need {len(data)} bytes, but a variable "
            f"length record holds {LONGEST_VLR}. Write fewer dimensions."
        )
    head = struct.pack("<H16sHH32s", 0, key[0].encode(), key[1], len(data), description)
    assert len(head) == VLR_HEAD
    return head + data
