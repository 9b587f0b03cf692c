"""Draw the pictures of docs/radii.md from the simulated town in data/.

python docs/pictures/draw.py [--output FOLDER]
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import prepare_cloud, reduce_cloud
from vl3d_lite.spec.schema.spec import Spec

HERE = Path(__file__).parent
TOWN = HERE.parents[1] / "data/town_train.laz"
CLASSES = {"ground": [2], "vegetation": [3, 4, 5], "building": [6], "other": [1]}
COLORS = np.array(["#a6763d", "#3a9a3a", "#c0392b", "#7f56c9", "#bbbbbb"])
STRIP = 1.5  # m, depth of a cross-section
LEFT, WIDTH = 20.0, 45.0  # m, its part of the town
GRIDS = 0.4, 1.0, 2.5
KERNEL = 2.1  # radius of a kernel in grid sizes, the default of a spec


def section(cloud: PointCloud, y: float, depth: float = STRIP) -> np.ndarray:
    """Rows of the points of a vertical slice along x, ``(m,)``."""
    x = cloud.local[:, 0] - LEFT
    near = np.abs(cloud.local[:, 1] - y) < depth / 2
    return np.flatnonzero(near & (x > 0) & (x < WIDTH))


def best_section(cloud: PointCloud) -> float:
    """The y of the slice whose rarest class has the most points."""
    candidates = np.arange(5.0, 150.0, 2.5)
    counts = [
        np.bincount(cloud.labels[section(cloud, y)], minlength=4).min()
        for y in candidates
    ]
    return float(candidates[int(np.argmax(counts))])


def draw_grids(cloud: PointCloud, path: Path) -> None:
    """One slice, as scanned and as cells of three sizes."""
    y = best_section(cloud)
    figure, axes = plt.subplots(4, 1, figsize=(8, 7), sharex=True, sharey=True)
    versions = [("as scanned", cloud)]
    versions += [(f"cells of {g:g} m", reduce_cloud(cloud, g)[0]) for g in GRIDS]
    for axis, (title, version), size, grid in zip(
        axes, versions, (1.5, 6, 20, 60), (0, *GRIDS), strict=True
    ):
        rows = section(version, y, max(STRIP, grid))
        axis.scatter(
            version.local[rows, 0] - LEFT,
            version.local[rows, 2] - cloud.local[:, 2].min(),
            s=size,
            c=COLORS[version.labels[rows]],
            linewidths=0,
        )
        axis.set_title(f"{title}: {len(rows)} points", fontsize=9, loc="left")
        axis.set_aspect("equal")
    axes[-1].set_xlabel("m")
    save(figure, path)


def draw_kernels(cloud: PointCloud, path: Path) -> None:
    """The kernels of four stages over one slice."""
    y = best_section(cloud)
    cells = reduce_cloud(cloud, 0.4)[0]
    rows = section(cells, y)
    x, z = cells.local[rows, 0] - LEFT, cells.local[rows, 2] - cloud.local[:, 2].min()
    figure, axis = plt.subplots(figsize=(8, 3))
    axis.scatter(x, z, s=5, c=COLORS[cells.labels[rows]], linewidths=0)
    for stage in range(4):
        center = np.argmin(np.abs(x - (5 + 10 * stage)) - 0.001 * z)
        radius = KERNEL * 0.4 * 2**stage
        axis.add_patch(Circle((x[center], z[center]), radius, fill=False, lw=1.5))
        axis.annotate(
            f"stage {stage}: {radius:.1f} m",
            (x[center], z[center] - radius - 0.5),
            ha="center",
            va="top",
            fontsize=8,
        )
    axis.set_aspect("equal")
    axis.set_ylim(1, 22)
    axis.set_xlabel("m")
    save(figure, path)


def draw_fields(cloud: PointCloud, path: Path) -> None:
    """The extent of fields in the middle and at the border of the town."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 4.2), sharex=True, sharey=True)
    for axis, (grid, points, radius) in zip(
        axes, ((0.4, 2048, 30), (0.4, 4096, 30), (0.8, 4096, 30)), strict=True
    ):
        extractor = FieldExtractor(*prepared(cloud, grid, points, radius))
        xyz = extractor.prepared.xyz
        some = xyz[:: max(1, len(xyz) // 20_000)]
        axis.scatter(*some[:, :2].T, s=0.3, c="#cccccc", linewidths=0)
        extents = []
        for center, color in (((60, 80), "#1f6fb2"), ((3, 30), "#d9730d")):
            middle = np.array([*center, 0.0])
            rows = extractor.select(middle)
            axis.scatter(*xyz[rows, :2].T, s=0.6, c=color, linewidths=0)
            extents.append(np.linalg.norm(xyz[rows, :2] - center, axis=1).max())
        axis.set_title(
            f"{points} cells of {grid:g} m:\n{extents[0]:.0f} m, at the border "
            f"{extents[1]:.0f} m",
            fontsize=9,
        )
        axis.set_aspect("equal")
    axes[0].set_ylabel("m")
    save(figure, path)


def prepared(cloud: PointCloud, grid: float, points: int, radius: float):
    """A prepared cloud and its spec, as `FieldExtractor` takes them."""
    spec = Spec.model_validate(
        {
            "classes": {
                name: {"codes": codes, "output_code": codes[-1]}
                for name, codes in CLASSES.items()
            },
            "features": [{"name": "vertical"}],
            "fields": {"radius": radius, "grid_size": grid},
            "model": {"stages": [{"points": points, "channels": 8, "neighbors": 1}]},
        }
    )
    return prepare_cloud(cloud, spec), spec


def save(figure, path: Path) -> None:
    """Write a picture; without metadata its bytes repeat."""
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


PICTURES = {
    "grids.png": draw_grids,
    "kernels.png": draw_kernels,
    "fields.png": draw_fields,
}


def main(folder: Path = HERE) -> None:
    """Draw all pictures into a folder."""
    cloud = read_las(TOWN, class_codes=CLASSES)
    for name, draw in PICTURES.items():
        draw(cloud, folder / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE)
    main(parser.parse_args().output)
