"""Draw the picture of the README: a classified cloud beside the report of its run.

    python docs/pictures/draw_report.py [RUN] [--output FILE]

Without RUN the script first runs ``configs/quickstart.yaml``, which takes a few
minutes. The cloud, the scores and the maps are those of the run folder.
"""

import argparse
import base64
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import laspy
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import minimum_filter

from vl3d_lite.report.palette import class_palette

HERE = Path(__file__).parent
QUICKSTART = HERE.parents[1] / "configs/quickstart.yaml"
AZIMUTH, ELEVATION = np.radians(35.0), np.radians(38.0)  # direction of view
RENDERED = 900  # pixels, width of the rendered cloud
SPLAT = 2  # pixels around a point that it also covers
SHADE = 2.0  # m, depth difference that darkens a pixel by a factor of e
DARKEST = 0.45  # brightness of an edge
INK, FAINT = "#1f2933", "#d9dee5"


def render(xyz: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Picture of a cloud in oblique view, as ``(rows, columns, 3)`` float in 0..1.

    Pixels behind their surroundings are darkened (eye-dome lighting), which makes
    edges visible without normals.
    """
    x, y, z = (xyz - xyz.mean(axis=0)).T
    across = np.cos(AZIMUTH) * x - np.sin(AZIMUTH) * y
    away = np.sin(AZIMUTH) * x + np.cos(AZIMUTH) * y
    up = np.sin(ELEVATION) * away + np.cos(ELEVATION) * z
    depth = np.cos(ELEVATION) * away - np.sin(ELEVATION) * z
    scale = (RENDERED - 20) / np.ptp(across)
    column = ((across - across.min()) * scale).astype(int) + 10
    row = ((up.max() - up) * scale).astype(int) + 10
    shape = row.max() + 11, RENDERED
    nearest = np.full(shape, np.inf)
    picture = np.ones((*shape, 3))
    # Far points first, so that near ones cover them.
    order = np.argsort(-depth)
    row, column, depth, colors = row[order], column[order], depth[order], colors[order]
    for down in range(-SPLAT, SPLAT + 1):
        for right in range(-SPLAT, SPLAT + 1):
            at = row + down, column + right
            closer = depth <= nearest[at]
            at = at[0][closer], at[1][closer]
            nearest[at], picture[at] = depth[closer], colors[closer]
    seen = np.isfinite(nearest)
    filled = np.where(seen, nearest, 1e9)
    behind = np.where(seen, filled - minimum_filter(filled, size=7), 0.0)
    shade = np.exp(-np.clip(behind - 0.4, 0, None) / SHADE)
    return picture * (DARKEST + (1 - DARKEST) * shade[..., None])


def report_pictures(page: str) -> dict[str, np.ndarray]:
    """Pictures of a report by the first words of their descriptions."""
    found = re.findall(r'data:image/png;base64,([A-Za-z0-9+/=]+)" alt="([^"]+)"', page)
    return {
        text.split(",")[0].split(":")[0]: plt.imread(io.BytesIO(base64.b64decode(data)))
        for data, text in reversed(found)
    }


def draw_cloud(axes: Axes, run: Path, palette: dict[int, str]) -> None:
    """The first predicted cloud, colored by class."""
    path = sorted((run / "predictions").glob("*.laz"))[0]
    las = laspy.read(path)
    codes = np.asarray(las["prediction"])
    colors = np.zeros((len(codes), 3))
    for code, color in palette.items():
        colors[codes == code] = matplotlib.colors.to_rgb(color)
    axes.imshow(render(np.asarray(las.xyz), colors))
    axes.axis("off")


def draw_scores(axes: Axes, metrics: dict, colors: dict[str, str]) -> None:
    """IoU of each class as a bar, below the scores of all classes."""
    pooled = metrics["pooled"]
    names = metrics["class_names"]
    for row, name in enumerate(names):
        iou = pooled["per_class"][name]["iou"]
        axes.barh(-row, 1.0, color=FAINT, height=0.5)
        axes.barh(-row, iou, color=colors[name], height=0.5)
        axes.text(-0.02, -row, name, ha="right", va="center", color=INK, fontsize=11)
        axes.text(1.02, -row, f"{iou:.3f}", va="center", color=INK, fontsize=11)
    head = f"mIoU {pooled['mean_iou']:.3f}    OA {pooled['overall_accuracy']:.3f}"
    axes.text(-0.34, 1.05, head, color=INK, fontsize=15, weight="bold")
    axes.set_xlim(-0.35, 1.25)
    axes.set_ylim(-len(names) + 0.4, 1.4)
    axes.axis("off")


def draw(run: Path) -> Figure:
    """The whole picture, from a run folder."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    spec = yaml.safe_load((run / "spec.yaml").read_text(encoding="utf-8"))
    names = metrics["class_names"]
    classes = [spec["classes"][name] for name in names]
    codes = [entry.get("output_code") or entry["codes"][0] for entry in classes]
    colors = dict(zip(names, class_palette(names), strict=True))
    pictures = report_pictures((run / "report.html").read_text(encoding="utf-8"))
    figure = plt.figure(figsize=(16, 6.8), facecolor="white")
    figure.text(0.012, 0.95, "classified cloud", fontsize=13, color=INK)
    figure.text(0.615, 0.95, "report.html", fontsize=13, color=INK)
    draw_cloud(
        figure.add_axes((0.0, 0.0, 0.59, 0.94)),
        run,
        dict(zip(codes, colors.values(), strict=True)),
    )
    draw_scores(figure.add_axes((0.615, 0.50, 0.165, 0.42)), metrics, colors)
    for name, place in (
        ("Confusion matrix", (0.805, 0.47, 0.19, 0.48)),
        ("Prediction from above", (0.615, 0.06, 0.12, 0.36)),
        ("Errors from above", (0.745, 0.06, 0.12, 0.36)),
        ("Confidence from above", (0.875, 0.06, 0.12, 0.36)),
    ):
        axes = figure.add_axes(place)
        axes.imshow(pictures[name])
        axes.axis("off")
        if name != "Confusion matrix":
            axes.set_title(name.lower(), fontsize=11, color=INK)
    return figure


def main(run: Path | None, target: Path) -> None:
    """Draw the picture of a run, or of a new run of the quickstart spec."""
    with tempfile.TemporaryDirectory() as folder:
        if run is None:
            run = Path(folder) / "town"
            command = [sys.executable, "-m", "vl3d_lite", "run", str(QUICKSTART)]
            subprocess.run([*command, "--run", str(run)], check=True)
        figure = draw(run)
        figure.savefig(target, dpi=100, pil_kwargs={"quality": 88, "optimize": True})
        plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--output", type=Path, default=HERE / "report.jpg")
    arguments = parser.parse_args()
    main(arguments.run, arguments.output)
