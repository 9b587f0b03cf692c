"""The provenance of a run: versions, hardware, hashes of its inputs."""

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import yaml

from vl3d_lite.errors import DataError
from vl3d_lite.system import (
    __version__,
    cached_hash,
    cpu_limit,
    gpu_names,
    physical_memory,
    processor_name,
)
from vl3d_lite.system import (
    file_hash as file_hash,
)

# Packages whose version may change a result.
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "laspy")


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def network_hash(text: str) -> str:
    """SHA-256 of the sections of a spec that the model depends on.

    Args:
        text: The spec as the run folder holds it. It is hashed without the defaults
            of this version, so a default added later does not change the hash.

    Raises:
        DataError: A run cannot have written this text.
    """
    try:
        content = yaml.safe_load(text)
        for free in ("clouds", "prediction", "evaluation", "export", "cache"):
            content.pop(free, None)
        return text_hash(json.dumps(content, sort_keys=True))
    # A date that does not exist, a key of another type, a scalar for a mapping, ...
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"the spec of the run is damaged ({error})") from error


def environment() -> dict:
    """Versions of Python and the packages, and the machine."""
    return {
        "vl3d_lite": __version__,
        "python": platform.python_version(),
        "packages": package_versions(),
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor_name(),
            "processors": cpu_limit(),
            "memory_gib": physical_memory(),
            "gpus": gpu_names(),
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def package_versions() -> dict[str, str]:
    """Versions of `PACKAGES`, of those that are installed."""
    return {name: version for name in PACKAGES if (version := _version(name))}


def inputs(paths: Sequence[Path]) -> list[dict]:
    """Path, size in bytes and SHA-256 of each input file."""
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": cached_hash(path)}
        for path in paths
    ]


def array_hash(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of the values, shapes and types of arrays in order, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
