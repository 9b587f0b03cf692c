"""Classify clouds with a trained run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from vl3d_lite.dataset import exclusion_warning
from vl3d_lite.errors import DataError, SpecError, VL3DError
from vl3d_lite.model import prepare_backend
from vl3d_lite.pipeline.cloud_queue import CloudQueue
from vl3d_lite.pipeline.domain import outside_domain
from vl3d_lite.pipeline.on_workers import predict_on_workers
from vl3d_lite.pipeline.opening import (
    OpenedRun,
    load_network,
    open_calibration,
    open_run,
    open_to_predict,
)
from vl3d_lite.prediction import (
    Classifier,
    Inference,
    Origin,
    Outputs,
    PredictedCloud,
    class_column,
)
from vl3d_lite.report import write_color_files
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import PredictionSpec, Spec
from vl3d_lite.system import Interrupts

logger = logging.getLogger(__name__)


def predict(
    run: RunFolder,
    paths: Sequence[Path],
    folder: Path,
    options: Options,
    overrides: Sequence[str] = (),
    class_groups: str = "",
) -> list[PredictedCloud]:
    """Classify clouds with a trained run and write them into `folder`.

    A cloud that fails does not stop the others.

    Args:
        run: A trained run.
        paths: LAS or LAZ files.
        folder: Where the classified copies go.
        options: Options of the command. With `resume` the outputs that are as they
            would be written now are kept; others are an error, or replaced if
            `overwrite` is set too.
        overrides: Changes of the spec, ``prediction.<key>=<value>`` or
            ``clouds.unit=<unit>`` each.
        class_groups: Groups to merge the classes of the run into, as
            `group_classes` reads them; empty for none.

    Returns:
        The record of each cloud in the folder, predicted now or before; of a shard
        the records of its own clouds.

    Raises:
        SpecError: An override or a group is invalid, or an output exists that may
            not be kept or replaced.
        VL3DError: The error of the first cloud that failed, after all others are
            done. The errors of the others are logged as they occur.
    """
    _require_allowed(overrides)
    opened = open_to_predict(run, overrides, class_groups)
    outputs = Outputs.of_command(folder, paths, options)
    with outputs.claimed():
        outputs.decide(opened.origin)
        if not outputs.remaining:
            if options.shard and not outputs.targets:
                logger.info("shard %s holds no clouds", options.shard)
            return list(outputs.outcomes.values())
        if warning := exclusion_warning(opened.spec, outputs.remaining):
            logger.warning("warning: %s", warning)
        errors = _predict_remaining(opened, overrides, outputs, options)
        column = class_column(opened.spec)
        if outputs.outcomes and column:
            write_color_files(folder, opened.grouped, column)
    if errors:
        raise _first_of(errors, len(outputs.targets))
    return list(outputs.outcomes.values())


def _predict_remaining(
    opened: OpenedRun, overrides: Sequence[str], outputs: Outputs, options: Options
) -> list[VL3DError]:
    """Predict the remaining clouds, here or on workers; return the errors of some."""
    if options.workers:
        return predict_on_workers(opened, overrides, outputs, options)
    return _predict_here(opened, outputs, options)


def _predict_here(
    opened: OpenedRun, outputs: Outputs, options: Options
) -> list[VL3DError]:
    """Predict the remaining clouds in this process; return the errors of some."""
    outside = outside_domain(
        opened.run, opened.spec, outputs.remaining, options.threads
    )
    with Interrupts() as interrupts:
        classifier = opened.classifier(options, interrupts, outside)
        return CloudQueue(classifier, outputs).predict()


def _require_allowed(overrides: Sequence[str]) -> None:
    """Check that overrides change what a trained run can change."""
    for override in overrides:
        if not override.startswith(("prediction.", "clouds.unit=")):
            raise SpecError(
                f"--set {override}: a trained run can only change `prediction.*` "
                "and `clouds.unit`"
            )


def _first_of(errors: Sequence[VL3DError], clouds: int) -> VL3DError:
    """The first error, with the number of clouds that failed."""
    first = errors[0]
    first.args = (f"{len(errors)} of {clouds} clouds were not predicted: {first}",)
    return first


def repeat_predictions(
    run: RunFolder,
    outcomes: Sequence[PredictedCloud],
    folder: Path,
    quiet: bool,
    threads: int | None = None,
) -> list[PredictedCloud]:
    """Predict clouds again, each with the settings it was predicted with.

    Args:
        run: A trained run.
        outcomes: The records of ``predictions.json``; their sources exist.
        folder: Where the clouds are written.
        quiet: Show no progress bars.
        threads: Processors to use; None for as many as each cloud was predicted with.

    Raises:
        VL3DError: The run or a cloud cannot be used, or a signal came.
    """
    spec, scaling = open_run(run)
    most = max(threads or outcome.threads for outcome in outcomes)
    prepare_backend(spec.seed, most)
    model = load_network(run, spec, scaling)
    repeated = []
    with Interrupts() as interrupts:
        for outcome in outcomes:
            settings = _settings_of(outcome, spec)
            classifier = Classifier(
                Inference(model, settings),
                settings,
                scaling,
                # A dimension that was replaced then is replaced again.
                Options(threads or outcome.threads, quiet=quiet, replace=True),
                interrupts,
                open_calibration(run, settings),
                outcome.class_groups,
                Origin.of(outcome),
            )
            source = Path(outcome.source)
            predicted = classifier.vote(source)
            target = folder / outcome.output
            repeated.append(classifier.write(source, target, predicted))
    return repeated


def _settings_of(outcome: PredictedCloud, spec: Spec) -> Spec:
    """The spec of a run as it was when a cloud was predicted."""
    jit = "on" if outcome.xla else "off"
    try:
        prediction = PredictionSpec(**outcome.settings)
    except (TypeError, ValidationError) as error:
        raise DataError(
            f"{outcome.output}: the settings of its record are not valid "
            f"({str(error).splitlines()[0]}); predict again with --overwrite"
        ) from error
    return spec.model_copy(
        update={
            "prediction": prediction,
            "clouds": spec.clouds.model_copy(update={"unit": outcome.unit}),
            "training": spec.training.model_copy(update={"jit": jit}),
        }
    )
