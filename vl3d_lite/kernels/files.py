"""Reading of kernel folders written by `export` or by VL3D."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vl3d_lite.errors import DataError, DeepLearningException
from vl3d_lite.system import read_record, read_text

__all__ = ["StoredKernel", "kernel_folders", "read_kernel", "read_kernels"]

MANIFEST = "manifest.json"

_Size = Annotated[int, Field(ge=1, le=1_000_000)]


class _Points(BaseModel):
    shape: Annotated[list[_Size], Field(min_length=2, max_length=2)]


class _Weights(BaseModel):
    files: list[str]
    shape: Annotated[list[_Size], Field(min_length=3, max_length=3)]


class _Manifest(BaseModel):
    """The content of ``manifest.json``."""

    model_config = ConfigDict(extra="allow")

    Q: _Points
    W: _Weights
    layer: str = ""
    stage: str = ""
    sigma: float | None = None
    min_distance: float | None = None
    shell_radii: list[float] = []
    shell_points: list[int] = []
    change_norm: list[float] = []
    spec_hash: str | None = None
    versions: dict[str, Any] = {}


@dataclass(frozen=True)
class StoredKernel:
    """A kernel as a kernel folder stores it.

    Attributes:
        Q: ``(mq, n_x)`` float64, kernel points in meters.
        W: ``(blocks, mq, D)`` float64, weights.
        manifest: Content of ``manifest.json``; empty for a folder of VL3D.
    """

    Q: np.ndarray
    W: np.ndarray
    manifest: dict[str, Any] = field(default_factory=dict)


def read_kernel(directory: Path | str, out_prefix: str | None = None) -> StoredKernel:
    """Read a kernel folder written by `export_kernel` or by VL3D.

    Args:
        directory: The folder.
        out_prefix: Prefix of every file name.

    Raises:
        DataError: A file is missing or damaged, or shapes do not match.
        DeepLearningException: `out_prefix` contains a folder.
    """
    directory, prefix = Path(directory), checked_prefix(out_prefix)
    manifest = _read_manifest(directory / f"{prefix}{MANIFEST}")
    Q = _read_matrix(directory / f"{prefix}Q.csv")
    if manifest:
        files = [directory / file for file in manifest["W"]["files"]]
    else:
        found = len(list(directory.glob(f"{_glob_escape(prefix)}W[0-9]*.csv")))
        files = [directory / f"{prefix}W{b}.csv" for b in range(max(found, 1))]
    blocks = [_read_matrix(file) for file in files]
    expected = tuple(manifest["W"]["shape"][1:]) if manifest else blocks[0].shape
    for file, block in zip(files, blocks, strict=True):
        if block.shape != expected or len(block) != len(Q):
            raise DataError(
                f"{file}: must contain {len(Q)} x {expected[1]} weights, one row per "
                f"kernel point. Received: {block.shape[0]} x {block.shape[1]}; "
                "export the kernel again"
            )
    if manifest and Q.shape != tuple(manifest["Q"]["shape"]):
        raise DataError(
            f"{directory / prefix}Q.csv: must have the shape of the manifest, "
            f"{tuple(manifest['Q']['shape'])}. Received: {Q.shape}; export the kernel "
            "again"
        )
    return StoredKernel(Q, np.stack(blocks), manifest)


def kernel_folders(directory: Path | str) -> dict[tuple[str, str], Path]:
    """Find the kernel folders in the ``kernels`` folder of a run.

    Returns:
        Path by (stage, layer); stages in the order INIT, epochs, TRAINED, layers
        by name.

    Raises:
        DataError: A manifest is damaged.
    """
    found: dict[tuple[str, str], Path] = {}
    for folder in sorted(Path(directory).iterdir()):
        split = re.fullmatch(r"(INIT|TRAINED|EPOCH_\d+|[^_.]+)_(.+)", folder.name)
        if split and (folder / "Q.csv").is_file():
            stage, layer = split.groups()
            manifest = _read_manifest(folder / MANIFEST)
            stage = str(manifest.get("stage", stage))
            found[stage, str(manifest.get("layer", layer))] = folder
    order = {"INIT": 0, "TRAINED": 2}
    return dict(
        sorted(found.items(), key=lambda item: (order.get(item[0][0], 1), item))
    )


def read_kernels(directory: Path | str, stage: str) -> dict[str, StoredKernel]:
    """Read the kernels of one stage in the ``kernels`` folder of a run, by layer."""
    return {
        layer: read_kernel(folder)
        for (found, layer), folder in kernel_folders(directory).items()
        if found == stage
    }


def checked_prefix(out_prefix: str | None) -> str:
    """The prefix of file names, "" for None.

    Raises:
        DeepLearningException: `out_prefix` contains a folder.
    """
    prefix = out_prefix or ""
    if "/" in prefix or "\\" in prefix:
        raise DeepLearningException(
            "`out_prefix` must be the beginning of a file name, without a folder; pass "
            f"the folder as `dir_path`. Received: {prefix!r}"
        )
    return prefix


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    manifest = read_record(path, _Manifest, "export the kernel again")
    names_only = all(Path(file).name == file != "" for file in manifest.W.files)
    if len(manifest.W.files) != manifest.W.shape[0] or not names_only:
        raise DataError(
            f"{path}: shapes and files do not match; export the kernel again"
        )
    return manifest.model_dump(exclude_unset=True)


def _read_matrix(path: Path) -> np.ndarray:
    if not path.exists():
        raise DataError(
            f"{path}: not found; a kernel folder requires Q.csv and W0.csv, W1.csv, "
            "...; export the kernel again"
        )
    text = read_text(path, "export the kernel again")
    try:
        rows = [line.split() for line in text.splitlines()]
        matrix = np.array([row for row in rows if row], dtype=np.float64)
    except ValueError as error:
        raise DataError(
            f"{path}: must contain the same number of values in every line "
            f"({error}); export the kernel again"
        ) from error
    if matrix.ndim != 2:
        raise DataError(
            f"{path}: must contain numbers, but is empty; export the kernel again"
        )
    if not np.isfinite(matrix).all():
        raise DataError(f"{path}: must contain finite numbers; export the kernel again")
    return matrix


def _glob_escape(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
