"""An output file that is there complete or not at all."""

import contextlib
import errno
import json
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


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write `path` into a ResourceError."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = (
            "free some space or choose another --output"
            if error.errno in _FULL
            else "choose a folder that can be written"
        )
        raise ResourceError(
            f"{path}: cannot be written ({reason}); {remedy}"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes `path`'s place at the end.

    Where the block raises, what was written is removed and `path` stays as it
    was.
    """
    part = path.with_name(f".{os.getpid()}.part-{path.name}")
    with output_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON to `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
