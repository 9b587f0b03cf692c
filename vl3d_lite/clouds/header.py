"""The header of a LAS file and its variable length records."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

VLR_HEAD = 54
EVLR_HEAD = 60
HEADER_SIZES = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375, 5: 393}
LASZIP = ("laszip encoded", 22204)
EXTRA_BYTES = ("LASF_Spec", 4)
# LAS 1.4 points as points of an older format, the rest of them in extra bytes.
COMPATIBLE = ("lascompatible", 22204)


@dataclass(frozen=True)
class Record:
    """A variable length record; its data stays in the file.

    Args:
        head: Its header in the file: 54 bytes, or 60 if it is an extended record.
        start: Byte of the file at which its data starts.
        length: Bytes of data.
    """

    head: bytes
    start: int
    length: int

    @property
    def key(self) -> tuple[str, int]:
        """User id and record id."""
        user = self.head[2:18].split(b"\0")[0].decode("ascii", "replace")
        return user, int.from_bytes(self.head[18:20], "little")


@dataclass(frozen=True, eq=False)
class FileHeader:
    """The header of a LAS file.

    Args:
        path: The file.
        raw: The header block, ``header size`` bytes.
        version: Major and minor.
        point_format: 0 to 10.
        compressed: Whether the points are LAZ.
        record_length: Bytes of one point record.
        point_count: Points.
        data_start: Byte of the file at which the points start.
        scales: ``(3,)`` float64, file units per integer step.
        offsets: ``(3,)`` float64, file units.
        extent: ``(2, 3)`` float64, minimum and maximum of the header, file units.
        vlrs: Records before the points.
        evlrs: Records after the points; in LAS 1.3 the waveform record.
        waveform_start: Byte of the file at which the waveform record starts; else 0.
    """

    path: Path
    raw: bytes
    version: tuple[int, int]
    point_format: int
    compressed: bool
    record_length: int
    point_count: int
    data_start: int
    scales: np.ndarray
    offsets: np.ndarray
    extent: np.ndarray
    vlrs: tuple[Record, ...]
    evlrs: tuple[Record, ...]
    waveform_start: int

    @property
    def size(self) -> int:
        """Bytes of the header block."""
        return len(self.raw)

    def find(self, key: tuple[str, int]) -> Record | None:
        """The first record with this user id and record id."""
        return next((r for r in (*self.vlrs, *self.evlrs) if r.key == key), None)

    def data(self, key: tuple[str, int], at_most: int = 1 << 20) -> bytes | None:
        """The data of a record; None where it is missing or longer than `at_most`."""
        record = self.find(key)
        if record is None or record.length > at_most:
            return None
        with open(self.path, "rb") as file:
            file.seek(record.start)
            return file.read(record.length)
