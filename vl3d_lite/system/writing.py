"""An output file that is there complete or not at all."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import lazrs

from vl3d_lite.errors import ResourceError


@contextmanager
def written_beside(target: Path) -> Iterator[BinaryIO]:
    """A file that becomes `target` when it is complete and vanishes otherwise.

    Raises:
        ResourceError: The file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        with open(part, "wb") as file:
            guard = _Guard(file)
            try:
                yield guard
            except lazrs.LazrsError as error:
                raise guard.problem or error from error
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        _remove(part)
        raise unwritable(target, error) from error
    except BaseException:
        _remove(part)
        raise


def _remove(part: Path) -> None:
    with suppress(OSError):
        part.unlink()


class _Guard:
    """A file that remembers the error which the compressor words anew."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.problem: OSError | None = None
        self.seek, self.tell = file.seek, file.tell

    def write(self, data: bytes) -> int:
        return self._remember(self.file.write, data)

    def flush(self) -> None:
        self._remember(self.file.flush)

    def _remember(self, action: Callable, *arguments: bytes) -> int | None:
        try:
            return action(*arguments)
        except OSError as error:
            self.problem = error
            raise


def unwritable(target: Path, error: OSError) -> ResourceError:
    """The error of an output that the system refuses, with a remedy."""
    remedy = {
        errno.ENOSPC: "Free some space or write elsewhere.",
        errno.EDQUOT: "Free some space or write elsewhere.",
        errno.ENOENT: "Create the folder first.",
    }.get(error.errno, "Check the folder's permissions or write elsewhere.")
    return ResourceError(
        f"{target}: cannot be written ({error.strerror or error}). {remedy}"
    )
