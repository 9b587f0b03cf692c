"""Paths as users give them: `~`, links in a circle, names that no file can have."""

import os
from pathlib import Path

from vl3d_lite.errors import DataError

LONGEST_NAME = 255  # bytes, on every usual file system


def expand_home(path: str | Path) -> Path:
    """Replace a leading ``~`` or ``~user``; a name such as ``~backup.laz`` stays.

    `Path.expanduser` raises an error where there is no such user.
    """
    return Path(os.path.expanduser(path))


def real_path(path: str | Path) -> Path:
    """The absolute path without links; of a circle of links, the path itself.

    `Path.resolve` raises a RuntimeError for a circle.
    """
    return Path(os.path.realpath(path))


def require_usable_path(path: str | Path) -> None:
    """Check that a file can have this path, and that text can name it.

    Raises:
        DataError: The path contains a null character, or is not UTF-8; or a name in
            it is too long. The message names the remedy.
    """
    text = str(path)
    if text.isascii() and "\0" not in text and len(text) <= LONGEST_NAME:
        return
    if "\0" in text:
        raise DataError(f"{text!r}: a path cannot contain a null character; remove it")
    try:
        names = [part.encode() for part in Path(text).parts]
    except UnicodeEncodeError:
        raise DataError(
            f"{text!r}: the name is not UTF-8, so that no spec and no report can name "
            "it; rename the file or folder"
        ) from None
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{text!r}: the locale cannot name this path (its encoding is "
            f"{error.encoding}); set a UTF-8 locale, for example LC_ALL=C.UTF-8"
        ) from None
    longest = max(map(len, names), default=0)
    if longest > LONGEST_NAME:
        raise DataError(
            f"{text[:60]}...: a name in it has {longest} bytes, but file systems allow "
            f"{LONGEST_NAME}; shorten it"
        )
