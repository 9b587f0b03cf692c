"""Export of kernels: points, weights, manifest, PLY file and plots.

VL3D's layout, one folder per layer and stage (``INIT_<layer>``,
``TRAINED_<layer>``)::

    Q.csv          kernel points, (mq, n_x), meters, numpy.loadtxt reads it
    W0.csv ...     weights of each block, (mq, D)
    manifest.json  shapes, sigma, radii, units, layer, versions
    kernel.ply     kernel points colored by |W|, for CloudCompare and Open3D
    *.png          structure, weights, and their change since `past`
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.kernels.files import (
    MANIFEST,
    StoredKernel,
    checked_prefix,
    kernel_folders,
    read_kernel,
    read_kernels,
)
from vl3d_lite.system import __version__, replacing_entries

__all__ = [
    "StoredKernel",
    "export_kernel",
    "export_model_kernels",
    "kernel_folders",
    "read_kernel",
    "read_kernels",
    "weight_norms",
]

FORMAT = "vl3d-lite kernel 1"
_DIGITS = 7  # decimals, as VL3D writes them
# Five samples of viridis of matplotlib, from dark to bright.
_PALETTE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def export_kernel(
    directory: Path | str,
    Q: np.ndarray,
    W: np.ndarray,
    *,
    name: str,
    sigma: float,
    shell_radii: Sequence[float],
    shell_points: Sequence[int],
    out_prefix: str | None = None,
    past: np.ndarray | None = None,
    extra: Mapping[str, Any] | None = None,
    plots: bool = True,
) -> Path:
    """Write the files of one kernel.

    A new folder appears completely or not at all. In an existing folder the files
    of the kernel are replaced one by one, and other files stay.

    Args:
        directory: Folder to write to; it is created where it is missing.
        Q: ``(mq, n_x)`` kernel points in meters, ``n_x`` 2 or 3.
        W: ``(blocks, mq, D)`` weights.
        name: Name of the layer, for the manifest and titles.
        sigma: Influence distance in meters.
        shell_radii: Radius of each shell, in meters.
        shell_points: Kernel points on each shell.
        out_prefix: Prefix of every file name.
        past: Earlier ``W``; the change is drawn, and its norm is recorded.
        extra: Further entries of the manifest, such as ``spec_hash``.
        plots: Whether to draw PNG files.

    Returns:
        `directory`.

    Raises:
        DeepLearningException: Shapes do not match, or a value is not finite.
        ResourceError: The folder cannot be written.
    """
    directory, prefix = Path(directory), checked_prefix(out_prefix)
    Q, W, past = _checked(name, Q, W, past)
    manifest = {
        **(extra or {}),
        "layer": name,
        "sigma": sigma,
        "shell_radii": shell_radii,
        "shell_points": shell_points,
        **_file_facts(prefix, Q, W, past),
    }
    with replacing_entries(directory, last=f"{prefix}{MANIFEST}") as draft:
        _write_files(draft, prefix, Q, W, manifest)
        if plots:
            from vl3d_lite.kernels.plots import plot_kernel

            plot_kernel(draft, Q, W, past, name=name, sigma=sigma, prefix=prefix)
        names = {path.name for path in draft.iterdir()}
    # After the manifest moved: until then the old one names these files.
    _remove_stale(directory, prefix, names)
    return directory


def export_model_kernels(
    layers: Iterable[tuple[str, np.ndarray, np.ndarray, Mapping[str, Any]]],
    directory: Path | str,
    stage: str,
    *,
    past: Mapping[str, np.ndarray] | None = None,
    extra: Mapping[str, Any] | None = None,
    plots: bool = True,
) -> list[Path]:
    """Write the kernel of every layer to ``directory/<stage>_<layer>``.

    Args:
        layers: Name, Q, W, and a mapping with ``sigma``, ``shell_radii`` and
            ``shell_points``; its other entries are written to the manifest.
        directory: The ``kernels`` folder of a run.
        stage: Stage of training: ``INIT``, ``TRAINED`` or, e.g., ``EPOCH_010``.
        past: Earlier weights by layer name.
        extra: Further entries of every manifest.
        plots: Whether to draw PNG files.

    Returns:
        The folders, in the order of `layers`.

    Raises:
        DeepLearningException: Two layers share a folder, shapes do not match, or a
            value is not finite.
        ResourceError: A folder cannot be written.
    """
    folders: list[Path] = []
    for name, Q, W, meta in layers:
        folder = Path(directory) / f"{stage}_{re.sub(r'[^0-9A-Za-z_.-]', '_', name)}"
        if folder in folders:
            raise DeepLearningException(
                f"{folder}: two layers would be exported to this folder; "
                f"give layer {name!r} a different name"
            )
        meta = dict(meta)
        kernel = {
            key: meta.pop(key) for key in ("sigma", "shell_radii", "shell_points")
        }
        export_kernel(
            folder,
            Q,
            W,
            name=name,
            past=(past or {}).get(name),
            extra={**(extra or {}), **meta, "stage": stage},
            plots=plots,
            **kernel,
        )
        folders.append(folder)
    return folders


def weight_norms(W: np.ndarray) -> np.ndarray:
    """``(mq,)`` Euclidean norm of the weights of each kernel point, mean of blocks."""
    return np.linalg.norm(W, axis=-1).mean(axis=0)


def _checked(
    name: str, Q: np.ndarray, W: np.ndarray, past: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    Q, W = np.asarray(Q, np.float64), np.asarray(W, np.float64)
    if Q.ndim != 2 or Q.shape[1] not in (2, 3) or len(Q) < 1:
        raise DeepLearningException(
            f"layer {name!r}: kernel points must have shape (mq, 2) or (mq, 3). "
            f"Received: {Q.shape}"
        )
    if W.ndim != 3 or W.shape[1] != len(Q) or W.size < 1:
        raise DeepLearningException(
            f"layer {name!r}: weights must have shape (blocks, {len(Q)}, channels). "
            f"Received: {W.shape}"
        )
    if past is not None:
        past = np.asarray(past, np.float64)
        if past.shape != W.shape:
            raise DeepLearningException(
                f"layer {name!r}: past weights must have the shape of the current "
                f"weights, {W.shape}. Received: {past.shape}; use the weights of the "
                "same model"
            )
    for what, array in (("kernel points", Q), ("weights", W), ("past weights", past)):
        if array is not None and not np.isfinite(array).all():
            raise DeepLearningException(
                f"layer {name!r}: {np.count_nonzero(~np.isfinite(array))} of "
                f"{array.size} {what} are not finite; the training diverged; "
                "export an earlier checkpoint"
            )
    return Q, W, past


def _file_facts(
    prefix: str, Q: np.ndarray, W: np.ndarray, past: np.ndarray | None
) -> dict[str, Any]:
    """The entries of the manifest that follow from the arrays."""
    facts = {
        "format": FORMAT,
        "units": "meters",
        "Q": {"file": f"{prefix}Q.csv", "shape": Q.shape},
        "W": {"files": [f"{prefix}W{b}.csv" for b in range(len(W))], "shape": W.shape},
        "min_distance": _min_distance(Q),
        "weight_norm": np.linalg.norm(W, axis=(1, 2)),
        "versions": {"vl3d_lite": __version__, **_versions("keras", "numpy")},
    }
    if past is not None:
        facts["change_norm"] = np.linalg.norm(W - past, axis=(1, 2))
    return facts


def _write_files(
    draft: Path, prefix: str, Q: np.ndarray, W: np.ndarray, manifest: dict[str, Any]
) -> None:
    np.savetxt(draft / f"{prefix}Q.csv", Q, fmt=f"%.{_DIGITS}f")
    for file, block in zip(manifest["W"]["files"], W, strict=True):
        np.savetxt(draft / file, block, fmt=f"%.{_DIGITS}f")
    text = json.dumps(manifest, indent=2, default=_plain)
    (draft / f"{prefix}{MANIFEST}").write_text(text + "\n", encoding="utf-8")
    ply = _ply(manifest["layer"], Q, W)
    (draft / f"{prefix}kernel.ply").write_text(ply, encoding="ascii")


def _remove_stale(directory: Path, prefix: str, names: set[str]) -> None:
    """Remove the files of an earlier export that the new one does not replace."""
    stale = re.compile(re.escape(prefix) + r"(W\d+\.csv|Wdiff_\w+\.png)")
    for file in directory.iterdir():
        if file.name not in names and stale.fullmatch(file.name):
            file.unlink()


def _ply(name: str, Q: np.ndarray, W: np.ndarray) -> str:
    norms = weight_norms(W)
    share = (norms - norms.min()) / max(np.ptp(norms), np.finfo(float).tiny)
    stops = np.linspace(0, 1, len(_PALETTE))
    colors = np.stack([np.interp(share, stops, c) for c in zip(*_PALETTE, strict=True)])
    points = np.pad(Q, ((0, 0), (0, 3 - Q.shape[1])))
    ascii_name = name.encode("ascii", "replace").decode().replace("\n", " ")
    header = [
        "ply",
        "format ascii 1.0",
        f"comment kernel of layer {ascii_name}, meters",
        "comment scalar_weight_norm: norm of the weights, mean over blocks",
        f"element vertex {len(Q)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {color}" for color in ("red", "green", "blue")),
        "property float scalar_weight_norm",
        "end_header",
    ]
    rows = [
        f"{x:.7f} {y:.7f} {z:.7f} {r:.0f} {g:.0f} {b:.0f} {norm:.7g}"
        for (x, y, z), (r, g, b), norm in zip(points, colors.T, norms, strict=True)
    ]
    return "\n".join([*header, *rows, ""])


def _min_distance(Q: np.ndarray) -> float | None:
    if len(Q) < 2:
        return None
    distances = np.linalg.norm(Q[:, None] - Q[None], axis=-1)
    return float(distances[~np.eye(len(Q), dtype=bool)].min())


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plain(value: Any) -> Any:
    """Convert NumPy numbers and arrays to types of JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)
