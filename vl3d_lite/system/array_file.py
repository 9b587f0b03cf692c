"""Files of named arrays that are mapped into memory instead of being read.

A file holds arrays in the layout of ``.npy``, one after another, then an index in JSON
and a trailer of fixed size that locates the index.
"""

import json
import mmap
import os
import struct
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vl3d_lite.system.locks import is_at, share

ALIGNMENT = 64  # bytes, as `.npy` aligns its data
PIECE = 16 << 20  # bytes that are written and hashed at once
_TRAILER = struct.Struct("<8sQQI")  # magic, start and length of the index, its CRC
_MAGIC = b"npys\x00\x01\r\n"
# Whole even seconds: every file system can store them.
_TICK = 2


@dataclass(frozen=True, eq=False)
class ArrayFile:
    """The content of a file that `write_arrays` wrote.

    Attributes:
        arrays: Read-only views of the mapped file. It stays mapped, and locked against
            removal by `CacheFolder`, while one of them exists.
        record: What was stored beside them.
    """

    arrays: dict[str, np.ndarray]
    record: dict[str, Any]


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]
) -> None:
    """Write arrays and a record to a new file.

    The file's time of change is set to the one that the index holds: a file with
    another one was changed after it was written.

    Args:
        path: The file.
        arrays: Name to array, of any type but objects.
        record: JSON.

    Raises:
        OSError: The file cannot be written.
    """
    written = int(time.time()) // _TICK * _TICK * 10**9
    places = {}
    with open(path, "wb") as file:
        output = _Checked(file)
        for name, array in arrays.items():
            output.write(bytes(-output.position % ALIGNMENT))
            places[name] = output.position
            # Sums over a matrix depend on its order, so the order is kept.
            header = np.lib.format.header_data_from_array_1_0(array)
            np.lib.format.write_array_header_1_0(output, header)
            data = array.T if header["fortran_order"] else np.ascontiguousarray(array)
            if data.size:
                output.write(data.reshape(-1).view(np.uint8).data)
        start = output.position
        index = {"arrays": places, "record": record, "written": written}
        text = json.dumps({**index, "crc": output.crc}).encode()
        file.write(text)
        file.write(_TRAILER.pack(_MAGIC, start, len(text), zlib.crc32(text)))
    os.utime(path, ns=(time.time_ns(), written))


class _Checked:
    """A file with the position and the checksum of what was written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.position, self.crc = file, 0, 0

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            self.file.write(piece)
            self.crc = zlib.crc32(piece, self.crc)
        self.position += len(view)
        return len(view)


def map_arrays(path: Path, *, verify: bool = False) -> ArrayFile | None:
    """Map a file of arrays into memory.

    Args:
        path: The file.
        verify: Whether all bytes are compared with their checksum. A file whose size
            or time of change is not the recorded one is verified in any case.

    Returns:
        None where there is no file, or where it is being removed.

    Raises:
        ValueError: The file is damaged.
        OSError: It cannot be read.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        if not share(file.fileno()) or not is_at(file.fileno(), path):
            return None
        size = os.fstat(file.fileno()).st_size
        if size < _TRAILER.size:
            raise ValueError("it is cut short")
        # The mapping holds a copy of the descriptor, and with it the lock.
        mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        index = _index(mapping, size)
        unchanged = os.fstat(file.fileno()).st_mtime_ns == index["written"]
        if verify or not unchanged:
            _verify(file, index["start"], index["crc"])
        arrays = {
            name: _array(mapping, place) for name, place in index["arrays"].items()
        }
        if not unchanged:
            with suppress(OSError):  # a folder of another user
                touch(path, index["written"])
    return ArrayFile(arrays, index["record"])


def touch(path: Path, written: int | None = None) -> None:
    """Record that a file was used just now, in its time of access.

    Args:
        path: The file.
        written: Time of its last change in nanoseconds; as it is by default.
    """
    written = path.stat().st_mtime_ns if written is None else written
    os.utime(path, ns=(time.time_ns(), written))


def _index(mapping: mmap.mmap, size: int) -> dict[str, Any]:
    magic, start, length, crc = _TRAILER.unpack(mapping[size - _TRAILER.size :])
    if magic != _MAGIC or start + length + _TRAILER.size != size:
        raise ValueError("it is cut short or of another kind")
    text = mapping[start : start + length]
    if zlib.crc32(text) != crc:
        raise ValueError("its index is damaged")
    return {**json.loads(text), "start": start}


def _verify(file: BinaryIO, length: int, expected: int) -> None:
    """Compare the checksum; read instead of mapped pages, which would stay resident."""
    crc, left = 0, length
    file.seek(0)
    while left and (piece := file.read(min(PIECE, left))):
        crc = zlib.crc32(piece, crc)
        left -= len(piece)
    if left or crc != expected:
        raise ValueError("its arrays are damaged")


def _array(mapping: mmap.mmap, place: int) -> np.ndarray:
    mapping.seek(place)
    np.lib.format.read_magic(mapping)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(mapping)
    return np.ndarray(
        shape, dtype, mapping, mapping.tell(), order="F" if by_columns else "C"
    )
