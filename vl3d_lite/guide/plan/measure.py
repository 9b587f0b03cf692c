"""Time some steps of a real training, and some batches of prediction."""

import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import keras

from vl3d_lite.dataset import (
    FeatureScaling,
    PreparedCloud,
    SweepBatches,
    TrainingBatches,
    batch_spec,
    prepare_file,
)
from vl3d_lite.kernels import export_model_kernels
from vl3d_lite.model import build_network, kernels_of, prepare_backend, save_model
from vl3d_lite.prediction import Inference, softmax
from vl3d_lite.spec import LoadedSpec, Spec
from vl3d_lite.training import compile_model, loss_weights

logger = logging.getLogger(__name__)

WARM_STEPS = 1  # not timed: the caches of the first step after tracing are cold
STEPS, SECONDS = 8, 20.0  # steps are timed until either is reached
BATCHES = 4  # of prediction, timed after the one that traces


@dataclass(frozen=True)
class StepTimes:
    """Measured seconds.

    Attributes:
        preparation: Preparing a cloud, per point of the file.
        building: Building the network, and exporting its initial kernels.
        compiling: Tracing and compiling the training step.
        step: One training step with its batch.
        validation_compiling: Tracing and compiling the network that predicts.
        validation: One batch of prediction.
        ending: Saving the model and exporting its kernels.
    """

    preparation: float
    building: float
    compiling: float
    step: float
    validation_compiling: float
    validation: float
    ending: float


def measure(loaded: LoadedSpec, steps: int, threads: int) -> StepTimes:
    """Train for some steps, predict some batches, and time them.

    All files go to a temporary folder.

    Args:
        loaded: The spec.
        steps: Training steps per epoch.
        threads: CPU threads of the run.
    """
    spec = loaded.spec
    prepare_backend(spec.seed, threads)
    largest = max(loaded.clouds["train"], key=lambda path: path.stat().st_size)
    begin = time.perf_counter()
    cloud = prepare_file(largest, spec, threads)
    preparation = (time.perf_counter() - begin) / len(cloud.cell_of_point)

    begin = time.perf_counter()
    scaling = FeatureScaling.fit([cloud])
    batches = TrainingBatches([cloud], spec, scaling)
    batches.steps_per_epoch = 1 + WARM_STEPS + STEPS
    model = build_network(
        spec.model,
        batch_spec(spec, len(scaling.names)),
        n_classes=len(spec.classes),
        spacings=spec.spacings,
        precision=spec.training.precision,
    )
    _export(model, spec, "INIT")
    building = time.perf_counter() - begin
    logger.info("compiling the training step, then timing some steps")
    begin = time.perf_counter()
    weights = loss_weights(spec, [cloud.labels])
    compile_model(model, spec, steps * spec.training.epochs, weights)
    first, step = _train(model, batches, begin)
    logger.info("compiling the network that predicts, then timing some batches")
    compiling, validation = _predict(model, cloud, spec, scaling, threads)
    return StepTimes(
        preparation=preparation,
        building=building,
        compiling=max(0.0, first - step),
        step=step,
        validation_compiling=max(0.0, compiling - validation),
        validation=validation,
        ending=_end(model, spec),
    )


def _train(
    model: keras.Model, batches: TrainingBatches, begin: float
) -> tuple[float, float]:
    """Seconds of the first step, from `begin` on, and the median of later ones."""
    seconds: list[float] = []
    for inputs, labels in batches.epoch(0):
        model.reset_metrics()
        float(model.train_on_batch(inputs, labels))  # waits for the result
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        if sum(seconds[1:]) > SECONDS and len(seconds) > 2 + WARM_STEPS:
            break
    return seconds[0], statistics.median(seconds[1 + WARM_STEPS :])


def _predict(
    model: keras.Model,
    cloud: PreparedCloud,
    spec: Spec,
    scaling: FeatureScaling,
    threads: int,
) -> tuple[float, float]:
    """Seconds of the first batch, and the median of some more."""
    sweep = SweepBatches(
        cloud, spec, scaling, votes=1, batch_size=spec.prediction_batch, threads=threads
    )
    view = Inference(model, spec).view(len(sweep) * spec.training.epochs)
    seconds: list[float] = []
    begin = time.perf_counter()
    for inputs, _ in sweep:
        softmax(view.predict_on_batch(inputs))
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        if len(seconds) > BATCHES:
            break
    return seconds[0], statistics.median(seconds[1:] or seconds)


def _end(model: keras.Model, spec: Spec) -> float:
    """Seconds of exporting kernels and saving the model after the last epoch."""
    begin = time.perf_counter()
    _export(model, spec, "TRAINED")
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, Path(folder) / "model.keras")
    return time.perf_counter() - begin


def _export(model: keras.Model, spec: Spec, prefix: str) -> None:
    """Export the kernels to a temporary folder, if the spec asks for them."""
    if not spec.export.kernels:
        return
    rows = [(k.name, k.Q, k.W, k.facts) for k in kernels_of(model)]
    past = {name: w for name, _, w, _ in rows} if prefix == "TRAINED" else None
    with tempfile.TemporaryDirectory() as folder:
        export_model_kernels(
            rows, Path(folder), prefix, past=past, plots=spec.export.plots
        )
