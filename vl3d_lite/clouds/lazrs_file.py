"""A file that lazrs writes to, with the errors of the disk as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import lazrs


@contextmanager
def opened_for_lazrs(path: Path) -> Iterator["ErrorKeepingFile"]:
    """Open a file to write; an error of the disk passes through lazrs unchanged."""
    with open(path, "wb") as binary:
        file = ErrorKeepingFile(binary)
        try:
            yield file
        except lazrs.LazrsError as error:
            raise file.error or error from error


class ErrorKeepingFile:
    """A file that keeps its `OSError`, of which lazrs passes on only the text."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: Any) -> int:
        """Write bytes, as a file does."""
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        try:
            self.file.flush()
        except OSError as error:
            self.error = error
            raise
