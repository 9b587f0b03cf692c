"""Lists of cloud files: ``@tiles.txt`` stands for the files that it names."""

from collections.abc import Sequence
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
    found = {real_path(path): path for path in find_clouds(named, base)}
    for name in lists:
        for path in _listed(name.removeprefix(SIGN), Path(base)):
            log_other_name(path, found.setdefault(real_path(path), path))
    return list(found.values())


def _listed(name: str, base: Path) -> list[Path]:
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


def _cloud(line: str, base: Path, place: str) -> Path:
    try:
        require_usable_path(line)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    path = base / expand_home(line)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{place}: must name a .las or .laz file, relative to {base}. "
            f"Received: {line}"
        )
    if not path.is_file():
        raise DataError(
            f"{place}: {line} is no file, relative to {base}; correct the line, or "
            "remove it"
        )
    return path
