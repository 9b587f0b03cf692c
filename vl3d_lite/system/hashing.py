"""Hashes of files, by which their content is recognized."""

import hashlib
import time
from pathlib import Path

from vl3d_lite.system.file_cache import FileCache, identity_of

HASHES: FileCache[str] = FileCache(1 << 16)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_hash(path: Path) -> str:
    """SHA-256 of a file; the file is read again only if it has changed since."""
    with Path(path).open("rb") as file:
        began, identity = time.time(), identity_of(path, file.fileno())
        digest = HASHES.get(identity)
        if digest is None:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            HASHES.put(identity, digest, began=began)
        return digest
