"""Score predictions whose sources carry labels."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vl3d_lite.dataset.files import (
    check_clouds,
    prepare_file,
)
from vl3d_lite.dataset.scaling import impute_constant_features
from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.disagreements import (
    Disagreement,
    disagreements_csv,
    find_disagreements,
    summarize_disagreements,
)
from vl3d_lite.evaluation.evaluation import Evaluation, ReliabilityCounts, Scored
from vl3d_lite.evaluation.evaluation import evaluate as score_clouds
from vl3d_lite.evaluation.pairs import read_pair
from vl3d_lite.evaluation.rotations import RotationReport, measure_rotations
from vl3d_lite.model.backend import (
    prepare_backend,
)
from vl3d_lite.pipeline.opening import load_network, open_run
from vl3d_lite.prediction.class_groups import fold_spec
from vl3d_lite.prediction.outcomes import PredictedCloud, read_outcomes
from vl3d_lite.report.run_page import write_run_report
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.system.writing import output_errors, write_json, write_text

logger = logging.getLogger(__name__)


def evaluate(run: RunFolder, folder: Path) -> Evaluation | None:
    """Score the predictions in `folder` whose sources carry labels.

    Writes ``metrics.json``, ``metrics.csv``, ``disagreements.csv``, plots and
    ``report.html`` into the run folder; beside the predictions where the run is a
    shipped model (`RunFolder.scored_in`).

    Returns:
        The scores; None where no source carries a label.

    Raises:
        DataError: There are no predictions, or a file of one is gone.
    """
    spec, _ = open_run(run)
    outcomes = read_outcomes(folder)
    spec = predicted_spec(spec, folder, outcomes)
    if not outcomes:
        raise DataError(
            f"{folder}: holds no predictions; make some with `vl3d-lite predict`"
        )
    result, places = score(spec, folder, outcomes)
    target = run.scored_in(folder)
    if result is None:
        logger.info("no cloud carries labels; there is nothing to score")
        with output_errors(target.report.parent):
            for stale in (
                target.metrics,
                target.scores,
                target.disagreements,
                target.confusion_plot,
            ):
                stale.unlink(missing_ok=True)
    else:
        write_json(target.metrics, metrics(result, places, spec))
        result.write_csv(target.scores)
        write_text(target.disagreements, disagreements_csv(places))
    if target is run:
        run.update_provenance(evaluated=_relative(folder, run))
    write_run_report(target, spec, result, folder, outcomes, places)
    return result


def rotations(run: RunFolder, cloud: Path, options: Options) -> RotationReport:
    """Say how many points of a cloud keep their class when it is turned.

    Writes ``rotations.json`` into the run folder.

    Raises:
        VL3DError: The run or the cloud cannot be used, or a signal came.
    """
    spec, scaling = open_run(run)
    check_clouds([cloud], spec, census=False)
    prepare_backend(spec.seed, options.threads)
    model = load_network(run, spec, scaling)
    prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
    impute_constant_features(cloud, prepared, spec, scaling)
    with Interrupts() as interrupts:
        result = measure_rotations(
            model,
            prepared,
            spec,
            scaling,
            threads=options.threads,
            interrupts=interrupts,
            quiet=options.quiet,
        )
    write_json(run.rotations, result.to_dict())
    return result


def score(
    spec: Spec, folder: Path, outcomes: Sequence[PredictedCloud]
) -> tuple[Evaluation | None, list[Disagreement]]:
    """Scores of predicted clouds, and where they disagree with their references.

    Returns:
        None for the scores where no source carries a label.
    """
    places: list[Disagreement] = []
    result = score_clouds(_labelled(spec, folder, outcomes, places), spec.class_names)
    places.sort(key=lambda place: -place.points)
    return result if result.clouds else None, places


def metrics(result: Evaluation, places: Sequence[Disagreement], spec: Spec) -> dict:
    """What ``metrics.json`` holds."""
    return {**result.to_dict(), "disagreements": summarize_disagreements(places, spec)}


def predicted_spec(
    spec: Spec, folder: Path, outcomes: Sequence[PredictedCloud]
) -> Spec:
    """The spec whose classes the predictions hold: joined, where they were.

    Raises:
        DataError: The classes of some were joined in another way.
    """
    ways = {outcome.classes for outcome in outcomes}
    if len(ways) > 1:
        raise DataError(
            f"{folder}: its clouds were predicted with different --classes "
            f"({', '.join(way or 'none' for way in sorted(ways))}); predict them alike "
            "with --overwrite, or into folders of their own"
        )
    way = ways.pop() if ways else ""
    return fold_spec(spec, way)[0] if way else spec


def _relative(folder: Path, run: RunFolder) -> str:
    """A path that stays right when the run is moved, if the folder lies in it."""
    folder, root = folder.resolve(), run.root.resolve()
    return str(folder.relative_to(root) if root in folder.parents else folder)


def _labelled(
    spec: Spec,
    folder: Path,
    outcomes: Sequence[PredictedCloud],
    places: list[Disagreement],
):
    """Predicted clouds that can be scored; `places` gets their disagreements."""
    for outcome in outcomes:
        pair = read_pair(spec, folder, outcome)
        if np.any(pair.reference >= 0):
            before = outcome.uncalibrated
            places += find_disagreements(
                pair.name,
                pair.xyz,
                pair.reference,
                pair.prediction,
                pair.confidence,
                spec.class_names,
                origin=pair.origin,
                distance=spec.link_distance,
                confident=spec.evaluation.min_confidence,
                points=spec.evaluation.min_points,
            )
            yield Scored(
                pair.name,
                pair.reference,
                pair.prediction,
                pair.confidence,
                ReliabilityCounts.from_dict(before) if before else None,
                pair.sure,
            )
