"""What was found in clouds before, in the cache of a spec.

A fact is found by the SHA-256 of the cloud's content, by the settings that shaped it,
and by the version of the code that computed it, so it is never out of date.
"""

import functools
import importlib.metadata
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from vl3d_lite.dataset.exclusion import exclusion
from vl3d_lite.spec import Spec, cloud_labels
from vl3d_lite.system import (
    CacheFolder,
    Identity,
    __version__,
    cached_hash,
    default_cache_folder,
    file_hash,
    identity_of,
    is_settled,
    open_cache_folder,
    text_hash,
)

logger = logging.getLogger(__name__)

# Code and packages that turn a file into a prepared cloud, and into facts about it.
_FOLDERS = ("clouds", "dataset", "geometry", "spec")
_PACKAGES = ("numpy", "scipy", "laspy", "lazrs", "pyproj", "open3d")

Value = TypeVar("Value")
Arrays = Mapping[str, np.ndarray]
Packed = tuple[dict[str, Any], Arrays]


class Kind(NamedTuple, Generic[Value]):
    """A kind of facts, and how it is stored.

    Args:
        name: Part of the key.
        pack: Convert a value to JSON and arrays.
        unpack: Convert it back.
        folders: Further folders of the code that finds it.
    """

    name: str
    pack: Callable[[Value], Packed]
    unpack: Callable[[dict[str, Any], Arrays], Value]
    folders: tuple[str, ...] = ()


def open_cache(spec: Spec) -> CacheFolder | None:
    """The cache of a spec; None where it is off, there or in the environment.

    Raises:
        SpecError: Its folder is something else.
    """
    section = spec.cache
    if section.use == "off":
        return None
    folder = Path(section.folder) if section.folder else default_cache_folder()
    if folder is None:
        return None
    return open_cache_folder(folder, int(section.max_gigabytes * 1e9))


@functools.cache
def code_version(*more: str) -> str:
    """A hash of the code that prepares clouds, and the versions of its packages.

    Args:
        more: Further folders of code.
    """
    package, folders = Path(__file__).parents[1], (*_FOLDERS, *more)
    paths = [path for name in folders for path in (package / name).rglob("*.py")]
    hashes = [(str(path.relative_to(package)), file_hash(path)) for path in paths]
    versions = []
    for name in _PACKAGES:
        try:
            versions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            versions.append((name, "none"))
    return text_hash(repr((__version__, sorted(hashes), versions)))


def reading_settings(spec: Spec, path: Path) -> tuple[Any, ...]:
    """What the points of a cloud depend on besides its file, once they are read."""
    labels = cloud_labels(spec, path)
    return (
        labels,
        spec.ignored_flags,
        exclusion(spec, labels),
        spec.features,
        spec.clouds.unit,
        spec.model.source_weights,
    )


class Source:
    """A cloud as a source of what is stored.

    Args:
        path: The file.
        cache: The cache; its hashes spare reading the file.
    """

    def __init__(self, path: Path, cache: CacheFolder) -> None:
        self.path, self._began = path, time.time()
        self._identity = _identity(path)
        self.digest = cached_hash(path, cache)

    def key(self, name: str, *settings: object, folders: Sequence[str] = ()) -> str:
        """The key of what follows from the cloud with these settings."""
        return text_hash(repr((name, self.digest, code_version(*folders), settings)))

    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was hashed."""
        settled = is_settled(self._identity, self._began)
        return settled and _identity(self.path) == self._identity


def _identity(path: Path) -> Identity:
    with open(path, "rb") as file:
        return identity_of(path, file.fileno())


def recall(
    cache: CacheFolder | None,
    kind: Kind[Value],
    path: Path,
    settings: object,
    find: Callable[[], Value],
) -> tuple[Value, bool]:
    """A fact about a cloud from the cache, or found and stored.

    Args:
        cache: The cache; None to find the fact in any case.
        kind: The kind of the fact.
        path: The cloud.
        settings: What the fact depends on besides the cloud; its `repr` counts.
        find: Finds the fact; its errors are not stored.

    Returns:
        The fact, and whether it is from the cache.
    """
    if cache is None:
        return find(), False
    try:
        source = Source(path, cache)
    except OSError:  # whatever reads the cloud names the error
        return find(), False
    key = source.key(kind.name, settings, folders=kind.folders)
    stored = cache.read("facts", key)
    if stored is not None:
        try:
            return kind.unpack(stored.record["fact"], stored.arrays), True
        except (KeyError, ValueError, TypeError) as error:
            logger.debug("%s: %s is found again (%s)", path, kind.name, error)
    value = find()
    if source.is_unchanged():
        record, arrays = kind.pack(value)
        cache.write("facts", key, arrays, {"source": str(path), "fact": record})
    return value, False
