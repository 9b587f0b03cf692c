"""Score predictions whose sources carry labels."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vl3d_lite.dataset import check_clouds, impute_constant_features, prepare_file
from vl3d_lite.errors import DataError, ResourceError
from vl3d_lite.evaluation import (
    Disagreement,
    Evaluation,
    RotationReport,
    ScoredCloud,
    disagreements_csv,
    find_disagreements,
    measure_rotations,
    read_pair,
    summarize_disagreements,
)
from vl3d_lite.evaluation import evaluate as score_clouds
from vl3d_lite.model import prepare_backend
from vl3d_lite.pipeline.independence import caveats
from vl3d_lite.pipeline.opening import load_network, open_run, origin_of
from vl3d_lite.prediction import (
    Origin,
    PredictedCloud,
    ReliabilityCounts,
    Temperature,
    assemble,
    group_classes,
    read_outcomes,
)
from vl3d_lite.report import write_run_report
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import Spec
from vl3d_lite.system import (
    Interrupts,
    output_errors,
    safe_point,
    write_json,
    write_text,
)

logger = logging.getLogger(__name__)

_NAMED = 5  # clouds of one model in a message


def evaluate(run: RunFolder, folder: Path) -> Evaluation | None:
    """Score the predictions in `folder` whose sources have labels.

    Writes ``metrics.json``, ``metrics.csv``, ``disagreements.csv``, plots and
    ``report.html`` into the run folder, or beside the predictions where the run is a
    shipped model (`RunFolder.scored_in`).

    Args:
        run: A trained run.
        folder: Where `predict` wrote the clouds.

    Returns:
        The scores; None where no source has labels.

    Raises:
        DataError: There are no predictions, another model made one, or a file of one
            is not found.
        ResourceError: Another process writes the run.
        InterruptedRunError: A signal came.
    """
    run.require_model()
    with run.locked_for(run.scored_in(folder).metrics.parent):
        return evaluate_locked(run, folder)


def evaluate_locked(run: RunFolder, folder: Path) -> Evaluation | None:
    """Score as `evaluate` does, in a run folder that this process has locked."""
    # A block, so that a signal ends the command before or after its files are written.
    with Interrupts():
        return _evaluate(run, folder)


def _evaluate(run: RunFolder, folder: Path) -> Evaluation | None:
    spec, _ = open_run(run)
    outcomes = _assembled(folder)
    if not outcomes:
        raise DataError(
            f"{folder}: holds no predictions; run `vl3d-lite predict` first"
        )
    require_own(origin_of(run, spec, Temperature(), ""), run, folder, outcomes)
    spec = predicted_spec(spec, folder, outcomes)
    result, disagreements = score(spec, folder, outcomes)
    if result is not None:
        result = _with_caveats(result, run, outcomes, spec)
    safe_point("interrupted; no scores were written")
    target = run.scored_in(folder)
    if result is None:
        logger.info("no cloud has labels; there is nothing to score")
        with output_errors(target.report.parent):
            for stale in (
                target.metrics,
                target.scores,
                target.disagreements,
                target.confusion_plot,
            ):
                stale.unlink(missing_ok=True)
    else:
        write_json(target.metrics, metrics(result, disagreements, spec))
        result.write_csv(target.scores)
        write_text(target.disagreements, disagreements_csv(disagreements))
    if target is run:
        run.update_provenance(evaluated=_relative(folder, run))
    write_run_report(target, spec, result, folder, outcomes, disagreements)
    return result


def _assembled(folder: Path) -> list[PredictedCloud]:
    """The records of a folder; also lists them, if several processes wrote them."""
    try:
        return assemble(folder)
    except ResourceError as error:  # the folder of another user
        logger.warning("warning: %s", error)
        return read_outcomes(folder)


def require_own(
    origin: Origin, run: RunFolder, folder: Path, outcomes: Sequence[PredictedCloud]
) -> None:
    """Check that the model of a run made predictions, by the hashes of their records.

    Warns of records that name no model, which earlier versions wrote.

    Args:
        origin: The model of the run; its settings do not count.
        run: The run.
        folder: Where the predicted clouds are.
        outcomes: The predicted clouds.

    Raises:
        DataError: Another model made one of them.
    """
    unnamed = [one.output for one in outcomes if not one.weights_sha256]
    if unnamed:
        logger.warning(
            "%s: the record of %s does not name the model that predicted it, because "
            "an earlier version wrote it; its scores may be those of another model. "
            "Predict again with --overwrite",
            folder,
            _some(unnamed),
        )
    clouds: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.weights_sha256:
            difference = next(origin.other_model(outcome), "")
            clouds.setdefault(difference, []).append(outcome.output)
    own = clouds.pop("", [])
    if clouds:
        parts = [f"{_some(names)} ({text})" for text, names in clouds.items()]
        rest = f"; {_some(own)} with this one" if own else ""
        raise DataError(
            f"{folder}: its clouds were predicted with another model than that of "
            f"{run.root}: {'; '.join(parts)}{rest}. Evaluate each model with its own "
            "predictions in a folder of their own, or predict again with --overwrite"
        )


def _some(names: Sequence[str]) -> str:
    """The first names of many."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _with_caveats(
    result: Evaluation, run: RunFolder, outcomes: Sequence[PredictedCloud], spec: Spec
) -> Evaluation:
    """The scores with a sentence on each cloud that is no independent test."""
    scored = [outcome for outcome in outcomes if outcome.output in result.clouds]
    return replace(result, caveats=caveats(run, scored, spec.clouds.unit))


def rotations(run: RunFolder, cloud: Path, options: Options) -> RotationReport:
    """Measure how many points of a cloud keep their class when the cloud is rotated.

    Writes ``rotations.json`` into the run folder.

    Args:
        run: A trained run.
        cloud: A LAS or LAZ file.
        options: `threads` and `quiet`.

    Raises:
        VL3DError: The run or the cloud cannot be used, or a signal came.
    """
    run.require_model()
    with run.locked_for(run.rotations.parent):
        return _rotations(run, cloud, options)


def _rotations(run: RunFolder, cloud: Path, options: Options) -> RotationReport:
    spec, scaling = open_run(run)
    check_clouds([cloud], spec, count_classes=False)
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
    """Score predicted clouds, and find where they disagree with their references.

    Args:
        spec: The spec whose classes the predictions hold (`predicted_spec`).
        folder: Where the predicted clouds are.
        outcomes: The predicted clouds.

    Returns:
        The scores, None where no source has labels; and the disagreements, the
        largest first.
    """
    disagreements: list[Disagreement] = []
    labeled = _labeled(spec, folder, outcomes, disagreements)
    result = score_clouds(labeled, spec.class_names)
    disagreements.sort(key=lambda one: -one.points)
    return result if result.clouds else None, disagreements


def metrics(
    result: Evaluation, disagreements: Sequence[Disagreement], spec: Spec
) -> dict:
    """The content of ``metrics.json``."""
    summary = summarize_disagreements(disagreements, spec)
    return {**result.to_dict(), "disagreements": summary}


def predicted_spec(
    spec: Spec, folder: Path, outcomes: Sequence[PredictedCloud]
) -> Spec:
    """The spec with the classes that predictions hold: grouped, if they were.

    Args:
        spec: The spec of the run.
        folder: Where the predictions are; named in messages.
        outcomes: The predicted clouds.

    Raises:
        DataError: The clouds were predicted with different class groups.
    """
    found = {outcome.class_groups for outcome in outcomes}
    if len(found) > 1:
        texts = ", ".join(text or "none" for text in sorted(found))
        raise DataError(
            f"{folder}: its clouds were predicted with different --classes ({texts}); "
            "predict all of them with the same, using --overwrite, or write them into "
            "separate folders"
        )
    class_groups = found.pop() if found else ""
    return group_classes(spec, class_groups)[0] if class_groups else spec


def _relative(folder: Path, run: RunFolder) -> str:
    """A path that stays valid when the run is moved, if the folder is inside it."""
    folder, root = folder.resolve(), run.root.resolve()
    return str(folder.relative_to(root) if root in folder.parents else folder)


def _labeled(
    spec: Spec,
    folder: Path,
    outcomes: Sequence[PredictedCloud],
    disagreements: list[Disagreement],
) -> Iterator[ScoredCloud]:
    """The predicted clouds that have labels; adds to the `disagreements` of all."""
    for outcome in outcomes:
        safe_point("interrupted; no scores were written")
        pair = read_pair(spec, folder, outcome)
        if np.any(pair.reference >= 0):
            before = outcome.uncalibrated
            disagreements += find_disagreements(
                pair.name,
                pair.xyz,
                pair.reference,
                pair.prediction,
                pair.confidence,
                spec.class_names,
                frame=pair.frame,
                link_distance=spec.link_distance,
                min_confidence=spec.evaluation.min_confidence,
                min_points=spec.evaluation.min_points,
            )
            yield ScoredCloud(
                pair.name,
                pair.reference,
                pair.prediction,
                pair.confidence,
                ReliabilityCounts.from_dict(before) if before else None,
                pair.accepted,
                pair.partial,
            )
