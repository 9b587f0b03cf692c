"""The report of a run: one HTML page that needs no network, script or file."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vl3d_lite.evaluation.disagreements import Disagreement
from vl3d_lite.evaluation.evaluation import Evaluation
from vl3d_lite.report.cross_section import CrossSection
from vl3d_lite.report.disagreement_view import draw_place
from vl3d_lite.report.palette import class_palette
from vl3d_lite.report.plots import (
    plot_confusion,
    plot_coverage,
    plot_curves,
    plot_history,
    plot_reliability,
)
from vl3d_lite.report.top_view import (
    Picture,
    TopView,
    draw_classes,
    draw_confidence,
    draw_errors,
)

__all__ = [
    "CloudView",
    "ReportData",
    "plot_confusion",
    "plot_history",
    "write_report",
]

def write_report(target: Path, report: ReportData) -> None:
    """Write a run's page, below 5 MB, whole or not at all.

    Args:
        target: The HTML file.
        report: What to tell.

    Raises:
        ResourceError: The file cannot be written.
        SpecError: A class color is not ``#rrggbb``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from vl3d_lite.system.writing import write_text

    environment = Environment(
        loader=PackageLoader("vl3d_lite.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "count": "{:,}".format,
        "percent": _percent,
        "plain": _plain,
    }
    html = environment.get_template("report.html").render(_content(report))
    # File names may hold bytes that are no text.
    write_text(Path(target), html.encode("utf-8", "replace").decode("utf-8"))


def _score(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "\N{EN DASH}"}[value]
    if isinstance(value, int | np.integer):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float | np.floating):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
