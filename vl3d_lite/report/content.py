"""What the page of a run shows, as values of its template."""


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


