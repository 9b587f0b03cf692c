"""A short measured probe: some steps of the real training, and of prediction."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vl3d_lite.dataset.batches import (
    FeatureScaling,
    SweepBatches,
    TrainingBatches,
    batch_spec,
)
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.kernels.export import export_model_kernels
from vl3d_lite.model.backend import prepare_backend
from vl3d_lite.model.files import save_model
from vl3d_lite.model.kernels import kernels_of
from vl3d_lite.model.network import build_network
from vl3d_lite.prediction.inference import Inference
from vl3d_lite.prediction.votes import softmax
from vl3d_lite.spec.reader import LoadedSpec
from vl3d_lite.training.loop import compile_model
from vl3d_lite.training.losses import loss_weights

WARM_STEPS = 1  # after the one that traces
STEPS, SECONDS = 8, 20.0  # timed, at most
BATCHES = 4


@dataclass(frozen=True)
class Probe:
    """Seconds.

    Attributes:
        preparation: Of a point of a file.
        building: Of the network, and of the kernels that are written before training.
        compiling: Of the training step.
        step: Of a training step with its batch.
        validation_compiling: Of the network that predicts.
        validation: Of a batch in validation.
        ending: Of saving and exporting.
    """

    preparation: float
    building: float
    compiling: float
    step: float
    validation_compiling: float
    validation: float
    ending: float


def probe(loaded: LoadedSpec, steps: int, threads: int) -> Probe:
    """Train for some steps and predict some batches of the run, and time them.

    Nothing is kept: what is written goes to a folder that is removed.

    Args:
        loaded: The spec.
        steps: Of an epoch.
        threads: Of the run.
    """
    spec = loaded.spec
    prepare_backend(spec.seed, threads)
    source = max(loaded.clouds["train"], key=lambda path: path.stat().st_size)
    begin = time.perf_counter()
    cloud = prepare_file(source, spec, threads)
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
    begin = time.perf_counter()
    weights = loss_weights(spec, [cloud.labels])
    compile_model(model, spec, steps * spec.training.epochs, weights)
    seconds = []
    for inputs, labels in (source := batches.epoch(0)):
        model.reset_metrics()
        float(model.train_on_batch(inputs, labels))
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        if sum(seconds[1:]) > SECONDS and len(seconds) > 2 + WARM_STEPS:
            break
    source.close()
    step = statistics.median(seconds[1 + WARM_STEPS :])

    compiling, validation = _predict(model, cloud, spec, scaling, threads)
    return Probe(
        preparation=preparation,
        building=building,
        compiling=max(0.0, seconds[0] - step),
        step=step,
        validation_compiling=max(0.0, compiling - validation),
        validation=validation,
        ending=_end(model, spec),
    )


def _predict(model, cloud, spec, scaling, threads: int) -> tuple[float, float]:
    """Seconds of the first batch, and the median of some more."""
    sweep = SweepBatches(
        cloud, spec, scaling, votes=1, batch_size=spec.prediction_batch, threads=threads
    )
    view = Inference(model, spec).view(len(sweep) * spec.training.epochs)
    seconds = []
    begin = time.perf_counter()
    for inputs, _ in sweep:
        softmax(view.predict_on_batch(inputs))
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        if len(seconds) > BATCHES:
            break
    return seconds[0], statistics.median(seconds[1:] or seconds)


def _end(model, spec) -> float:
    """Seconds of what follows the last epoch: kernels and the model file."""
    begin = time.perf_counter()
    _export(model, spec, "TRAINED")
    with tempfile.TemporaryDirectory() as place:
        save_model(model, Path(place) / "model.keras")
    return time.perf_counter() - begin


def _export(model, spec, prefix: str) -> None:
    """Write the kernels as a run does, if it does, and throw them away."""
    if not spec.export.kernels:
        return
    rows = [(k.name, k.Q, k.W, k.facts) for k in kernels_of(model)]
    past = {name: w for name, _, w, _ in rows} if prefix == "TRAINED" else None
    with tempfile.TemporaryDirectory() as place:
        export_model_kernels(
            rows, Path(place), prefix, past=past, plots=spec.export.plots
        )
