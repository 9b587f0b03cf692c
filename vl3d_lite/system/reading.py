"""Reading of files that anybody may have changed: bounded, typed, as UTF-8.

Whatever such a file holds, the reader returns a valid value or raises a `DataError`
that names the file and the remedy.
"""

import errno
import functools
import io
import math
import stat
import zipfile
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from vl3d_lite.errors import DataError, VL3DError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# Bytes; the records of ten thousand clouds need a few million.
LARGEST_FILE = 64 * 2**20
DEEPEST = 60  # levels of nesting: our files need eight
LARGEST_INTEGER = 2**63 - 1

Record = TypeVar("Record")

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.ENAMETOOLONG: "shorten the path",
    errno.ELOOP: "repair the links, which lead in a circle",
}


def reading_remedy(error: OSError) -> str:
    """What to do where the operating system refuses to read a file."""
    return _REMEDIES.get(error.errno or 0, "check the permissions and the disk")


def require_regular_file(path: Path, remedy: str) -> None:
    """Check that a path is a file that can be read to its end.

    A pipe or a device may wait forever, or never end.

    Raises:
        DataError: It is something else, or not found.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device, not a file"
        raise DataError(f"{path}: is {kind}; {remedy}")


def read_bytes(path: Path, remedy: str, most: int = LARGEST_FILE) -> bytes:
    """Read a file of at most `most` bytes.

    Args:
        path: The file.
        remedy: What to do if it cannot be used, such as "restore it from a copy".
        most: Largest size in bytes.

    Raises:
        DataError: The file cannot be read, is larger, or is no regular file.
    """
    require_regular_file(path, remedy)
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); {remedy}") from error
    if len(data) > most:
        raise DataError(f"{path}: must have at most {most:,} bytes; {remedy}")
    return data


def read_text(path: Path, remedy: str, most: int = LARGEST_FILE) -> str:
    """Read a file as UTF-8, whatever the locale is.

    Args:
        path: The file.
        remedy: What to do if it cannot be used.
        most: Largest size in bytes.

    Raises:
        DataError: As `read_bytes`, or the file is not UTF-8.
    """
    try:
        return read_bytes(path, remedy, most).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}); {remedy}") from error


def parse_json(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """Parse JSON of bounded nesting and integers.

    Args:
        text: The JSON.
        allow_nan: Whether it may hold NaN and infinity.

    Raises:
        ValueError: The text is something else.
    """
    from pydantic_core import from_json

    content = from_json(text, allow_inf_nan=allow_nan)
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _children(value, allow_nan)]
        if not level:
            return content
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def read_archived_json(archive: zipfile.ZipFile, name: str) -> Any:
    """Read JSON from an archive, of at most `LARGEST_FILE` bytes when unpacked.

    Raises:
        KeyError: The archive has no such entry.
        ValueError: The entry is larger, or something else.
    """
    size = archive.getinfo(name).file_size
    if size > LARGEST_FILE:
        raise ValueError(f"{name} must be below {LARGEST_FILE:,} bytes, not {size:,}")
    return parse_json(archive.read(name))


def _children(value: Any, allow_nan: bool) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return value
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ValueError(f"an integer exceeds {LARGEST_INTEGER}")
    if isinstance(value, float) and not (allow_nan or math.isfinite(value)):
        raise ValueError("a number is not finite")
    return []


def read_record(
    path: Path, kind: type[Record], remedy: str, most: int = LARGEST_FILE
) -> Record:
    """Read a JSON file as a pydantic model, or as another type pydantic validates.

    Args:
        path: The file.
        kind: The type of the content.
        remedy: What to do if it cannot be used.
        most: Largest size in bytes.

    Raises:
        DataError: As `read_bytes`, or the content is not of this type. The message
            names the first wrong entry.
    """
    data = read_bytes(path, remedy, most)
    try:
        return parse_record(data, kind)
    except ValueError as error:
        raise DataError(f"{path}: cannot be used ({error}); {remedy}") from error


def parse_record(text: str | bytes, kind: type[Record]) -> Record:
    """Parse JSON as a pydantic model, or as another type pydantic validates.

    Raises:
        ValueError: The text is something else. One line names the first error.
    """
    from pydantic import ValidationError

    content = parse_json(text)
    try:
        return _adapter(cast(Hashable, kind)).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"`{place}`: {first['msg']}" if place else first["msg"]
        raise ValueError(message) from None


@functools.cache
def _adapter(kind: Any) -> "TypeAdapter":
    """The validator of a type, which takes milliseconds to build."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def read_arrays(
    path: Path, remedy: str, most: int = LARGEST_FILE
) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file.

    Args:
        path: The file.
        remedy: What to do if it cannot be used.
        most: Largest size of all arrays in bytes; nothing is unpacked beyond it.

    Raises:
        DataError: The file is damaged, holds Python objects or more than `most`.
    """
    require_regular_file(path, remedy)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > most:
                raise ValueError(f"its arrays have {size:,} bytes, not {most:,}")
            return {
                entry.filename.removesuffix(".npy"): _array(archive.read(entry))
                for entry in archive.infolist()
            }
    except (MemoryError, VL3DError):
        raise
    # Damage shows as BadZipFile, zlib.error, EOFError, NotImplementedError, ...
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); {remedy}"
        ) from error


def _array(data: bytes) -> np.ndarray:
    """An array from the bytes of an npy file, which are exactly as long as needed."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(stream)
    else:
        header = np.lib.format.read_array_header_2_0(stream)
    shape, fortran_order, dtype = header
    left = len(data) - stream.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != left:
        raise ValueError("an array does not have the size that its header claims")
    array = np.frombuffer(data, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if fortran_order else "C")
