"""Read the kernel folders that `export`, or VL3D, wrote."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.errors import DataError, DeepLearningException

__all__ = ["Kernel", "kernel_folders", "read_kernel", "read_kernels"]

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Kernel:
    """Kernel points ``Q`` (mq, n_x) in meters, weights ``W`` (blocks, mq, D).

    ``manifest`` is empty for a folder that VL3D itself wrote.
    """

    Q: np.ndarray
    W: np.ndarray
    manifest: dict[str, Any] = field(default_factory=dict)


def read_kernel(directory: Path | str, out_prefix: str | None = None) -> Kernel:
    """Read a folder that `export_kernel`, or VL3D, wrote.

    Raises:
        DataError: A file is missing or broken, or shapes disagree.
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
                f"{file}: must hold {len(Q)} x {expected[1]} weights, one row a "
                f"kernel point. Received: {block.shape[0]} x {block.shape[1]}; "
                "export the kernel anew"
            )
    if manifest and Q.shape != tuple(manifest["Q"]["shape"]):
        raise DataError(
            f"{directory / prefix}Q.csv: has shape {Q.shape}, but the manifest says "
            f"{tuple(manifest['Q']['shape'])}; export the kernel anew"
        )
    return Kernel(Q, np.stack(blocks), manifest)


def kernel_folders(directory: Path | str) -> dict[tuple[str, str], Path]:
    """Find the kernel folders in a run's ``kernels``: (stage, layer) to path.

    Stages stand in the order INIT, epochs, TRAINED; layers by name.
    """
    found: dict[tuple[str, str], Path] = {}
    for folder in sorted(Path(directory).iterdir()):
        split = re.fullmatch(r"(INIT|TRAINED|EPOCH_\d+|[^_.]+)_(.+)", folder.name)
        if split and (folder / "Q.csv").is_file():
            stage, layer = split.groups()
            manifest = _read_manifest(folder / MANIFEST)
            key = manifest.get("stage", stage), manifest.get("layer", layer)
            found[key] = folder
    order = {"INIT": 0, "TRAINED": 2}
    return dict(
        sorted(found.items(), key=lambda item: (order.get(item[0][0], 1), item))
    )


def read_kernels(directory: Path | str, stage: str) -> dict[str, Kernel]:
    """Read one stage of a run's ``kernels`` folder, by layer name."""
    return {
        layer: read_kernel(folder)
        for (found, layer), folder in kernel_folders(directory).items()
        if found == stage
    }


def checked_prefix(out_prefix: str | None) -> str:
    """Give back `out_prefix`, or "" for None; refuse one that names a folder."""
    prefix = out_prefix or ""
    if "/" in prefix or "\\" in prefix:
        raise DeepLearningException(
            "`out_prefix` must be the beginning of a file name; give the folder as "
            f"`dir_path`. Received: {prefix!r}"
        )
    return prefix


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files, shape = manifest["W"]["files"], manifest["W"]["shape"]
        whole = len(files) == shape[0] and len(shape) == 3
        whole = whole and len(manifest["Q"]["shape"]) == 2
        whole = whole and all(Path(file).name == file for file in files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: is no kernel manifest ({error}); export the kernel anew"
        ) from error
    if not whole:
        raise DataError(f"{path}: shapes and files disagree; export the kernel anew")
    return manifest


def _read_matrix(path: Path) -> np.ndarray:
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        matrix = np.array([row for row in rows if row], dtype=np.float64)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: missing; a kernel folder needs Q.csv and W0.csv, W1.csv, ...: "
            "export the kernel anew"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: must hold numbers, as many in every line ({error}); "
            "export the kernel anew"
        ) from error
    if matrix.ndim != 2:
        raise DataError(f"{path}: holds no numbers; export the kernel anew")
    return matrix


def _glob_escape(text: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", text)
