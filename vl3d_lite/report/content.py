"""Content of the page of a run, as values of its template."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vl3d_lite.evaluation import Disagreement, Evaluation
from vl3d_lite.report.palette import class_palette
from vl3d_lite.report.pictures import (
    CloudView,
    data_uri,
    draw_clouds,
    embed_kernel_images,
)
from vl3d_lite.report.plots import (
    plot_confusion,
    plot_coverage,
    plot_curves,
    plot_reliability,
)
from vl3d_lite.report.verdicts import FEW_POINTS, VERDICTS, class_verdicts

__all__ = ["ReportData", "page_content"]

_CONFIDENT_DISAGREEMENTS = 30  # rows of a table that is still read to its end


@dataclass(frozen=True)
class ReportData:
    """Content of a report; empty entries and None are omitted from the page.

    Args:
        title: Name of the run.
        class_names: ``C`` names.
        class_colors: ``#rrggbb`` by class name; other colors are chosen.
        class_codes: LAS code of each class, from which colors are chosen.
        evaluation: Scores, or None without reference labels.
        temperature: Result of calibration on the validation clouds, as in
            ``calibration.json``, and under ``given`` a temperature that replaces
            it; None without calibration.
        outside_domain: Cloud to what of it lies outside the domain of the model.
        min_confidence: Confidence below which points were left unclassified, or
            None.
        history: One mapping per epoch, for learning curves.
        clouds: Clouds to draw, read once and in order: a generator keeps only one
            in memory.
        disagreements: Disagreements of prediction and reference, largest first.
        confident_disagreements: Those with many points of high confidence.
        link_distance: Distance in meters within which the points of a disagreement
            are connected.
        kernel_images: PNG files.
        spec_text: The spec as YAML.
        facts: Versions, timings and other values; each mapping among them becomes
            a table of its own.
    """

    title: str
    class_names: Sequence[str]
    class_colors: Mapping[str, str] | None = None
    class_codes: Sequence[int] | None = None
    evaluation: Evaluation | None = None
    temperature: Mapping[str, object] | None = None
    outside_domain: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_confidence: float | None = None
    history: Sequence[dict] = ()
    clouds: Iterable[CloudView] = ()
    disagreements: Sequence[Disagreement] = ()
    confident_disagreements: Sequence[Disagreement] = ()
    link_distance: float = 1.0
    kernel_images: Sequence[Path] = ()
    spec_text: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def page_content(report: ReportData) -> dict[str, Any]:
    """The values of ``report.html``.

    Raises:
        SpecError: A class color is not ``#rrggbb``.
    """
    colors = class_palette(
        report.class_names, codes=report.class_codes, chosen=report.class_colors
    )
    drawn = draw_clouds(
        report.clouds,
        report.disagreements,
        report.class_names,
        colors,
        link_distance=report.link_distance,
    )
    confident = report.confident_disagreements
    tables = {k: v for k, v in report.facts.items() if isinstance(v, Mapping)}
    return {
        "title": report.title,
        "colors": dict(zip(report.class_names, colors, strict=True)),
        "predicted": dict(
            zip(report.class_names, drawn.predicted.tolist(), strict=True)
        ),
        "curves": {
            name: data_uri(png) for name, png in plot_curves(report.history).items()
        },
        "temperature": report.temperature,
        "outside_domain": report.outside_domain,
        "min_confidence": report.min_confidence,
        "clouds": drawn.clouds,
        "clouds_without_pictures": drawn.without_pictures,
        "disagreements": drawn.disagreements,
        "more_disagreements": len(report.disagreements) - len(drawn.disagreements),
        "confident_disagreements": confident[:_CONFIDENT_DISAGREEMENTS],
        "more_confident": len(confident) - _CONFIDENT_DISAGREEMENTS,
        "kernels": embed_kernel_images(report.kernel_images),
        "kernel_count": len(report.kernel_images),
        "spec_text": report.spec_text,
        "facts": {k: v for k, v in report.facts.items() if k not in tables},
        "fact_tables": tables,
        **_score_content(report.evaluation, report.min_confidence),
    }


def _score_content(
    evaluation: Evaluation | None, min_confidence: float | None
) -> dict[str, Any]:
    """The values that depend on reference labels; None or empty without them."""
    content: dict[str, Any] = {
        "metrics": None,
        "caveats": evaluation.caveats if evaluation else {},
        "verdicts": [],
        "thresholds": VERDICTS,
        "few_points": FEW_POINTS,
        "confusion": None,
        "reliability": None,
        "coverage_plot": None,
    }
    if evaluation is None:
        return content
    pooled = evaluation.pooled
    content["metrics"] = evaluation.to_dict()
    content["verdicts"] = class_verdicts(evaluation)
    content["confusion"] = data_uri(plot_confusion(evaluation))
    if pooled.calibration.count.any():
        before = None if pooled.uncalibrated_error is None else pooled.uncalibrated
        content["reliability"] = data_uri(plot_reliability(pooled.calibration, before))
    if pooled.by_threshold.count.any():
        plot = plot_coverage(pooled.by_threshold, min_confidence)
        content["coverage_plot"] = data_uri(plot)
    return content
