"""Outputs that are complete or absent: written beside their place, then renamed."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vl3d_lite.errors import ResourceError, SpecError
from vl3d_lite.system.drafts import new_draft, remove_leftovers
from vl3d_lite.system.paths import real_path, require_usable_path

_REMEDIES = {
    errno.ENOENT: "create the folder first",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "repair the links, which lead in a circle",
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some space or write elsewhere",
    errno.EFBIG: "free some space or write elsewhere",
}
_OTHER_REMEDY = "check the folder's permissions or write elsewhere"
# Drafts that are being written, for a process that must end at once.
_UNFINISHED: set[Path] = set()


def require_free(
    path: Path, *, overwrite: bool, remedy: str, resume: str | None = None
) -> None:
    """Refuse to write over an existing file or folder by default.

    Args:
        path: The file or folder to be written.
        overwrite: Whether it may be overwritten.
        remedy: Another way out, such as "name another file with --output".
        resume: What `--resume` does, such as "continue the run"; None where there
            is nothing to resume.

    Raises:
        SpecError: `path` exists and `overwrite` is false.
        DataError: No file can have this path.
    """
    require_usable_path(path)
    if path.exists() and not overwrite:
        first = f"{resume} with --resume, " if resume else ""
        raise SpecError(
            f"{path}: already exists; {first}overwrite it with --overwrite, or {remedy}"
        )


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Convert every `OSError` of a block that writes `path`.

    Raises:
        ResourceError: The operating system refused an operation. The message
            names the path, the reason and the remedy.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, _OTHER_REMEDY)
        reason = error.strerror or error
        raise ResourceError(
            f"{path}: cannot be written ({reason}); {remedy}"
        ) from error


@contextmanager
def replacing(
    path: Path,
    *,
    make_folder: bool = True,
    overwrite: bool = True,
    durable: bool = True,
) -> Iterator[Path]:
    """Replace one file by what a block writes.

    The block writes a draft beside `path`, whose name ends like that of `path`:
    NumPy, Keras and laspy choose a format by the suffix. The draft is renamed to
    `path` when the block ends. Where the block raises, the draft is removed and
    `path` stays as it was.

    Args:
        path: The file.
        make_folder: Whether missing folders above `path` are created.
        overwrite: Whether a file at `path` is replaced that was not there before.
        durable: Whether the content is on the disk when the file appears. Without it
            a crash of the machine may leave an incomplete file.

    Yields:
        The path of the draft.

    Raises:
        SpecError: A file has appeared at `path`, and `overwrite` is false.
        ResourceError: The file cannot be written.
    """
    with output_errors(path):
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with new_draft(path.parent, path.name) as draft, _unfinished(draft):
            try:
                yield draft
                if durable:
                    with draft.open("rb+") as written:
                        os.fsync(written.fileno())
                _publish(draft, path, overwrite)
            finally:
                # The error that ended the block matters more than one of removing.
                with suppress(OSError):
                    draft.unlink(missing_ok=True)


def _publish(draft: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        draft.replace(path)
        return
    try:
        # Renaming would replace a file that another process wrote meanwhile.
        path.hardlink_to(draft)
    except FileExistsError:
        raise SpecError(
            f"{path}: has appeared while it was being written; nothing was replaced. "
            "Overwrite it with --overwrite, or name another output"
        ) from None
    except OSError:  # a file system without hard links
        draft.replace(path)


@contextmanager
def replacing_entries(
    folder: Path,
    *,
    clear: Callable[[set[str]], None] = lambda names: None,
    last: str = "",
) -> Iterator[Path]:
    """Put the files that a block writes into a folder once all are written.

    A folder that is missing or empty appears as a whole. In one that holds files,
    those of the same names are replaced one by one, and other files stay.

    Args:
        folder: The folder.
        clear: Called before the files move into a folder that exists, with their
            names; it removes what they make obsolete.
        last: Name of the file that moves last: the one that marks the folder as
            complete.

    Yields:
        An empty draft folder.

    Raises:
        ResourceError: The folder or a file in it cannot be written.
    """
    target = real_path(folder)
    with output_errors(folder):
        inside = _needs_draft_inside(target)
        parent = target if inside else target.parent
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent, target.name)
        with new_draft(parent, target.name, folder=True) as draft, _unfinished(draft):
            try:
                yield draft
                if not inside:
                    draft.rename(target)
                    return
                entries = sorted(draft.iterdir(), key=lambda one: one.name == last)
                clear({entry.name for entry in entries})
                for entry in entries:
                    entry.replace(target / entry.name)
            finally:
                shutil.rmtree(draft, ignore_errors=True)


def _needs_draft_inside(folder: Path) -> bool:
    """Whether a folder cannot be replaced by its draft: files or a mount are in it."""
    return folder.is_dir() and (
        any(folder.iterdir())
        or folder.is_mount()
        or not os.access(folder.parent, os.W_OK)
    )


@contextmanager
def _unfinished(draft: Path) -> Iterator[None]:
    _UNFINISHED.add(draft)
    try:
        yield
    finally:
        _UNFINISHED.discard(draft)


def remove_drafts() -> None:
    """Remove what is being written; only a process that ends at once may call it."""
    for draft in list(_UNFINISHED):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file, completely or not at all.

    Raises:
        ResourceError: The file cannot be written.
    """
    with replacing(path) as draft:
        draft.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 to a file, completely or not at all.

    Raises:
        ResourceError: The file cannot be written.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict) -> None:
    """Write a dict as indented JSON to a file, completely or not at all.

    Raises:
        ResourceError: The file cannot be written.
        ValueError: A number is not finite, which JSON cannot hold.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
