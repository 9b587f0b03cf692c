"""Hashes of files, by which their content is recognized."""

import hashlib
import time
from contextlib import suppress
from pathlib import Path

from vl3d_lite.system.cache_folder import CacheFolder
from vl3d_lite.system.file_cache import FileCache, Identity, identity_of, is_settled

HASHES: FileCache[str] = FileCache(1 << 16)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def cached_hash(path: Path, cache: CacheFolder | None = None) -> str:
    """SHA-256 of a file; the file is read again only if it has changed since.

    Args:
        path: The file.
        cache: Where hashes of earlier processes are stored.
    """
    with Path(path).open("rb") as file:
        began, identity = time.time(), identity_of(path, file.fileno())
        digest = HASHES.get(identity)
        if digest is None and cache is not None:
            digest = _stored(cache, identity)
            if digest is not None:
                HASHES.put(identity, digest)
        if digest is None:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            HASHES.put(identity, digest, began=began)
            if cache is not None and is_settled(identity, began):
                record = {"source": identity[0], "sha256": digest}
                cache.write("facts", _key(identity), {}, record)
        return digest


def _key(identity: Identity) -> str:
    return text_hash(repr(("sha256", identity)))


def _stored(cache: CacheFolder, identity: Identity) -> str | None:
    with suppress(KeyError):
        found = cache.read("facts", _key(identity))
        return str(found.record["sha256"]) if found else None
    return None
