"""Find the cloud files that paths, globs and folders name. Without laspy."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.errors import DataError
from vl3d_lite.system import is_draft

SUFFIXES = (".las", ".laz")


def find_clouds(patterns: Sequence[str], base: Path) -> list[Path]:
    """Find the clouds that paths, globs and folders name, sorted, each once.

    Args:
        patterns: Files, globs (``**`` crosses folders) or folders, relative to
            `base`. In a folder or glob, only .las and .laz files are found.
        base: The folder to which relative paths refer.

    Raises:
        DataError: A pattern matches no file, or a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        try:
            matches = _matches(Path(pattern).expanduser(), Path(base))
        except OSError as error:
            raise DataError(
                f"{pattern}: cannot be read ({error.strerror}). Check the permissions."
            ) from error
        if not matches:
            raise DataError(
                f"{pattern}: no .las or .laz file found, relative to {base}. "
                "Check the path or the pattern."
            )
        for match in matches:
            found.setdefault(match.resolve(), match)
    return sorted(found.values())


def _matches(pattern: Path, base: Path) -> list[Path]:
    path = base / pattern
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = [entry for entry in path.iterdir() if not is_draft(entry)]
    else:
        names = glob.glob(str(pattern), root_dir=base, recursive=True)
        candidates = [base / name for name in names]
        if "**" in pattern.parts:
            _require_readable(base, pattern)
    return [p for p in candidates if p.suffix.lower() in SUFFIXES and p.is_file()]


def _require_readable(base: Path, pattern: Path) -> None:
    """Raise an error where a folder under ``**`` is not readable: glob skips it."""
    root = base.joinpath(*pattern.parts[: pattern.parts.index("**")])

    def refuse(error):
        raise error

    for top in glob.glob(str(root)):
        for _ in os.walk(top, onerror=refuse):
            pass
