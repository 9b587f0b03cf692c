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

# Base64 makes 4 bytes of 3; with plots and text the page stays below 5 MB.
_TOP_VIEW_BYTES = 2_400_000
_KERNEL_BYTES = 700_000
_DRAWN_PLACES = 10  # three pictures of at most 160 pixels: 100 kB on the page
_CONFIDENT_PLACES = 30
_STEPS = (1, 2, 3, 4, 6, 8)
_PNG = b"\x89PNG\r\n\x1a\n"

# The IoU from which on a class deserves the word.
VERDICTS = {
    0.9: ("excellent", "can be used as it is"),
    0.75: ("good", "needs spot checks"),
    0.5: ("fair", "needs checking throughout"),
    0.0: ("poor", "should not be relied on"),
}
FEW_POINTS = 200


@dataclass(frozen=True)
class CloudView:
    """A classified cloud, to be seen from above.

    Args:
        name: What the page calls it.
        xyz: ``(n, 3)`` float64, meters.
        prediction: ``(n,)`` int, class index.
        reference: ``(n,)`` int, class index or -1; None where there is none.
        confidence: ``(n,)`` float in [0, 1], or None.
        origin: ``(3,)`` float64; with it `xyz` are the file's coordinates.
        coverage: Points by how they got their class, for instance
            ``{"voted": 9900, "filled from nearest": 100}``.
    """

    name: str
    xyz: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray | None = None
    confidence: np.ndarray | None = None
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))
    coverage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """What a report tells; what is empty or None is left out.

    Args:
        title: Name of the run.
        class_names: ``C`` names.
        class_colors: ``#rrggbb`` by class name; others are chosen.
        class_codes: LAS code of each class, to choose colors by.
        evaluation: Scores, or None without a reference.
        temperature: What calibration found on the validation clouds, as
            ``calibration.json`` has it, and what was ``given`` instead; None where
            there was none.
        min_confidence: Confidence below which points were left unclassified, or None.
        history: One dict an epoch, for learning curves.
        clouds: Looked at once, in order: a generator keeps one in memory.
        places: Where prediction and reference disagree, the largest first.
        confident_disagreements: Those among them where the prediction was sure.
        link_distance: That connects the points of a place, in meters.
        kernel_images: PNG files.
        spec_text: The spec as YAML.
        facts: Versions, timings and the like: values, or dicts of values,
            each dict a table of its own.
    """

    title: str
    class_names: Sequence[str]
    class_colors: Mapping[str, str] | None = None
    class_codes: Sequence[int] | None = None
    evaluation: Evaluation | None = None
    temperature: Mapping[str, object] | None = None
    min_confidence: float | None = None
    history: Sequence[dict] = ()
    clouds: Iterable[CloudView] = ()
    places: Sequence[Disagreement] = ()
    confident_disagreements: Sequence[Disagreement] = ()
    link_distance: float = 1.0
    kernel_images: Sequence[Path] = ()
    spec_text: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


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


def _content(report: ReportData) -> dict:
    colors = class_palette(
        report.class_names, codes=report.class_codes, chosen=report.class_colors
    )
    clouds, predicted, places = _read_clouds(report, colors)
    embedded, left_out = _embed_pictures([cloud["pictures"] for cloud in clouds])
    for cloud, pictures in zip(clouds, embedded, strict=True):
        cloud["pictures"] = pictures
    kernels = _read_kernels(report.kernel_images)
    evaluation = report.evaluation
    metrics = evaluation.to_dict() if evaluation else None
    calibrated = metrics and metrics["pooled"]["calibration"]
    tables = {k: v for k, v in report.facts.items() if isinstance(v, Mapping)}
    return {
        "title": report.title,
        "colors": dict(zip(report.class_names, colors, strict=True)),
        "metrics": metrics,
        "verdicts": _verdicts(evaluation) if evaluation else [],
        "thresholds": VERDICTS,
        "few_points": FEW_POINTS,
        "predicted": dict(zip(report.class_names, predicted.tolist(), strict=True)),
        "confusion": _data_uri(plot_confusion(evaluation)) if evaluation else None,
        "curves": {
            name: _data_uri(png) for name, png in plot_curves(report.history).items()
        },
        "reliability": _reliability(evaluation) if calibrated else None,
        "temperature": report.temperature,
        "coverage": _data_uri(
            plot_coverage(evaluation.pooled.coverage, report.min_confidence)
        )
        if metrics and metrics["pooled"]["coverage"]
        else None,
        "min_confidence": report.min_confidence,
        "clouds": clouds,
        "places": places,
        "more_places": len(report.places) - len(places),
        "confident_disagreements": report.confident_disagreements[:_CONFIDENT_PLACES],
        "more_confident": len(report.confident_disagreements) - _CONFIDENT_PLACES,
        "pictures_left_out": left_out,
        "kernels": kernels,
        "kernel_count": len(report.kernel_images),
        "spec_text": report.spec_text,
        "facts": {k: v for k, v in report.facts.items() if k not in tables},
        "fact_tables": tables,
    }


def _reliability(evaluation: Evaluation) -> str:
    pooled = evaluation.pooled
    before = None if pooled.uncalibrated_error is None else pooled.uncalibrated
    return _data_uri(plot_reliability(pooled.calibration, before))


def _read_clouds(
    report: ReportData, colors: Sequence[str]
) -> tuple[list[dict], np.ndarray, list[dict]]:
    clouds, predicted = [], np.zeros(len(report.class_names), np.int64)
    places = [
        {"place": place, "pictures": []} for place in report.places[:_DRAWN_PLACES]
    ]
    for cloud in report.clouds:
        predicted += np.bincount(cloud.prediction, minlength=len(predicted))
        entry = {
            "name": cloud.name,
            "points": len(cloud.xyz),
            "coverage": dict(cloud.coverage),
            "pictures": [],
        }
        if len(cloud.xyz):
            view, cut = TopView.of(cloud.xyz), CrossSection.through(cloud.xyz)
            entry["pictures"] = _draw(cloud, view, report.class_names, colors)
            entry["pictures"] += _draw_cut(cloud, cut, report.class_names, colors)
            entry["cut"] = _cut_facts(cloud, cut)
            entry["extent"] = tuple(np.ptp(cloud.xyz[:, :2], axis=0))
            entry["pixel"] = view.pixel_size
        for drawn in places:
            if drawn["place"].cloud == cloud.name and cloud.reference is not None:
                drawn["pictures"] = _draw_place(cloud, drawn["place"], report, colors)
        clouds.append(entry)
    return clouds, predicted, places


def _draw_place(
    cloud: CloudView, place: Disagreement, report: ReportData, colors: Sequence[str]
) -> list[dict]:
    pictures = draw_place(
        place,
        cloud.xyz,
        cloud.reference,
        cloud.prediction,
        report.class_names,
        colors,
        origin=cloud.origin,
        distance=report.link_distance,
    )
    return [_embedded(picture, picture.png()) for picture in pictures]


def _draw(
    cloud: CloudView, view: TopView, names: Sequence[str], colors: Sequence[str]
) -> list[Picture]:
    pictures = [draw_classes(view, "Prediction", cloud.prediction, names, colors)]
    if cloud.reference is not None and (cloud.reference >= 0).any():
        pictures.insert(
            0, draw_classes(view, "Reference", cloud.reference, names, colors)
        )
        pictures.append(draw_errors(view, cloud.reference, cloud.prediction))
    if cloud.confidence is not None:
        pictures.append(draw_confidence(view, cloud.confidence, len(names)))
    return pictures


def _draw_cut(
    cloud: CloudView, cut: CrossSection, names: Sequence[str], colors: Sequence[str]
) -> list[Picture]:
    slim = replace(
        cloud,
        prediction=cloud.prediction[cut.points],
        reference=None if cloud.reference is None else cloud.reference[cut.points],
        confidence=None if cloud.confidence is None else cloud.confidence[cut.points],
    )
    return [
        replace(picture, title=f"{picture.title}, cut along {'xy'[cut.along]}")
        for picture in _draw(slim, cut.view, names, colors)
    ]


def _cut_facts(cloud: CloudView, cut: CrossSection) -> dict:
    """Where a cut lies, in the coordinates of the file."""
    places = cloud.xyz[cut.points, cut.along] + cloud.origin[cut.along]
    return {
        "along": "xy"[cut.along],
        "across": "yx"[cut.along],
        "place": (cut.middle + cloud.origin)[1 - cut.along],
        "start": places.min(),
        "end": places.max(),
        "thickness": cut.thickness,
    }


def _embed_pictures(clouds: list[list[Picture]]) -> tuple[list[list[dict]], int]:
    """Encode as finely as the page's size allows; say how many clouds lost theirs."""
    for step in _STEPS:
        encoded = [[picture.png(step) for picture in pictures] for pictures in clouds]
        if sum(len(png) for pngs in encoded for png in pngs) <= _TOP_VIEW_BYTES:
            break
    embedded, left_out, room = [], 0, _TOP_VIEW_BYTES
    for pictures, pngs in zip(clouds, encoded, strict=True):
        room -= sum(map(len, pngs))
        left_out += room < 0
        embedded.append(
            [
                _embedded(picture, png)
                for picture, png in zip(pictures, pngs, strict=True)
                if room >= 0
            ]
        )
    return embedded, left_out


def _embedded(picture: Picture, png: bytes) -> dict:
    return {
        "title": picture.title,
        "source": _data_uri(png),
        "legend": picture.legend,
    }


def _read_kernels(paths: Sequence[Path]) -> list[dict]:
    kernels, room = [], _KERNEL_BYTES
    for path in map(Path, paths):
        png = path.read_bytes() if path.is_file() else b""
        if png.startswith(_PNG) and len(png) <= room:
            room -= len(png)
            title = f"{path.parent.name}/{path.name}"
            kernels.append({"title": title, "source": _data_uri(png)})
    return kernels


def _verdicts(evaluation: Evaluation) -> list[dict]:
    scores = evaluation.scores
    verdicts = []
    for index, name in enumerate(evaluation.class_names):
        iou, support = scores.iou[index], int(scores.support[index])
        word, meaning = next(
            (words for limit, words in VERDICTS.items() if iou >= limit),
            ("not scored", "occurs neither in the reference nor in the prediction"),
        )
        if not support and scores.predicted[index]:
            word, meaning = "false alarms", "does not occur in the reference"
        verdicts.append(
            {
                "name": name,
                "iou": _null(iou),
                "word": word,
                "meaning": meaning,
                "support": support,
                "confusion": _main_confusion(evaluation, index),
            }
        )
    return verdicts


def _main_confusion(evaluation: Evaluation, index: int) -> str | None:
    """Say which other class costs the most: by points missed or by false alarms."""
    scores = evaluation.scores
    missed, alarms = scores.confusion[index].copy(), scores.confusion[:, index].copy()
    missed[index] = alarms[index] = 0
    other = evaluation.class_names[int(np.maximum(missed, alarms).argmax())]
    if missed.max() >= alarms.max() and missed.any():
        share = _percent(missed.max() / scores.support[index])
        return f"{share} of it is taken for {other}"
    if alarms.any():
        share = _percent(alarms.max() / scores.predicted[index])
        return f"{share} of its predictions are {other}"
    return None


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _null(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


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
