"""A shard: the part of a list of clouds that one of several processes predicts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.system import reading_remedy

MOST_SHARDS = 100_000
_FORM = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True)
class Shard:
    """One of several parts of a list, all of them of similar size in bytes.

    The parts are consecutive runs of the list: tiles that lie side by side in it are
    predicted by one process. They depend on the list and the sizes of its files
    alone, so that processes agree without communication.

    Attributes:
        number: Number of the part, from 1 to `count`.
        count: Number of all parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``3/40``, the third of forty parts.

        Raises:
            SpecError: The text has another form, or its numbers are out of range.
        """
        match = _FORM.fullmatch(text)
        number, count = map(int, match.groups()) if match else (0, 0)
        if not 1 <= number <= count <= MOST_SHARDS:
            raise SpecError(
                "--shard must be NUMBER/COUNT with 1 <= NUMBER <= COUNT <= "
                f"{MOST_SHARDS:,}, such as 3/40. Received: {text}"
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def part(self, paths: Sequence[Path]) -> list[Path]:
        """The files of this part, which may be none.

        A file belongs to the part in which the middle of its bytes lies, if the list
        is divided into parts of equal size. So a part differs from the mean by less
        than the size of the largest file.

        Raises:
            DataError: The size of a file cannot be read.
        """
        sizes = [_size(path) for path in paths]
        if not any(sizes):
            sizes = [1] * len(sizes)
        total, before, part = sum(sizes), 0, []
        for path, size in zip(paths, sizes, strict=True):
            # Whole numbers: 20,000 large files exceed what a float counts exactly.
            index = (2 * before + size) * self.count // (2 * total)
            if min(index, self.count - 1) == self.number - 1:
                part.append(path)
            before += size
        return part


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); {reading_remedy(error)}"
        ) from error
