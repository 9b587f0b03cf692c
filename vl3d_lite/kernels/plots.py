"""Plots of a kernel: structure, weights as matrix and histogram, change.

File names are those of VL3D, as PNG: ``Qinit``, ``Winit_mat``, ``Winit_hist`` without
past weights; ``Qend``, ``Wend_mat``, ``Wend_hist``, ``Wdiff_mat``, ``Wdiff_hist``
with them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_kernel"]

_ANGLES = np.linspace(0, 2 * np.pi, 41)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=-1)


def plot_kernel(
    directory: Path,
    Q: np.ndarray,
    W: np.ndarray,
    past: np.ndarray | None,
    *,
    name: str,
    sigma: float,
    prefix: str = "",
) -> list[Path]:
    """Draw the points and the weights of a kernel, and the change of the weights.

    Args:
        directory: An existing folder.
        Q: ``(mq, n_x)`` kernel points in meters.
        W: ``(blocks, mq, D)`` weights.
        past: Earlier weights of the same shape, or None.
        name: Name of the layer, for titles.
        sigma: Influence distance in meters, the radius of the spheres.
        prefix: Prefix of every file name.

    Returns:
        The written files.
    """
    when = "init" if past is None else "end"
    figures = {
        f"Q{when}": _structure(Q, sigma, f"{name}: {len(Q)} kernel points"),
        f"W{when}_mat": _matrices(W, f"{name}: weights"),
        f"W{when}_hist": _histograms(W, f"{name}: weights"),
    }
    if past is not None:
        figures["Wdiff_mat"] = _matrices(W - past, f"{name}: change of the weights")
        figures["Wdiff_hist"] = _histograms(W - past, f"{name}: change of the weights")
    files = []
    for stem, figure in figures.items():
        files.append(directory / f"{prefix}{stem}.png")
        figure.savefig(files[-1], format="png", metadata={"Software": None})
    return files


def _new_figure(title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=110, layout="constrained")
    figure.suptitle(title, parse_math=False)
    return figure


def _structure(Q: np.ndarray, sigma: float, title: str) -> "Figure":
    from matplotlib.collections import LineCollection
    from mpl_toolkits.mplot3d.art3d import (  # type: ignore[import-untyped]
        Line3DCollection,
    )

    figure = _new_figure(f"{title}, influence distance {sigma:.4g} m")
    flat = Q.shape[1] == 2
    # Matplotlib types plain axes only, not those of a 3D projection.
    axes: Any = figure.add_subplot(projection=None if flat else "3d")
    # Three great circles represent a sphere: fast to draw, and transparent.
    planes = [(0, 1)] if flat else [(0, 1), (0, 2), (1, 2)]
    circles = np.zeros((len(planes), len(_ANGLES), Q.shape[1]))
    for circle, plane in zip(circles, planes, strict=True):
        circle[:, plane] = sigma * _CIRCLE
    lines = (Q[:, None, None, :] + circles).reshape(-1, len(_ANGLES), Q.shape[1])
    collection: Any = LineCollection if flat else Line3DCollection
    axes.add_collection(collection(lines, colors="tomato", linewidths=0.6, alpha=0.25))
    marks = {} if flat else {"depthshade": False}
    axes.scatter(*Q.T, s=36, c="firebrick", edgecolors="black", label="Q", **marks)
    axes.scatter(
        *np.zeros((Q.shape[1], 1)),
        s=110,
        c="gold",
        edgecolors="black",
        label="center",
        **marks,
    )
    reach = float(np.abs(Q).max() + sigma) * 1.02
    for axis in "xyz"[: Q.shape[1]]:
        axes.set(**{f"{axis}lim": (-reach, reach), f"{axis}label": f"{axis} (m)"})
    axes.set_aspect("equal")
    axes.legend(loc="upper right")
    return figure


def _panels(figure: "Figure", blocks: int) -> np.ndarray:
    columns = int(np.ceil(np.sqrt(blocks)))
    rows = -(-blocks // columns)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in panels[blocks:]:
        spare.set_axis_off()
    return panels[:blocks]


def _matrices(W: np.ndarray, title: str) -> "Figure":
    figure = _new_figure(title)
    panels = _panels(figure, len(W))
    limit = max(float(np.abs(W).max()), 1e-7)  # the last digit of the CSV files
    for number, (axes, block) in enumerate(zip(panels, W, strict=True)):
        image = axes.imshow(
            block,
            origin="lower",
            aspect="auto",
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
        )
        axes.set(title=f"block {number}", xlabel="channel", ylabel="kernel point")
        axes.locator_params(integer=True)
    figure.colorbar(image, ax=list(panels))
    return figure


def _histograms(W: np.ndarray, title: str) -> "Figure":
    figure = _new_figure(title)
    panels = _panels(figure, len(W))
    for number, (axes, block) in enumerate(zip(panels, W.round(7), strict=True)):
        axes.hist(block.ravel(), bins=40, color="steelblue")
        axes.set(title=f"block {number}", xlabel="weight", ylabel="count")
    return figure
