"""A folder of files that can be made again, bounded in size, for several processes."""

import functools
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs

from vl3d_lite.errors import SpecError, VL3DError
from vl3d_lite.system.array_file import ArrayFile, map_arrays, touch, write_arrays
from vl3d_lite.system.drafts import is_draft, remove_leftovers
from vl3d_lite.system.locks import lock, open_to_lock
from vl3d_lite.system.paths import expand_home
from vl3d_lite.system.resources import allow_open_files, few_files_may_open
from vl3d_lite.system.writing import replacing

logger = logging.getLogger(__name__)

# Names another default folder, or "off".
VARIABLE = "VL3D_LITE_CACHE"
SUFFIX = ".npys"
# What is large and mapped, and what is small and read whole.
Kind = Literal["clouds", "facts"]
KINDS: tuple[Kind, ...] = ("clouds", "facts")
# Bytes of a disk that stay free: other outputs of a run need some.
LARGEST_RESERVE = 1 << 30
RESERVED_SHARE = 0.05
# Bytes of small files that one process writes between two looks at the whole folder.
UNCOUNTED = 64 << 20


def default_cache_folder() -> Path | None:
    """The folder for caches; None where the environment turns them off.

    It is that of ``VL3D_LITE_CACHE``, or the one of the operating system for caches of
    the user; None for a user without a home.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named.lower() == "off":
        return None
    return expand_home(Path(named)) if named else _user_folder()


def _user_folder() -> Path | None:
    folder = Path(platformdirs.user_cache_dir("vl3d-lite", appauthor=False))
    return folder if folder.is_absolute() else None  # as `~` without a home is not


@dataclass(frozen=True)
class CacheEntry:
    """A file of a cache.

    Attributes:
        path: The file.
        kind: ``clouds`` or ``facts``.
        size: Bytes.
        last_use: Seconds since 1970.
    """

    path: Path
    kind: Kind
    size: int
    last_use: float

    def source(self) -> str:
        """The file that the entry was made from; empty where that is not known."""
        with suppress(ValueError, OSError, KeyError, TypeError):
            found = map_arrays(self.path)
            return str(found.record["source"]) if found else ""
        return ""


class CacheFolder:
    """Entries by key, of which those used longest ago are removed first.

    Several processes may share a folder. An entry appears whole. One that a process
    has mapped is locked, and is not removed. Where the folder cannot be written, one
    warning is logged and nothing is stored.

    Args:
        root: The folder; it need not exist.
        most: Largest size of all entries together, in bytes.
    """

    def __init__(self, root: Path, most: int) -> None:
        self.root, self.most = root, most
        self._writable = True
        self._uncounted = UNCOUNTED
        self._full = False

    def read(self, kind: Kind, key: str, *, verify: bool = False) -> ArrayFile | None:
        """Map an entry; None where there is none. One that is damaged is removed.

        Args:
            kind: ``clouds`` or ``facts``; facts are always verified.
            key: Its key, a hash in hexadecimal.
            verify: Whether all bytes are compared with their checksum.
        """
        path = self._path(kind, key)
        if kind == "clouds":
            allow_open_files()
        try:
            found = map_arrays(path, verify=verify or kind == "facts")
            if found is not None:
                if kind == "facts" or few_files_may_open():  # no file stays open
                    arrays = {name: one.copy() for name, one in found.arrays.items()}
                    found = replace(found, arrays=arrays)
                with suppress(OSError):  # a folder of another user
                    touch(path)
            return found
        except (ValueError, KeyError, TypeError) as error:
            logger.info("%s: a damaged cache entry is made again (%s)", path, error)
            with suppress(OSError):
                path.unlink()
        except OSError as error:
            logger.debug("%s: cannot be read (%s)", path, error)
        return None

    def write(
        self,
        kind: Kind,
        key: str,
        arrays: Mapping[str, np.ndarray],
        record: Mapping[str, Any],
    ) -> bool:
        """Store an entry, if there is room for it.

        Args:
            kind: ``clouds`` or ``facts``.
            key: Its key, a hash in hexadecimal.
            arrays: Name to array.
            record: JSON; ``source`` names the file that it was made from.

        Returns:
            Whether it is stored.
        """
        if not self._writable:
            return False
        size = sum(array.nbytes for array in arrays.values()) + 4096
        try:
            if not self._make_room(kind, size):
                return False
            with replacing(self._path(kind, key), durable=kind == "clouds") as draft:
                write_arrays(draft, arrays, record)
        except (VL3DError, OSError) as error:
            self._writable = False
            logger.warning(
                "the cache cannot be used, and prepared clouds stay in memory: %s; or "
                "name another folder in `cache.folder`, or set `cache: off`",
                error,
            )
            return False
        return True

    def _make_room(self, kind: Kind, size: int) -> bool:
        """Remove what was used longest ago; whether `size` more bytes fit."""
        self._uncounted += size
        if kind == "facts" and self._uncounted < UNCOUNTED:
            return True
        self._uncounted = 0
        (self.root / kind).mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.root / kind)
        entries = sorted(self.entries(), key=lambda entry: entry.last_use)
        total = sum(entry.size for entry in entries) + size
        free = _free_bytes(self.root)
        lacking = max(total - self.most, size - free)
        for entry in entries if size < self.most else ():
            if lacking <= 0:
                break
            if remove_unused(entry.path):
                lacking -= entry.size
        if lacking > 0 and not self._full:
            self._full = True
            logger.warning(
                "%s: the cache has no room for %.1f GB more (`cache.max_gigabytes` is "
                "%g, %.1f GB are free on the disk, and entries in use are kept); some "
                "prepared clouds stay in memory",
                self.root,
                size / 1e9,
                self.most / 1e9,
                max(free, 0) / 1e9,
            )
        return lacking <= 0

    def can_hold(self, size: float) -> bool:
        """Whether entries of this size fit, if all others are removed.

        Args:
            size: Bytes of all of them together.
        """
        own = sum(entry.size for entry in self.entries())
        try:
            return size <= min(self.most, _free_bytes(self.root) + own)
        except OSError:
            return False

    def entries(self) -> Iterator[CacheEntry]:
        """All entries, in no order."""
        for kind in KINDS:
            with suppress(OSError), os.scandir(self.root / kind) as found:
                for file in found:
                    path = Path(file.path)
                    if not file.name.endswith(SUFFIX) or is_draft(path):
                        continue
                    with suppress(OSError):
                        facts = file.stat(follow_symlinks=False)
                        yield CacheEntry(path, kind, facts.st_size, facts.st_atime)

    def clear(self) -> tuple[int, int]:
        """Remove all entries that no process uses.

        Returns:
            Number of entries removed, and of entries kept.
        """
        removed = kept = 0
        for kind in KINDS:
            remove_leftovers(self.root / kind)
        for entry in self.entries():
            if remove_unused(entry.path):
                removed += 1
            else:
                kept += 1
        return removed, kept

    def _path(self, kind: Kind, key: str) -> Path:
        return self.root / kind / f"{key}{SUFFIX}"


def _free_bytes(folder: Path) -> float:
    """Bytes that a cache may take of the disk of a folder, which need not exist."""
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    disk = shutil.disk_usage(folder)
    return disk.free - min(LARGEST_RESERVE, RESERVED_SHARE * disk.total)


def remove_unused(path: Path) -> bool:
    """Remove an entry unless a process has mapped it; whether it was removed."""
    try:
        descriptor = open_to_lock(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if not lock(descriptor):
            return False
        path.unlink(missing_ok=True)
    except OSError:  # without locks nobody knows whether it is in use
        return False
    finally:
        os.close(descriptor)
    return True


@functools.lru_cache(maxsize=16)
def open_cache_folder(root: Path, most: int) -> CacheFolder:
    """The cache in a folder, one per process.

    Args:
        root: The folder; it need not exist.
        most: Largest size of all entries together, in bytes.

    Raises:
        SpecError: It is not a folder.
    """
    # Methods of `Path` raise an error for a folder that the user may not enter.
    if os.path.exists(root) and not os.path.isdir(root):
        raise SpecError(
            f"{root}: is not a folder, so it cannot hold the cache; name a folder in "
            f"`cache.folder` or {VARIABLE}, or set `cache: off`"
        )
    return CacheFolder(root, most)
