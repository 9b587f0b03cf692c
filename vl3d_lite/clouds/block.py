"""Write chosen points of a LAS or LAZ file as a file of their own."""

import logging
import struct
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.layout import standard_dimensions
from vl3d_lite.clouds.rewriting import Rewriting
from vl3d_lite.clouds.writing import Copy
from vl3d_lite.errors import DataError
from vl3d_lite.system import replacing

logger = logging.getLogger(__name__)

FIRST_EXTENDED_FORMAT = 6  # from it on, the counts of 32 bits are zero
LARGEST = 0xFFFFFFFF  # count of 32 bits


def write_block(source: str | Path, target: str | Path, chosen: np.ndarray) -> None:
    """Write the chosen points of a LAS or LAZ file, with all their dimensions.

    Variable length records are copied. Counts and extent in the header are those of
    the chosen points.

    Args:
        source: The input file; it is not changed.
        target: The file to write, compressed if its suffix is ``.laz``; it appears
            whole or not at all.
        chosen: ``(n,)`` bool.

    Raises:
        DataError: The input cannot be used, or `chosen` does not fit it.
        ResourceError: `target` cannot be written.
    """
    target = Path(target)
    header = read_header(source)
    if chosen.shape != (header.point_count,):
        raise DataError(
            f"{header.path}: `chosen` must have one value for each of "
            f"{header.point_count:,} points. Received: {chosen.shape}"
        )
    block = _Block(header, chosen, target.suffix.lower() == ".laz")
    with replacing(target) as draft:
        block.write(draft)


class _Block(Copy):
    """A copy without the points that are not chosen."""

    def __init__(self, header: FileHeader, chosen: np.ndarray, compress: bool) -> None:
        rewriting = Rewriting(header, {}, None, (), False, logger.info)
        super().__init__(header, rewriting, compress, logger.info)
        self.chosen = chosen
        self.dimensions = standard_dimensions(header.point_format)
        self.by_return = np.zeros(16, np.int64)
        self.lowest = np.full(3, np.inf)
        self.highest = np.full(3, -np.inf)

    def converted(self, start: int, records: np.ndarray) -> np.ndarray:
        """Chosen records of the copy."""
        part = super().converted(start, records)
        part = part[self.chosen[start : start + len(records)]]
        if len(part):
            returns = self.dimensions["return_number"].values(part)
            self.by_return += np.bincount(returns, minlength=16)
            for axis, name in enumerate("XYZ"):
                values = self.dimensions[name].values(part)
                self.lowest[axis] = min(self.lowest[axis], values.min())
                self.highest[axis] = max(self.highest[axis], values.max())
        self._update_header()  # the header is written again after the last point
        return part

    def _update_header(self) -> None:
        """Put the counts and the extent of the points so far into the header."""
        count = int(self.by_return.sum())
        by_return = self.by_return[1:].tolist()
        extended = self.header.point_format >= FIRST_EXTENDED_FORMAT
        legacy = [0] * 6 if extended or count > LARGEST else [count, *by_return[:5]]
        struct.pack_into("<6I", self.raw, 107, *legacy)
        if self.raw[25] >= 4:
            struct.pack_into("<16Q", self.raw, 247, count, *by_return)
        if count:
            scales, offsets = self.header.scales, self.header.offsets
            extent = np.stack([self.highest, self.lowest], 1)
            extent = extent * scales[:, None] + offsets[:, None]
            struct.pack_into("<6d", self.raw, 179, *extent.ravel().tolist())
