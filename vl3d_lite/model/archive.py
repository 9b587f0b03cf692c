"""Bounds of a ``.keras`` file, checked before Keras builds what the file claims."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vl3d_lite.errors import DataError, VL3DError
from vl3d_lite.system import read_archived_json, require_regular_file

# Weights hardly compress: Keras stores them as they are.
HIGHEST_COMPRESSION = 100
# Axes of inputs are points of a field; all other numbers are channels and the like.
LARGEST_AXIS, LARGEST_NUMBER = 2**24, 2**16
MOST_KERNEL_POINTS = 1024  # a spec allows 8 shells of 128
_SHAPES = ("shape", "batch_shape", "input_shape", "shapes", "input_shapes")
_FREE = ("shared_object_id", "seed")
_REMEDY = "restore it from a copy, or train again"


def require_bounded(path: Path) -> None:
    """Check that a model file claims no more than a network can need.

    Raises:
        DataError: The file is no such archive, or a part or a number in it is larger.
    """
    import h5py

    require_regular_file(path, _REMEDY)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_numbers(read_archived_json(archive, "config.json"), "")
            weights = archive.getinfo("model.weights.h5")
            if weights.file_size > HIGHEST_COMPRESSION * path.stat().st_size:
                raise ValueError("its weights unpack to an implausible size")
            with archive.open(weights) as stream, h5py.File(stream) as store:
                claimed = sum(_sizes(store))
            if claimed > weights.file_size:
                raise ValueError("its weights claim more bytes than there are")
    except (MemoryError, VL3DError):
        raise
    # Damage shows as BadZipFile, zlib.error, NotImplementedError, OSError, ...
    except Exception as error:
        raise DataError(
            f"{path}: not a Keras model (.keras) of this program, or damaged "
            f"({error}); {_REMEDY}"
        ) from error


def _check_numbers(value: Any, key: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_numbers(inner, name)
    elif isinstance(value, list):
        if key == "shell_points":
            points = sum(number for number in value if isinstance(number, int))
            if points > MOST_KERNEL_POINTS:
                raise ValueError(f"a kernel of {points:,} points is implausible")
        for inner in value:
            _check_numbers(inner, key)
    elif isinstance(value, int) and key not in _FREE:
        most = LARGEST_AXIS if key in _SHAPES else LARGEST_NUMBER
        if abs(value) > most:
            raise ValueError(f"`{key}` of {value:,} is implausible")


def _sizes(store: Any) -> Iterator[int]:
    """The bytes of each array of the weights."""
    sizes: list[int] = []

    def add(_name: str, item: Any) -> None:
        if hasattr(item, "nbytes"):
            sizes.append(item.nbytes)

    store.visititems(add)
    return iter(sizes)
