"""Plots of an evaluation and a training, as PNG and without a display."""

import io
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.report.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vl3d_lite.evaluation import Evaluation, ThresholdCounts
    from vl3d_lite.prediction import ReliabilityCounts

__all__ = [
    "plot_confusion",
    "plot_coverage",
    "plot_curves",
    "plot_history",
    "plot_reliability",
]

_INK, _BLUE, _ORANGE = "#22303c", "#0072b2", "#d55e00"
_CURVE_COLORS = (_BLUE, _ORANGE, "#009e73", "#cc79a7", "#7d8590")
_PANELS = {
    "Loss": ("loss",),
    "Scores": ("miou", "iou", "accuracy", "oa", "f1"),
    "Learning rate": ("learning_rate", "lr"),
}


def plot_confusion(evaluation: "Evaluation") -> bytes:
    """Draw the pooled confusion matrix, normalized by row, with counts.

    Args:
        evaluation: Evaluation with at least one class.

    Returns:
        A PNG.
    """
    counts = evaluation.pooled.confusion
    n = len(counts)
    total = counts.sum(axis=1, keepdims=True)
    share = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    figure = _figure(2.0 + 0.66 * min(n, 20), 1.5 + 0.56 * min(n, 20))
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    labels = [_short(name) for name in evaluation.class_names]
    axes.set_xticks(range(n), labels, rotation=35, ha="right", parse_math=False)
    axes.set_yticks(range(n), labels, parse_math=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("reference")
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    if n <= 20:  # Text does not fit smaller cells.
        for (row, column), value in np.ndenumerate(share):
            if counts[row, column]:
                axes.text(
                    column,
                    row,
                    f"{percent(value)}\n{_compact(int(counts[row, column]))}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if value > 0.55 else _INK,
                )
    return _png(figure)


def plot_history(rows: Sequence[dict]) -> bytes:
    """Draw the learning curves of a training, side by side.

    Args:
        rows: One mapping per epoch. Keys that end in ``loss``, ``miou``,
            ``accuracy``, ``learning_rate`` and the like are drawn, ``val_``
            ones dashed; values may be text, missing or not finite.

    Returns:
        A PNG; it contains a notice where there is nothing to draw.
    """
    panels = _curves(rows)
    figure = _figure(4.1 * max(len(panels), 1), 3.2)
    if not panels:
        figure.text(0.5, 0.5, "no learning curves", ha="center")
    for index, (title, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _draw_curves(axes, title, curves, _epochs(rows))
    return _png(figure)


def plot_curves(rows: Sequence[dict]) -> dict[str, bytes]:
    """Draw the panels of `plot_history`, one PNG each, by title."""
    pictures = {}
    for title, curves in _curves(rows).items():
        figure = _figure(4.1, 3.2)
        _draw_curves(figure.add_subplot(), title, curves, _epochs(rows))
        pictures[title] = _png(figure)
    return pictures


def plot_reliability(
    calibration: "ReliabilityCounts", before: "ReliabilityCounts | None" = None
) -> bytes:
    """Draw a reliability diagram: accuracy by confidence, and the share of points.

    Args:
        calibration: Counts of at least one point.
        before: Counts before calibration, drawn as a line.

    Returns:
        A PNG.
    """
    bins = len(calibration.count)
    edges = np.arange(bins) / bins
    figure = _figure(4.6, 4.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    accuracy = np.nan_to_num(calibration.accuracy)
    upper.bar(edges, accuracy, 1 / bins, align="edge", color=_BLUE, edgecolor="white")
    filled = calibration.count > 0
    upper.plot(
        calibration.confidence[filled],
        calibration.confidence[filled],
        "_",
        color=_ORANGE,
        markersize=14,
        markeredgewidth=2,
        label="mean confidence",
    )
    if before is not None:
        filled = before.count > 0
        upper.plot(
            before.confidence[filled],
            before.accuracy[filled],
            ".--",
            color=_INK,
            linewidth=1,
            label="before calibration",
        )
    upper.plot([0, 1], [0, 1], color=_INK, linewidth=1, linestyle=":")
    upper.set_ylabel("accuracy")
    upper.set_ylim(0, 1)
    upper.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1))
    share = calibration.count / calibration.count.sum()
    lower.bar(edges, share, 1 / bins, align="edge", color="#7d8590", edgecolor="white")
    lower.set_ylabel("share of points")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    _plain_axes(upper)
    _plain_axes(lower)
    return _png(figure)


def plot_coverage(coverage: "ThresholdCounts", threshold: float | None = None) -> bytes:
    """Draw accuracy against coverage, and mark some confidence thresholds.

    Args:
        coverage: Counts of at least one point.
        threshold: Confidence below which points were rejected; it is highlighted.

    Returns:
        A PNG.
    """
    share, accuracy = coverage.curve()
    left = share > 0
    figure = _figure(4.6, 3.4)
    axes = figure.add_subplot()
    axes.plot(share[left], accuracy[left], color=_BLUE)
    for row in coverage.rows():
        if row["accuracy"] is not None:
            point = row["coverage"], row["accuracy"]
            axes.plot(*point, ".", color=_INK)
            axes.annotate(
                f"{row['confidence']:g}",
                point,
                (4, 4),
                textcoords="offset points",
                fontsize=7,
            )
    if threshold is not None:
        step = min(round(threshold * len(share)), len(share) - 1)
        axes.axvline(share[step], color=_ORANGE, linewidth=2, label=f"{threshold:g}")
        axes.legend(frameon=False, fontsize=8, title="rejected below", title_fontsize=8)
    axes.set_xlabel("coverage")
    axes.set_ylabel("accuracy")
    axes.set_xlim(0, 1.02)
    _plain_axes(axes)
    return _png(figure)


def _epochs(rows: Sequence[dict]) -> list[float]:
    return [_number(row.get("epoch", index + 1)) for index, row in enumerate(rows)]


def _curves(rows: Sequence[dict]) -> dict[str, dict[str, list[float]]]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    panels = {}
    for title, endings in _PANELS.items():
        curves = {
            key: [_number(row.get(key)) for row in rows]
            for key in keys
            if any(key == end or key.endswith(f"_{end}") for end in endings)
        }
        curves = {key: c for key, c in curves.items() if np.isfinite(c).any()}
        if curves:
            panels[title] = curves
    return panels


def _draw_curves(axes, title: str, curves: dict, epochs: list[float]) -> None:
    for rank, (key, values) in enumerate(curves.items()):
        axes.plot(
            epochs,
            values,
            label=key,
            color=_CURVE_COLORS[rank % len(_CURVE_COLORS)],
            linestyle="--" if key.startswith("val_") else "-",
            marker="o" if len(epochs) < 40 else None,
            markersize=3,
        )
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8)
    _plain_axes(axes)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=140, layout="constrained")


def _png(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The font lacks some scripts; their class names are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _plain_axes(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _number(value) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _compact(count: int) -> str:
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= limit:
            return f"{count / (1000 if unit == 'k' else limit):.1f}{unit}"
    return f"{count:,}"
