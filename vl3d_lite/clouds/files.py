"""Find the cloud files that paths, globs and folders name. Without laspy."""

import fnmatch
import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.errors import DataError
from vl3d_lite.system import (
    expand_home,
    is_draft,
    reading_remedy,
    real_path,
    require_usable_path,
)

logger = logging.getLogger(__name__)

SUFFIXES = (".las", ".laz")


def find_clouds(patterns: Sequence[str], base: Path) -> list[Path]:
    """Find the clouds that paths, globs and folders name, sorted, each once.

    A file that is named twice, by a link, has the name that comes first, and within a
    folder or glob its own name.

    Args:
        patterns: Files, globs (``**`` crosses folders) or folders, relative to
            `base`. In a folder or glob, only .las and .laz files are found.
        base: The folder to which relative paths refer.

    Raises:
        DataError: A pattern matches no file, or a folder cannot be read; or the name
            of a file is not UTF-8.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        require_usable_path(pattern)
        try:
            matches = _matches(expand_home(pattern), Path(base))
        except OSError as error:
            raise DataError(
                f"{pattern}: cannot be read ({error.strerror}); {reading_remedy(error)}"
            ) from error
        if not matches:
            hint = " In a pattern, `[[]` stands for `[`." if "[" in pattern else ""
            raise DataError(
                f"{pattern}: no .las or .laz file found, relative to {base}. "
                f"Check the path or the pattern.{hint}"
            )
        # Of a file and links to it that one pattern finds, the file itself.
        for match in sorted(matches, key=lambda path: (path.is_symlink(), path)):
            require_usable_path(match)
            log_other_name(match, found.setdefault(real_path(match), match))
    return sorted(found.values())


def log_other_name(path: Path, used: Path) -> None:
    """Say that two names lead to one file, and which of them is used."""
    if os.path.abspath(path) != os.path.abspath(used):
        logger.info("%s: is the same file as %s, the name that is used", path, used)


def names_cloud(pattern: str, cloud: Path) -> bool:
    """Whether a path, glob or folder names a cloud, without looking for files.

    Args:
        pattern: Absolute file, folder or glob, as of `find_clouds`.
        cloud: The file.
    """
    named = real_path(pattern)
    for path in (Path(os.path.abspath(cloud)), real_path(cloud)):
        if named in (path, path.parent) or Path(pattern) in (path, path.parent):
            return True
        if _fits(path.parts, Path(pattern).parts):
            return True
    return False


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit a glob, whose ``**`` is any number of parts."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        rest = pattern[1:]
        return any(_fits(parts[n:], rest) for n in range(len(parts) + 1))
    if not parts:
        return False
    # A part that exists by its very name may hold brackets.
    first = parts[0] == pattern[0] or fnmatch.fnmatchcase(parts[0], pattern[0])
    return first and _fits(parts[1:], pattern[1:])


def _matches(pattern: Path, base: Path) -> list[Path]:
    path = base / pattern
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = [entry for entry in path.iterdir() if not is_draft(entry)]
    elif path.exists():
        raise DataError(
            f"{pattern}: is a pipe or a device; write the cloud to a file and name it"
        )
    elif path.is_symlink():
        raise DataError(
            f"{pattern}: is a link that leads to no file; repair or remove the link"
        )
    else:
        escaped = _escape_existing(base, pattern)
        names = glob.glob(str(escaped), root_dir=base, recursive=True)
        candidates = [base / name for name in names]
        if "**" in pattern.parts:
            _require_readable(base, escaped)
    return [p for p in candidates if p.suffix.lower() in SUFFIXES and p.is_file()]


def _escape_existing(base: Path, pattern: Path) -> Path:
    """Escape the first parts of a pattern that exist by these very names.

    So ``scans [2024]/*.laz`` finds the clouds in the folder ``scans [2024]``.
    """
    found, literal = Path(), base
    for number, part in enumerate(pattern.parts):
        literal = literal / part
        if not literal.exists():
            return found.joinpath(*pattern.parts[number:])
        found = found / (part if part == pattern.anchor else glob.escape(part))
    return found


def _require_readable(base: Path, pattern: Path) -> None:
    """Raise an error where a folder under ``**`` is not readable: glob skips it."""
    root = base.joinpath(*pattern.parts[: pattern.parts.index("**")])

    def refuse(error):
        raise error

    for top in glob.glob(str(root)):
        for _ in os.walk(top, onerror=refuse):
            pass
