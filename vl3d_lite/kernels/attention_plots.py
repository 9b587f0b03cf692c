"""Plots of attention scores: one matrix per head, and a view from above."""

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_heads", "plot_view"]

_MARK = "#d55e00"


def plot_heads(scores: np.ndarray, title: str) -> bytes:
    """Draw the scores of each head as a matrix, in the order of the points.

    Colors scale with the square root of a score, equally for all heads.

    Args:
        scores: ``(U, n, n)``: head, query, key.
        title: Title of the plot.

    Returns:
        A PNG.
    """
    from matplotlib.colors import PowerNorm

    figure, panels = _panels(len(scores), title)
    norm = PowerNorm(0.5, vmin=0, vmax=max(float(scores.max(initial=0.0)), 1e-7))
    for head, (axes, matrix) in enumerate(zip(panels, scores, strict=True)):
        image = axes.imshow(matrix, cmap="viridis", norm=norm, interpolation="nearest")
        axes.set(title=f"head {head}", xlabel="key", ylabel="query")
        axes.locator_params(integer=True, nbins=5)
    figure.colorbar(image, ax=panels, label="score")
    return _png(figure)


def plot_view(
    xyz: np.ndarray,
    scores: np.ndarray,
    chosen: int,
    title: str,
    *,
    unit: str = "m",
) -> bytes:
    """Draw the scores of one query point for all points, seen from above.

    Args:
        xyz: ``(n, 3)`` float64, in `unit`.
        scores: ``(U, n)``, scores of the query point.
        chosen: Row of the query point, which a cross marks.
        title: Title of the plot.
        unit: Unit of x and y.

    Returns:
        A PNG.
    """
    x, y = (xyz[:, :2] - xyz[chosen, :2]).T
    east, north, _ = xyz[chosen]
    figure, panels = _panels(len(scores), f"{title}, query at {east:.1f} {north:.1f}")
    for head, (axes, values) in enumerate(zip(panels, scores, strict=True)):
        order = np.argsort(values)  # draws high scores on top
        dots = axes.scatter(x[order], y[order], c=values[order], cmap="viridis", s=28)
        axes.plot(0, 0, marker="x", color=_MARK, markersize=11, markeredgewidth=2.5)
        axes.set(
            title=f"head {head}", xlabel=f"east ({unit})", ylabel=f"north ({unit})"
        )
        axes.set_aspect("equal", adjustable="datalim")
        figure.colorbar(dots, ax=axes, label="score")
    return _png(figure)


def _panels(count: int, title: str) -> tuple["Figure", list]:
    from matplotlib.figure import Figure

    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    size = (1.0 + 3.6 * min(columns, 4), 0.8 + 3.2 * min(rows, 4))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    figure.suptitle(title, parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in panels[count:]:
        spare.set_axis_off()
    return figure, list(panels[:count])


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
