"""Descriptions of a kernel folder, a run, a model or a point cloud.

No module here imports Keras, so that `inspect` answers within a second.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.clouds import Crs, LasSummary, describe_las, read_las
from vl3d_lite.errors import DataError
from vl3d_lite.evaluation import read_metrics
from vl3d_lite.kernels import (
    MANIFEST,
    StoredKernel,
    kernel_folders,
    kernel_page,
    read_kernel,
    weight_norms,
)
from vl3d_lite.report.model_summary import describe_model
from vl3d_lite.report.text import fact_lines, pairs, sections, short, table
from vl3d_lite.runs import RunFolder, read_history
from vl3d_lite.system import is_draft, reading_remedy, require_usable_path

__all__ = ["inspect_path", "kernel_page"]

_CLOUDS = (".las", ".laz")
PREDICTED = "prediction"


def inspect_path(path: Path | str) -> str:
    """Describe a kernel folder, a run folder, a model or a point cloud.

    Raises:
        DataError: The path does not exist, is of another kind, or is damaged.
    """
    path = Path(path)
    require_usable_path(path)
    try:
        path.stat()  # `exists` takes a circle of links for nothing
        return _describe(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); {reading_remedy(error)}"
        ) from error


def _describe(path: Path) -> str:
    if path.is_dir():
        if (path / "Q.csv").is_file() or (path / MANIFEST).is_file():
            return _describe_kernel(path)
        run = RunFolder(path)
        if run.exists() or run.model.is_file() or run.kernels.is_dir():
            return _describe_run(run)
        if kernel_folders(path):
            return _describe_kernels(path)
    elif not path.is_file():
        raise DataError(f"{path}: is a pipe or a device; name a file or folder")
    elif path.suffix == ".keras" or _starts_with(path, b"PK"):
        return describe_model(path)
    elif path.suffix.lower() in _CLOUDS or _starts_with(path, b"LASF"):
        return _describe_cloud(path)
    raise DataError(
        f"{path}: must be a kernel folder (Q.csv, W0.csv), a run folder (spec.yaml, "
        "run.json), a model (.keras) or a point cloud (.las, .laz)"
    )


def _describe_kernel(path: Path) -> str:
    kernel = read_kernel(path)
    manifest = kernel.manifest
    blocks, mq, channels = kernel.W.shape
    facts = {
        "layer": manifest.get("layer", "unknown (no manifest)"),
        "stage": manifest.get("stage"),
        "kernel points": f"{mq} in {kernel.Q.shape[1]}-D",
        "weights": f"{blocks} blocks x {mq} points x {channels} channels",
        "influence distance": _meters(manifest.get("sigma")),
        "shells": _shells(manifest),
        "minimum distance": _meters(manifest.get("min_distance")),
        "spec": manifest.get("spec_hash"),
        "versions": pairs(manifest.get("versions", {})),
    }
    norms = [f"{value:.4g}" for value in np.linalg.norm(kernel.W, axis=(1, 2))]
    changes = [f"{value:.4g}" for value in manifest.get("change_norm", [])]
    rows = [["block", "|W|", "mean", "std", "min", "max"]]
    rows[0] += ["|change|"] * bool(changes)
    for number, block in enumerate(kernel.W):
        spread = (block.mean(), block.std(), block.min(), block.max())
        rows.append([str(number), norms[number], *map("{:.4g}".format, spread)])
        rows[-1] += changes[number : number + 1]
    points = [["point", *"xyz"[: kernel.Q.shape[1]], "distance", "|W|"]]
    for number, norm in enumerate(weight_norms(kernel.W)):
        values = (*kernel.Q[number], np.linalg.norm(kernel.Q[number]))
        points.append([str(number), *map("{:.3f}".format, values), f"{norm:.4g}"])
    title = f"Kernel folder {path}"
    return sections(title, fact_lines(facts), table(rows), table(points))


def _describe_kernels(path: Path) -> str:
    folders = kernel_folders(path)
    head = "layer stage points channels blocks influence |W| |change|"
    rows = [head.split()]
    first: dict[str, StoredKernel] = {}
    for (stage, layer), folder in sorted(folders.items(), key=lambda item: item[0][1]):
        kernel = read_kernel(folder)
        past = first.setdefault(layer, kernel)
        same = past.W.shape == kernel.W.shape and past is not kernel
        blocks, mq, channels = kernel.W.shape
        rows.append(
            [
                layer,
                stage,
                *map(str, (mq, channels, blocks)),
                _meters(kernel.manifest.get("sigma")) or "",
                f"{np.linalg.norm(kernel.W):.4g}",
                f"{np.linalg.norm(kernel.W - past.W):.4g}" if same else "",
            ]
        )
    return sections(f"Kernels in {path}", table(rows))


def _describe_run(run: RunFolder) -> str:
    parts = [f"Run folder {run.root}"]
    provenance = run.read_provenance()
    if provenance:
        facts = {key: short(value) for key, value in provenance.items()}
        parts.append(fact_lines(facts))
    if run.history.is_file():
        parts.append(_history(run.history))
    if run.metrics.is_file():
        parts.append(_metrics(run.metrics))
    if run.model.is_file():
        parts.append(describe_model(run.model))
    if run.kernels.is_dir() and kernel_folders(run.kernels):
        parts.append(_describe_kernels(run.kernels))
    if run.predictions.is_dir():
        clouds = sorted(
            path
            for path in run.predictions.rglob("*")
            if path.suffix.lower() in _CLOUDS and path.is_file() and not is_draft(path)
        )
        sizes = [["prediction", "MB"]]
        sizes += [[str(p), f"{p.stat().st_size / 1e6:.1f}"] for p in clouds]
        parts.append(table(sizes) if clouds else "no predicted clouds")
    files = (run.spec, run.model, run.features, run.provenance)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        names = ", ".join(missing)
        parts.append(f"missing: {names}; the run cannot predict without them")
    return sections(*parts)


def _history(path: Path) -> str:
    rows = read_history(path)
    if not rows:
        return "history: no epochs"
    last = {key: short(value) for key, value in rows[-1].items() if value}
    return fact_lines(
        {"epochs": len(rows), **{f"last {k}": v for k, v in last.items()}}
    )


def _metrics(path: Path) -> str:
    pooled = read_metrics(path)["pooled"]
    scores = {k: v for k, v in pooled.items() if isinstance(v, int | float)}
    per_class = pooled["per_class"]
    columns = list(next(iter(per_class.values()), {}))
    rows = [["class", *columns]]
    for name, row in per_class.items():
        rows.append([name, *(short(row.get(column)) for column in columns)])
    facts = fact_lines({key: short(value) for key, value in scores.items()})
    return sections(facts, table(rows)) if per_class else facts


def _unit(crs: Crs, meters: float) -> str:
    if not crs.planar:
        return "none, since the CRS is not projected; reproject the cloud"
    return f"{meters:g} m"


def _describe_cloud(path: Path) -> str:
    cloud = describe_las(path, count_codes=True)
    low, high = (tuple(float(v) for v in corner) for corner in cloud.extent)
    extra = set(cloud.extra_dimensions)
    plain = [name for name in cloud.dimensions if name not in extra]
    facts = {
        "version": f"LAS {cloud.version}, point format {cloud.point_format}"
        + (", compressed" if cloud.compressed else ""),
        "points": f"{cloud.points:,}",
        "from": "  ".join(f"{value:,.3f}" for value in low),
        "to": "  ".join(f"{value:,.3f}" for value in high),
        "scale": "  ".join(f"{float(value):g}" for value in cloud.scales),
        "CRS": cloud.crs.name or "not specified",
        "unit of x, y": _unit(cloud.crs, cloud.crs.horizontal),
        "unit of z": _unit(cloud.crs, cloud.crs.vertical),
        "dimensions": ", ".join(plain),
        "extra": ", ".join(cloud.extra_dimensions) or None,
    }
    rows = [["code", "points", "share"]]
    for code, count in sorted((cloud.code_counts or {}).items()):
        share = f"{100 * count / cloud.points:.2f} %"
        rows.append([str(code), f"{count:,}", share])
    tables = [table(rows), *_predicted_codes(path, cloud)]
    return sections(f"Point cloud {path}", fact_lines(facts), *tables)


def _predicted_codes(path: Path, cloud: LasSummary) -> list[str]:
    """The table of the codes that a prediction wrote; empty where there is none."""
    if PREDICTED not in cloud.extra_dimensions:
        return []
    try:
        values = read_las(path, dimensions=[PREDICTED]).attributes[PREDICTED]
    except DataError:  # of coordinates in degrees, say, which no prediction has
        return []
    rows = [[PREDICTED, "points", "share"]]
    for code, count in zip(*np.unique(values, return_counts=True), strict=True):
        rows.append([f"{code:g}", f"{count:,}", f"{100 * count / cloud.points:.2f} %"])
    return [table(rows)]


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _meters(value: Any) -> str | None:
    return None if value is None else f"{value:.4g} m"


def _shells(manifest: dict[str, Any]) -> str | None:
    if not manifest.get("shell_radii") or not manifest.get("shell_points"):
        return None
    shells = zip(manifest["shell_points"], manifest["shell_radii"], strict=False)
    return ", ".join(f"{points} at {radius:.4g} m" for points, radius in shells)
