"""The page and the plots of a run, from the files of its folder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vl3d_lite.evaluation import (
    Disagreement,
    Evaluation,
    confident_disagreements,
    read_pair,
)
from vl3d_lite.prediction import PredictedCloud, Temperature, described
from vl3d_lite.report.folders import without_folders
from vl3d_lite.report.page import CloudView, ReportData, write_report
from vl3d_lite.report.plots import plot_confusion, plot_history
from vl3d_lite.runs import RunFolder, read_history
from vl3d_lite.spec import Spec
from vl3d_lite.system import read_text, safe_point, write_bytes


def write_run_report(
    run: RunFolder,
    spec: Spec,
    evaluation: Evaluation | None,
    folder: Path,
    outcomes: Sequence[PredictedCloud],
    disagreements: Sequence[Disagreement] = (),
) -> None:
    """Write ``report.html`` and the plots of a run.

    The page has the name of the scan, or of the run where there are several scans, and
    holds no folders of this machine.

    Args:
        run: The run.
        spec: Spec of the run.
        evaluation: Scores of the predicted clouds, or None without labels.
        folder: Folder of the predicted clouds.
        outcomes: Records of the predicted clouds.
        disagreements: Disagreements with the reference labels, largest first.

    Raises:
        DataError: A predicted cloud or its source is not found or does not match.
        ResourceError: A file cannot be written.
    """
    history = read_history(run.history)
    if history:
        write_bytes(run.history_plot, plot_history(history))
    if evaluation is not None:
        write_bytes(run.confusion_plot, plot_confusion(evaluation))
        evaluation = replace(evaluation, caveats=without_folders(evaluation.caveats))
    name = run.root.resolve().name
    write_report(
        run.report,
        ReportData(
            title=outcomes[0].output if len(outcomes) == 1 else name,
            class_names=spec.class_names,
            class_codes=[entry.code for entry in spec.classes.values()],
            evaluation=evaluation,
            temperature=_calibration(run, outcomes),
            outside_domain={
                one.output: one.outside_domain for one in outcomes if one.outside_domain
            },
            min_confidence=_threshold(outcomes),
            history=history,
            clouds=_views(spec, folder, outcomes),
            disagreements=disagreements,
            confident_disagreements=confident_disagreements(disagreements, spec),
            link_distance=spec.link_distance,
            kernel_images=sorted(run.kernels.glob("TRAINED_*/*.png")),
            spec_text=without_folders(read_text(run.spec, "restore it from a copy")),
            facts=without_folders(_facts(run, outcomes)),
        ),
    )


def _facts(run: RunFolder, outcomes: Sequence[PredictedCloud]) -> dict:
    """What ``run.json`` holds, without its inputs, and how clouds were predicted."""
    provenance = run.read_provenance()
    facts = {"run": run.root.resolve().name, **provenance}
    facts.pop("inputs", None)
    if "initial_weights" in facts:
        initial = facts["initial_weights"]
        facts["initial_weights"] = {k: v for k, v in initial.items() if k != "inputs"}
        if not facts["initial_weights"]:  # of the members of an ensemble
            del facts["initial_weights"]
    if isinstance(provenance.get("peak_memory"), int):
        facts["peak_memory"] = f"{provenance['peak_memory'] / 2**30:.1f} GiB"
    facts["predicted with"] = {item.output: described(item) for item in outcomes}
    facts["seconds of prediction"] = {item.output: item.seconds for item in outcomes}
    return facts


def _calibration(run: RunFolder, outcomes: Sequence[PredictedCloud]) -> dict | None:
    """The temperature of the outcomes; None where they differ in it."""
    used = {outcome.temperature for outcome in outcomes}
    given = {outcome.settings.get("temperature") for outcome in outcomes}
    fitted = None
    if run.calibration.is_file():
        fitted = Temperature.read(run.calibration)
    if len(used) == 1 and used == given:
        return {**(fitted or Temperature()).to_dict(), "given": used.pop()}
    return fitted.to_dict() if fitted and used == {fitted.value} else None


def _threshold(outcomes: Sequence[PredictedCloud]) -> float | None:
    """The minimum confidence of the outcomes; None where they differ in it."""
    thresholds = {outcome.min_confidence for outcome in outcomes}
    return thresholds.pop() if len(thresholds) == 1 else None


def _views(
    spec: Spec, folder: Path, outcomes: Sequence[PredictedCloud]
) -> Iterator[CloudView]:
    for outcome in outcomes:
        safe_point("interrupted while the report was written; evaluate again")
        pair = read_pair(spec, folder, outcome, warn=False)
        yield CloudView(
            outcome.output,
            pair.xyz,
            pair.prediction,
            pair.reference if (pair.reference >= 0).any() else None,
            pair.confidence,
            frame=pair.frame,
            class_sources={
                "predicted directly": outcome.voted,
                "filled from the nearest predicted cell": outcome.nearest,
            },
        )
