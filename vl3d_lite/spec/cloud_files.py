"""The files of the clouds of a spec, and the group that each belongs to."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vl3d_lite.clouds import find_clouds, log_other_name
from vl3d_lite.errors import DataError
from vl3d_lite.spec.base import KeyPath, Section
from vl3d_lite.spec.keys import key_name
from vl3d_lite.spec.schema.spec import CLOUD_GROUPS
from vl3d_lite.spec.sections import SectionReader
from vl3d_lite.system import expand_home, real_path


def require_clouds(
    reader: SectionReader, section: Section, needs: Sequence[str]
) -> None:
    """Add an error for each list of clouds that is needed and empty.

    Args:
        reader: The reader of the spec; it receives the errors.
        section: The spec.
        needs: Names of lists of `clouds`.
    """
    clouds = vars(section).get("clouds")
    for name in needs if clouds else ():
        if vars(clouds).get(name) == []:
            reader.add_error(
                reader.nearest(("clouds", name)),
                f"`clouds.{name}` must name at least one LAS or LAZ file. "
                "Received: none",
            )


def find_cloud_files(
    reader: SectionReader, section: Section, check_files: bool
) -> dict[str, list[Path]]:
    """Find the files of each list of clouds; patterns become absolute in `section`.

    Args:
        reader: The reader of the spec; it receives the errors.
        section: The spec, which is not validated yet.
        check_files: Whether to look for files; the lists are empty otherwise.
    """
    found = {}
    group_of_file: dict[Path, _Pattern] = {}
    clouds = vars(section).get("clouds")
    for name in CLOUD_GROUPS if clouds else ():
        files: dict[Path, Path] = {}  # the name that is used, by the real path
        for pattern in _patterns(name, vars(clouds).get(name, [])):
            position = reader.positions[pattern.location]
            text = absolute(position.base, pattern.owner[pattern.number])
            pattern.owner[pattern.number] = text
            if not check_files:
                continue
            try:
                matches = find_clouds([text], position.base)
            except DataError as error:
                message = f"`{key_name(pattern.location)}`: {error}"
                reader.add_error(position, message)
                continue
            for match in matches:
                log_other_name(match, files.setdefault(real_path(match), match))
            if other := _other_meaning(pattern, matches, group_of_file):
                reader.add_error(position, other)
        found[name] = sorted(files.values())
    return found


def absolute(base: Path, path: str) -> str:
    """A path of a spec as absolute path; `base` is the folder of its file."""
    return os.path.abspath(base / expand_home(path))


@dataclass(frozen=True, eq=False)
class _Pattern:
    """One pattern of a spec.

    Attributes:
        location: Its key path.
        owner: The list that holds it.
        number: Its index in the list.
        group: Its group of clouds; None for a file of its own.
    """

    location: KeyPath
    owner: list[str]
    number: int
    group: Section | None

    @property
    def meaning(self) -> dict:
        """The settings of the group but its files."""
        return {key: v for key, v in vars(self.group).items() if key != "files"}


def _patterns(name: str, entries: list) -> Iterator[_Pattern]:
    for number, entry in enumerate(entries):
        location: KeyPath = ("clouds", name, number)
        if not isinstance(entry, Section):
            yield _Pattern(location, entries, number, None)
            continue
        files = vars(entry).get("files", [])
        for index in range(len(files)):
            yield _Pattern((*location, "files", index), files, index, entry)


def _other_meaning(
    pattern: _Pattern, files: Sequence[Path], known: dict[Path, _Pattern]
) -> str | None:
    """An error where a file is in groups that differ; `known` learns the files."""
    if pattern.group is None:
        return None
    for file in files:
        other = known.setdefault(file.resolve(), pattern)
        if other.meaning != pattern.meaning:
            return (
                f"`{key_name(pattern.location)}`: {file.name} is also in "
                f"`{key_name(other.location)}`, whose codes differ; the codes of a "
                "file have one meaning"
            )
    return None
