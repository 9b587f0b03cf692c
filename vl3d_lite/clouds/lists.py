"""Lists of cloud files: ``@tiles.txt`` stands for the files that it names."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from vl3d_lite.clouds.files import SUFFIXES, find_clouds, log_other_name
from vl3d_lite.errors import DataError
from vl3d_lite.system import (
    expand_home,
    read_text,
    real_path,
    require_usable_path,
)

SIGN = "@"


def find_listed_clouds(patterns: Sequence[str], base: Path) -> list[Path]:
    """Find the clouds of paths, globs, folders and lists, each once.

    A list is a text file of one file per line; empty lines are skipped, and no
    character has a special meaning. A file whose own name begins with ``@`` is named
    ``./@name``.

    Args:
        patterns: As for `find_clouds`, or ``@`` and the path of a list.
        base: The folder to which all relative paths refer, also those in a list.

    Returns:
        The clouds that paths, globs and folders name, sorted; then those of the
        lists, in their order.

    Raises:
        DataError: A pattern matches no file, or a list or a file in it cannot be
            read. The message names list and line.
    """
    lists = [pattern for pattern in patterns if pattern.startswith(SIGN)]
    named = [pattern for pattern in patterns if not pattern.startswith(SIGN)]
    found = {str(real_path(path)): path for path in find_clouds(named, base)}
    folders: dict[str, str] = {}
    for name in lists:
        for path, is_link in _listed(name.removeprefix(SIGN), Path(base)):
            real = str(real_path(path)) if is_link else _real_name(path, folders)
            used = found.setdefault(real, path)
            if used is not path:
                log_other_name(path, used)
    return list(found.values())


def _real_name(path: Path, folders: dict[str, str]) -> str:
    """The real path of a file that is no link; that of its folder is looked up once."""
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _listed(name: str, base: Path) -> list[tuple[Path, bool]]:
    """The clouds of a list, and whether each is a link."""
    require_usable_path(name)
    text = read_text(
        base / expand_home(name), "name a text file with one cloud per line after @"
    )
    # Not `splitlines`: a name may contain characters that only Unicode calls breaks.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    paths = [
        _cloud(line, base, f"{name}:{number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not paths:
        raise DataError(f"{name}: names no cloud; write one file per line")
    return paths


def _cloud(line: str, base: Path, place: str) -> tuple[Path, bool]:
    try:
        require_usable_path(line)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    path = base / (expand_home(line) if line.startswith("~") else line)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{place}: must name a .las or .laz file, relative to {base}. "
            f"Received: {line}"
        )
    # One look at each file: a list may have many thousands, for many processes.
    with suppress(OSError):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and path.is_file()):
            return path, stat.S_ISLNK(mode)
    raise DataError(
        f"{place}: {line} is no file, relative to {base}; correct the line, or "
        "remove it"
    )
