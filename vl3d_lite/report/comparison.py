"""Comparison of runs: differences of their specs, scores and costs."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vl3d_lite.errors import DataError, SpecError, VL3DError
from vl3d_lite.evaluation import read_metrics
from vl3d_lite.prediction import read_outcomes
from vl3d_lite.report.top_view import Picture
from vl3d_lite.runs import RunFolder, read_history
from vl3d_lite.spec import Spec, feature_columns, read_spec

NOTHING = "\N{EN DASH}"  # shown for a missing value
OVERALL = {
    "overall_accuracy": "overall accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iou": "mean IoU",
    "mcc": "MCC",
    "kappa": "kappa",
}
PER_CLASS = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass(frozen=True)
class Row:
    """One row of a comparison: a name, and a text for each run.

    Args:
        name: Name of the row.
        cells: One text per run.
        best: Indices of the runs with the best score; empty for other rows.
    """

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """Tables that compare runs, or folders of predictions.

    Args:
        runs: Names of the runs or folders.
        notes: Reasons why scores or costs may not be comparable.
        tables: Rows by title of the table.
        columns: Heads of the columns; empty where they are the runs.
        pictures: Pictures for the page.
    """

    runs: tuple[str, ...]
    notes: tuple[str, ...]
    tables: dict[str, tuple[Row, ...]]
    columns: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of the columns."""
        return self.columns or self.runs


@dataclass(frozen=True)
class _Run:
    folder: RunFolder
    name: str
    spec: Spec
    provenance: dict
    metrics: dict = field(default_factory=dict)

    @property
    def pooled(self) -> dict:
        return self.metrics.get("pooled", {})

    @property
    def class_scores(self) -> dict:
        return self.pooled.get("per_class", {})


def compare(paths: Sequence[Path]) -> Comparison:
    """Compare run folders.

    Args:
        paths: At least two run folders. A run without evaluation or with an
            unfinished training is compared by the files it has.

    Raises:
        SpecError: There are fewer than two paths.
        DataError: A path is not a run folder, or a file in it cannot be read.
    """
    if len(paths) < 2:
        raise SpecError(
            f"`compare` requires at least two run folders. Received: {len(paths)}; add "
            "another one"
        )
    named = zip(paths, names_of(paths), strict=True)
    runs = [_read(path, name) for path, name in named]
    obstacles, class_notes = list(_obstacles(runs)), list(_class_notes(runs))
    comparable = not obstacles
    tables = {
        "Differences of the specs": _spec_rows(runs),
        "Scores": _score_rows(runs, comparable and not class_notes),
        **{
            f"{title} per class": _class_rows(runs, key, comparable)
            for key, title in PER_CLASS.items()
        },
        "Cost": _cost_rows(runs),
    }
    return Comparison(
        tuple(run.name for run in runs),
        tuple(_notes(runs, obstacles, class_notes)),
        {title: tuple(rows) for title, rows in tables.items() if rows},
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """The names of folders, with their own folders where some are equal."""
    short = [path.resolve().name for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _read(path: Path, name: str) -> _Run:
    run = RunFolder(path)
    if not run.exists():
        raise DataError(
            f"{path}: not a run folder (it has no run.json); give the folder that "
            "`vl3d-lite train` wrote"
        )
    try:
        spec = read_spec(run.spec, check_files=False).spec
    except VL3DError as error:
        raise DataError(
            f"{run.spec}: cannot be read by this version ({error})"
        ) from error
    metrics = read_metrics(run.metrics) if run.metrics.is_file() else {}
    return _Run(run, name, spec, run.read_provenance(), metrics)


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """The leaves of nested mappings as text, by dotted name."""
    if isinstance(value, dict):
        entries: Iterable = value.items()
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        entries = enumerate(value)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
        return {name: text}
    flat: dict[str, str] = {}
    for key, inner in entries:
        flat |= _flat(inner, f"{name}.{key}" if name else str(key))
    return flat


def _spec_rows(runs: Sequence[_Run]) -> list[Row]:
    flat = []
    for run in runs:
        content = run.spec.model_dump(mode="json")
        content["features"] = ", ".join(feature_columns(run.spec.features))
        flat.append(_flat(content))
    names = dict.fromkeys(name for entries in flat for name in entries)
    rows = [Row(n, tuple(e.get(n, NOTHING) for e in flat)) for n in names]
    return [row for row in rows if len(set(row.cells)) > 1]


def _scored(
    name: str,
    values: Sequence[float | None],
    comparable: bool,
    lowest: bool = False,
) -> Row:
    """A row of scores with three decimals and its best, including ties, if any."""
    cells = tuple(NOTHING if value is None else f"{value:.3f}" for value in values)
    shown = [float(cell) for cell in cells if cell != NOTHING]
    if not comparable or len(shown) < 2 or len(set(shown)) < 2:
        return Row(name, cells)
    target = f"{min(shown) if lowest else max(shown):.3f}"
    return Row(name, cells, frozenset(n for n, c in enumerate(cells) if c == target))


def _score_rows(runs: Sequence[_Run], comparable: bool) -> list[Row]:
    if not any(run.metrics for run in runs):
        return []
    rows = [
        _scored(title, [run.pooled.get(key) for run in runs], comparable)
        for key, title in OVERALL.items()
    ]
    f1 = [run.pooled.get("macro", {}).get("f1") for run in runs]
    rows.append(_scored("mean F1", f1, comparable))
    errors = [
        (run.pooled.get("calibration") or {}).get("expected_error") for run in runs
    ]
    rows.append(_scored("calibration error", errors, comparable, lowest=True))
    points = tuple(_count(run.pooled.get("points")) for run in runs)
    return [*rows, Row("scored points", points)]


def _class_rows(runs: Sequence[_Run], key: str, comparable: bool) -> list[Row]:
    names = dict.fromkeys(name for run in runs for name in run.class_scores)
    return [
        _scored(
            name,
            [run.class_scores.get(name, {}).get(key) for run in runs],
            comparable and len(_codes_of(name, runs)) < 2,
        )
        for name in names
    ]


def _codes_of(name: str, runs: Sequence[_Run]) -> set[tuple[int, ...]]:
    """The sets of codes that a class contains in the runs that have it."""
    return {
        tuple(sorted(run.spec.classes[name].codes))
        for run in runs
        if name in run.spec.classes
    }


def _cost_rows(runs: Sequence[_Run]) -> list[Row]:
    def row(name: str, value: Callable[[_Run], str]) -> Row:
        return Row(name, tuple(value(run) for run in runs))

    def entry(key: str, show: Callable[[Any], str]) -> Callable[[_Run], str]:
        return lambda run: show(run.provenance.get(key))

    rows = [
        row("training", entry("seconds_of_training", _seconds)),
        row("preparation", entry("seconds_of_preparation", _seconds)),
        row("prediction", lambda run: _seconds(_prediction_seconds(run))),
        row("epochs", lambda run: str(len(read_history(run.folder.history)))),
        row("best epoch", entry("best_epoch", _count)),
        row("parameters", entry("parameters", _count)),
        row("peak memory", entry("peak_memory", _bytes)),
        row("processors", lambda run: _count(_machine(run).get("processors"))),
        row("backend", entry("backend", _plain)),
        row("vl3d_lite", entry("vl3d_lite", _plain)),
    ]
    return [row for row in rows if set(row.cells) != {NOTHING}]


def _machine(run: _Run) -> dict:
    machine = run.provenance.get("machine")
    return machine if isinstance(machine, dict) else {}


def _prediction_seconds(run: _Run) -> float | None:
    if not run.folder.predictions.is_dir():
        return None
    seconds = [outcome.seconds for outcome in read_outcomes(run.folder.predictions)]
    return sum(seconds) if seconds else None


def _notes(
    runs: Sequence[_Run], obstacles: Sequence[str], class_notes: Sequence[str]
) -> Iterable[str]:
    for run in runs:
        if not run.folder.model.is_file():
            yield f"{run.name}: the training is not finished."
        if not run.metrics:
            yield (
                f"{run.name}: the run has no scores; run "
                f"`vl3d-lite evaluate {run.folder.root}`."
            )
    yield from class_notes
    if obstacles:
        yield from obstacles
        yield "Therefore no score is marked as the best."
    elif class_notes:
        yield "Therefore none of the scores over all classes is marked as the best."
    machines = {json.dumps(_machine(run), sort_keys=True) for run in runs}
    if len(machines) > 1:
        yield "The runs used different machines; times are not comparable."


def _obstacles(runs: Sequence[_Run]) -> Iterable[str]:
    """Reasons why no score of the runs can be compared."""
    scored = [run for run in runs if run.metrics]
    clouds = {tuple(sorted(_scored_clouds(run))) for run in scored}
    points = {
        (run.pooled.get("points"), run.pooled.get("ignored", 0)) for run in scored
    }
    if len(clouds) > 1:
        yield "The runs are scored on different clouds; scores are not comparable."
    elif len(points) > 1:
        yield "The runs are scored on different points; scores are not comparable."
    for key in ("excluded_points", "ignored_flags"):
        if len({str(getattr(run.spec, key)) for run in scored}) > 1:
            yield (
                f"The runs differ in `{key}`, so that other points count; scores are "
                "not comparable."
            )


def _scored_clouds(run: _Run) -> Iterable[str]:
    """The clouds that a run is scored on: SHA-256 if recorded, names otherwise."""
    folder = run.folder.scored_predictions()
    hashes = {one.output: one.source_sha256 for one in read_outcomes(folder)}
    return [hashes.get(name) or name for name in run.metrics.get("clouds", {})]


def _class_notes(runs: Sequence[_Run]) -> Iterable[str]:
    every = dict.fromkeys(name for run in runs for name in run.spec.classes)
    owners = {n: [run.name for run in runs if n in run.spec.classes] for n in every}
    partial = {n: names for n, names in owners.items() if len(names) < len(runs)}
    if partial:
        text = "; ".join(f"`{n}` only in {', '.join(o)}" for n, o in partial.items())
        yield (
            f"The classes differ: {text}. Means over classes and accuracies belong to "
            "different tasks; compare the scores of the shared classes."
        )
    if not partial and len({frozenset(r.class_scores) for r in runs if r.metrics}) > 1:
        yield (
            "The runs are scored on different classes, since `predict --classes` "
            "merged some; compare the scores of the shared classes."
        )
    for name in every:
        if len(_codes_of(name, runs)) > 1:
            yield f"The class `{name}` contains different codes in these runs."


def _seconds(value: Any) -> str:
    if not isinstance(value, int | float):
        return NOTHING
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{value:.1f} s"


def _bytes(value: Any) -> str:
    return f"{value / 2**30:.1f} GiB" if isinstance(value, int | float) else NOTHING


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else NOTHING


def _plain(value: Any) -> str:
    return NOTHING if value is None else str(value)
