"""The hash of a cloud as it was read, by which a cloud replaced later is noticed."""

from pathlib import Path

from vl3d_lite.errors import DataError
from vl3d_lite.system import cached_hash, file_hash


def source_hash(source: Path, *, known: bool = False) -> str:
    """SHA-256 of a cloud or an output, in hexadecimal.

    Args:
        source: The file.
        known: Whether a hash that this process has found before counts, if the file
            has not changed since.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return cached_hash(source) if known else file_hash(source)
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read ({error.strerror}); check the permissions and "
            "the disk"
        ) from error


def require_same(source: Path, digest: str) -> None:
    """Check that a cloud is still the one that was read.

    Raises:
        DataError: It was replaced or changed.
    """
    if source_hash(source) != digest:
        raise DataError(
            f"{source}: was replaced or changed while it was predicted, so nothing was "
            "written; predict it again, and do not change it meanwhile"
        )
