"""Classify clouds with a trained run."""

import contextlib
import functools
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from vl3d_lite.dataset.batches import (
    SweepBatches,
)
from vl3d_lite.dataset.sizes import fits_beside
from vl3d_lite.errors import InterruptedRunError, SpecError, VL3DError
from vl3d_lite.model.backend import (
    prepare_backend,
)
from vl3d_lite.pipeline.opening import load_network, open_calibration, open_run
from vl3d_lite.prediction.class_groups import fold_spec
from vl3d_lite.prediction.classifier import Classifier, CloudPrediction
from vl3d_lite.prediction.inference import Inference
from vl3d_lite.prediction.outcomes import Outputs, PredictedCloud
from vl3d_lite.prediction.writing import class_column
from vl3d_lite.report.color_files import write_color_files
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.schema.results import PredictionSpec
from vl3d_lite.system.background import LookAhead
from vl3d_lite.system.interrupts import Interrupts

logger = logging.getLogger(__name__)


GO_ON = "interrupted; go on with the other clouds by --resume"


def predict(
    run: RunFolder,
    paths: Sequence[Path],
    folder: Path,
    options: Options,
    overrides: Sequence[str] = (),
    classes: str = "",
) -> list[PredictedCloud]:
    """Classify clouds with a trained run; write them into `folder`.

    One bad cloud does not stop the others. `overrides` change ``prediction.*``
    of the run's spec; `classes` joins its classes, as `fold_spec` reads it.

    Returns:
        What became of each cloud that was predicted, now or before.

    Raises:
        VL3DError: The trouble of the first cloud that failed, after all others
            are done; that of the others is logged as it comes.
    """
    for override in overrides:
        if not override.startswith("prediction."):
            raise SpecError(
                f"--set {override}: a trained run can only change `prediction.*`"
            )
    spec, scaling = open_run(run, overrides)
    temperature = open_calibration(run, spec)
    if classes:
        fold_spec(spec, classes)  # complains before anything is done
    outputs = Outputs(folder, paths, resume=options.resume, overwrite=options.overwrite)
    if not outputs.remaining:
        return list(outputs.outcomes.values())
    prepare_backend(spec.seed, options.threads)
    inference = Inference(load_network(run, spec, scaling), spec)
    outputs.require_writable()
    with Interrupts() as interrupts:
        classifier = Classifier(
            inference, spec, scaling, options, interrupts, temperature, classes
        )
        troubles = _predict_all(classifier, outputs)
    if outputs.outcomes and class_column(spec):
        shown = fold_spec(spec, classes)[0] if classes else spec
        write_color_files(folder, shown, class_column(spec))
    if troubles:
        first = troubles[0]
        first.args = (
            f"{len(troubles)} of {len(paths)} clouds were not predicted: {first}",
        )
        raise first
    return list(outputs.outcomes.values())


def _predict_all(classifier: Classifier, outputs: Outputs) -> list[VL3DError]:
    """Predict clouds and record what became of them.

    With several threads the next cloud is read, and the last one written, while the
    network works on this one.

    Returns:
        The troubles of clouds that failed, all but the first of which are logged.
    """
    spec, interrupts = classifier.spec, classifier.interrupts
    beside = classifier.options.threads > 1
    keys = [
        (path, grid)
        for path in outputs.remaining
        for grid in range(spec.prediction.grids)
    ]
    troubles: list[VL3DError] = []
    writing: list[Future] = []

    def note(error: VL3DError) -> None:
        if troubles:
            logger.error("%s", error)
        troubles.append(_let_go(error))

    def settle(pending: int = 0) -> None:
        while len(writing) > pending:
            try:
                writing.pop(0).result()
            except InterruptedRunError:
                raise
            except VL3DError as error:
                note(error)

    def record(path: Path, voted: CloudPrediction) -> None:
        outputs.record(classifier.write(path, outputs.targets[path], voted))

    def take(path: Path, grid: int) -> SweepBatches:
        return sweeps.take((path, grid))

    with LookAhead(
        lambda key: classifier.sweep(*key),
        keys,
        lambda key: beside and fits_beside(key[0], spec),
    ) as sweeps:
        try:
            for path in outputs.remaining:
                try:
                    work = functools.partial(record, path, classifier.vote(path, take))
                    # Once it is to stop, nothing waits behind the next cloud.
                    if beside and interrupts.received is None:
                        writing.append(sweeps.defer(work))
                    else:
                        settle()
                        work()
                except InterruptedRunError:
                    raise
                except VL3DError as error:
                    settle()
                    note(error)
                work = None  # it holds the votes
                settle(pending=1)
                interrupts.check(GO_ON)
            settle()
            interrupts.check(GO_ON)
        except BaseException as error:
            with contextlib.suppress(InterruptedRunError):
                settle()
            if isinstance(error, InterruptedRunError):
                for trouble in troubles[:1]:  # the others are told
                    logger.error("%s", trouble)
            raise
    return troubles


def _let_go(error: VL3DError) -> VL3DError:
    """An error without the frames that hold the arrays of its cloud."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


def repeat_predictions(
    run: RunFolder, outcomes: Sequence[PredictedCloud], folder: Path, quiet: bool
) -> list[PredictedCloud]:
    """Predict clouds anew, each with the settings it was predicted with.

    Args:
        run: A trained run.
        outcomes: As ``predictions.json`` has them; the sources are at hand.
        folder: Where the clouds are written.
        quiet: No progress bars.
    """
    spec, scaling = open_run(run)
    prepare_backend(spec.seed, max(outcome.threads for outcome in outcomes))
    model = load_network(run, spec, scaling)
    repeated = []
    with Interrupts() as interrupts:
        for outcome in outcomes:
            jit = "on" if outcome.xla else "off"
            again = spec.model_copy(
                update={
                    "prediction": PredictionSpec(**outcome.settings),
                    "training": spec.training.model_copy(update={"jit": jit}),
                }
            )
            classifier = Classifier(
                Inference(model, again),
                again,
                scaling,
                # What replaced a dimension then replaces it again.
                Options(threads=outcome.threads, quiet=quiet, replace=True),
                interrupts,
                open_calibration(run, again),
                outcome.classes,
            )
            source = Path(outcome.source)
            voted = classifier.vote(source)
            repeated.append(classifier.write(source, folder / outcome.output, voted))
    return repeated
