"""Drafts of outputs: created for one process alone, removed when it was killed."""

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vl3d_lite.system.locks import OPEN_FLAGS, is_at, lock, open_to_lock
from vl3d_lite.system.paths import LONGEST_NAME

_DRAFT = re.compile(r"\.\d+(-[0-9a-f]+)?\.part-", re.DOTALL)


@contextmanager
def new_draft(parent: Path, name: str, *, folder: bool = False) -> Iterator[Path]:
    """Create an empty draft under a new name, which no other process gets.

    The draft is locked while the block runs, so that `remove_leftovers` of another
    process leaves it alone.

    Args:
        parent: Where it is created.
        name: Name of the target; the draft ends like it, because libraries choose
            a format by the suffix.
        folder: Whether the draft is a folder.

    Raises:
        OSError: It cannot be created.
    """
    draft, descriptor = _create(parent, name, folder)
    try:
        yield draft
    finally:
        os.close(descriptor)


def _create(parent: Path, name: str, folder: bool) -> tuple[Path, int]:
    flags = (os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL) | OPEN_FLAGS
    while True:
        draft = parent / _draft_name(name)
        with suppress(FileExistsError):
            if folder:
                draft.mkdir()
            descriptor = os.open(draft, flags, 0o666)
            with suppress(OSError):  # a file system without locks
                lock(descriptor)
            # Until it was locked, it looked like the leftover of a killed process.
            if is_at(descriptor, draft):
                return draft, descriptor
            os.close(descriptor)


def _draft_name(name: str) -> str:
    # Hidden, so that no glob of a user takes a draft for a result.
    prefix = os.fsencode(f".{os.getpid()}-{secrets.token_hex(4)}.part-")
    return os.fsdecode(prefix + os.fsencode(name)[len(prefix) - LONGEST_NAME :])


def is_draft(path: Path) -> bool:
    """Whether a path is a draft, which a killed process may leave behind."""
    return _DRAFT.match(path.name) is not None


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the drafts in a folder whose processes were killed.

    Args:
        folder: The folder; it need not exist.
        name: Only drafts of targets with this name; by default all.
    """
    with suppress(OSError):
        for found in os.listdir(folder):
            if _DRAFT.match(found) and (not name or found.endswith(f".part-{name}")):
                _remove_if_abandoned(folder / found)


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        descriptor = open_to_lock(path)
        try:
            if not lock(descriptor):
                return
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        finally:
            os.close(descriptor)
