"""Training: steps, validation, checkpoints, and going on after an interruption."""

import csv
import importlib.util
import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import keras
import numpy as np
from tqdm import tqdm

from vl3d_lite.errors import DataError, DivergedError, SpecError
from vl3d_lite.model.backend import make_deterministic, uses_accelerator
from vl3d_lite.model.cost import TRAINING_BREAK_EVEN, pays_to_compile
from vl3d_lite.runs.folder import RunFolder, replacing, write_text
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.training.joined_optimizer import innermost
from vl3d_lite.training.losses import PointCrossEntropy
from vl3d_lite.training.optimizers import build_optimizer

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """Where a training stands; what a checkpoint holds beside the variables."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_score: float = -math.inf
    best_epoch: int = -1
    epochs_without_gain: int = 0
    plateau_epochs: int = 0
    history: list[dict] = field(default_factory=list)

    def to_json(self) -> str:
        """As text; an infinite score becomes null."""
        content = asdict(self)
        if math.isinf(self.best_score):
            content["best_score"] = None
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """The inverse of `to_json`."""
        content = json.loads(text)
        if content["best_score"] is None:
            content["best_score"] = -math.inf
        return cls(**content)


def choose_jit(spec: Spec, total_steps: int) -> bool:
    """Whether training compiles with XLA, and say so.

    `auto` compiles on a GPU, and on a CPU where the training is long enough to
    repay the time XLA takes to compile.
    """
    setting = spec.training.jit
    if setting != "auto":
        return setting == "on"
    if keras.backend.backend() == "torch":
        return False
    if uses_accelerator():
        return True
    points = spec.points_per_batch
    jit = pays_to_compile(spec, total_steps)
    logger.info(
        "jit: auto chose %s (%d steps of %d points; XLA pays from about %d such steps)",
        "XLA" if jit else "no XLA",
        total_steps,
        points,
        math.ceil(TRAINING_BREAK_EVEN / points),
    )
    return jit


def class_weights(spec: Spec, labels: list[np.ndarray]) -> list[float] | None:
    """One weight a class, of mean 1 over the labelled points, or None.

    `auto` takes the inverse square root of a class's share, so that a rare
    class speaks up without drowning the others.
    """
    setting = spec.training.class_weights
    if setting == "none":
        return None
    if setting != "auto":
        return list(setting)
    n_classes = len(spec.classes)
    counts = sum(
        np.bincount(part[part >= 0], minlength=n_classes).astype(float)
        for part in labels
    )
    share = np.maximum(counts, 1) / max(counts.sum(), 1)
    weights = 1 / np.sqrt(share)
    return (weights / np.sum(weights * share)).tolist()


def require_tensorboard(spec: Spec) -> None:
    """Complain early where logs are asked for and TensorBoard is not there.

    Raises:
        SpecError: `training.tensorboard` is on and the package is missing.
    """
    if spec.training.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise SpecError(
            "`training.tensorboard` needs the package tensorboard; install it with "
            "`pip install tensorboard`, or set it to false"
        )


def compile_model(
    model: keras.Model, spec: Spec, total_steps: int, weights: list[float] | None
) -> None:
    """Give a network its optimizer and loss, and XLA where it pays."""
    training = spec.training
    jit = choose_jit(spec, total_steps)
    if training.deterministic:
        make_deterministic(jit)
    model.compile(
        optimizer=build_optimizer(training, total_steps),
        loss=PointCrossEntropy(weights, training.label_smoothing, training.lovasz),
        jit_compile=jit,
    )
    model.optimizer.build(model.trainable_variables)


def fit(
    model: keras.Model,
    batches,
    spec: Spec,
    run: RunFolder,
    *,
    weights: list[float] | None,
    validate: Callable[[], dict] | None,
    on_epoch: Callable[[int, keras.Model], None],
    interrupts: Interrupts,
    resume: bool,
    quiet: bool,
) -> Progress:
    """Train `model` in place; it ends with the weights of the best epoch.

    Args:
        model: The network.
        batches: A `TrainingBatches`.
        spec: The run's spec.
        run: Where history and checkpoints are written.
        weights: One loss weight a class, or None.
        validate: Gives the validation scores of `model`, ``miou`` among
            them; None where there is no validation cloud, and the loss of the
            epoch chooses.
        on_epoch: Called with the number of finished epochs and the model.
        interrupts: Asked before every step whether a signal came.
        resume: Go on from the last checkpoint, where there is one.
        quiet: No progress bar.

    Returns:
        Where the training ended, with its history.

    Raises:
        DivergedError: The loss is not finite; the batch is saved.
        InterruptedRunError: A signal came; a checkpoint is written.
    """
    training = spec.training
    total_steps = training.epochs * batches.steps_per_epoch
    compile_model(model, spec, total_steps, weights)
    progress = Progress()
    if resume and run.last_checkpoint.is_file():
        progress = restore(run, model)
        logger.info("resumed at epoch %d, step %d", progress.epoch + 1, progress.step)
        if progress.epoch and not run.best_weights.is_file():
            logger.warning(
                "%s: is gone; the weights of the checkpoint count as the best so far",
                run.best_weights,
            )
            with averaged_weights(model):
                save_variables(run.best_weights, model.variables)
            progress.best_score, progress.best_epoch = -math.inf, progress.epoch
    callbacks = _tensorboard(training, run, model)
    callbacks.on_train_begin()

    bar = tqdm(
        total=total_steps,
        initial=progress.epoch * batches.steps_per_epoch + progress.step,
        desc="training",
        unit="step",
        disable=quiet,
    )
    with bar:
        while progress.epoch < training.epochs:
            if _stops_early(training, progress):
                logger.info("early stop after epoch %d", progress.epoch)
                break
            _run_epoch(model, batches, run, progress, interrupts, bar)
            _end_epoch(model, batches, spec, run, progress, validate, bar)
            callbacks.on_epoch_end(progress.epoch - 1, _numbers(progress.history[-1]))
            on_epoch(progress.epoch, model)
    callbacks.on_train_end()
    load_variables(run.best_weights, model.variables)
    return progress


def _run_epoch(model, batches, run, progress, interrupts, bar):
    began = time.monotonic() - progress.seconds
    source = batches.epoch(progress.epoch, start_step=progress.step)
    try:
        for inputs, labels in source:
            if interrupts.received:
                progress.seconds = time.monotonic() - began
                save(run, model, progress)
                interrupts.stop(
                    f"{run.root}: a checkpoint is written; go on with --resume"
                )
            model.reset_metrics()
            loss = float(model.train_on_batch(inputs, labels))
            if not math.isfinite(loss):
                _diverged(run, progress, inputs, labels, loss)
            progress.step += 1
            progress.loss_sum += loss
            bar.update()
            bar.set_postfix(loss=f"{progress.loss_sum / progress.step:.3f}")
    finally:
        source.close()
    progress.seconds = time.monotonic() - began


def _end_epoch(model, batches, spec, run, progress, validate, bar):
    training = spec.training
    points = progress.step * spec.points_per_batch
    loss = progress.loss_sum / max(progress.step, 1)
    row = {
        "epoch": progress.epoch + 1,
        "loss": loss,
        "learning_rate": float(keras.ops.convert_to_numpy(_rate(model.optimizer))),
        "seconds": round(progress.seconds, 2),
        "points_per_second": round(points / max(progress.seconds, 1e-9)),
        "wait_share": round(batches.wait_seconds / max(progress.seconds, 1e-9), 4),
    }
    batches.wait_seconds = 0.0
    with averaged_weights(model):
        scores = validate() if validate else {}
        row.update({f"val_{name}": value for name, value in scores.items()})
        score = scores.get("miou", -loss)
        improved = score > progress.best_score
        if improved:
            save_variables(run.best_weights, model.variables)
    progress.history.append(row)
    progress.epoch += 1
    progress.step, progress.loss_sum, progress.seconds = 0, 0.0, 0.0
    progress.epochs_without_gain = 0 if improved else progress.epochs_without_gain + 1
    progress.plateau_epochs = 0 if improved else progress.plateau_epochs + 1
    if improved:
        progress.best_score, progress.best_epoch = score, progress.epoch
    schedule = training.schedule
    if schedule.name == "plateau" and progress.plateau_epochs >= schedule.patience:
        progress.plateau_epochs = 0
        model.optimizer.learning_rate = (
            float(model.optimizer.learning_rate) * schedule.decay
        )
        logger.info("plateau: learning rate lowered")
    ended = progress.epoch == training.epochs or _stops_early(training, progress)
    if ended or progress.epoch % training.checkpoint_every == 0:
        save(run, model, progress)
    write_text(run.history, history_csv(progress.history))
    told = f"epoch {progress.epoch}/{training.epochs}: loss {loss:.4f}"
    if "miou" in scores:
        told += f", validation mIoU {scores['miou']:.4f}"
    if not bar.disable:
        bar.write(told, file=sys.stderr)


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Lend a model the running mean of its weights, if its optimizer keeps one.

    The statistics of BatchNormalization are running means already and stay.

    Source:
        Polyak and Juditsky, *Acceleration of Stochastic Approximation by
        Averaging* (1992), with an exponential window.
    """
    if not innermost(model.optimizer).use_ema:
        yield
        return
    variables = model.trainable_variables
    own = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    model.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)


def _rate(optimizer):
    # The rate of the step just made, not of the one to come.
    optimizer = innermost(optimizer)
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate(keras.ops.maximum(optimizer.iterations - 1, 0))
    return rate


def _stops_early(training, progress):
    patience = training.early_stopping
    return patience is not None and progress.epochs_without_gain >= patience


def _tensorboard(training, run, model):
    wanted = (
        [keras.callbacks.TensorBoard(str(run.tensorboard))]
        if training.tensorboard
        else []
    )
    return keras.callbacks.CallbackList(wanted, model=model)


def _numbers(row):
    return {name: value for name, value in row.items() if name != "epoch"}


def _diverged(run, progress, inputs, labels, loss):
    for name, values in inputs.items():
        if not np.all(np.isfinite(values)):
            raise DataError(f"the batch holds a value of `{name}` that is not finite")
    with replacing(run.bad_batch) as part, part.open("wb") as file:
        np.savez_compressed(file, labels=labels, **inputs)
    raise DivergedError(
        f"the loss became {loss} in epoch {progress.epoch + 1}, step "
        f"{progress.step + 1}; the batch is saved as {run.bad_batch}. Lower "
        "`training.learning_rate`, or set `training.precision: float32`"
    )


def history_csv(rows: list[dict]) -> str:
    """The rows of a history as CSV, one epoch a line."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def save_variables(path, variables, **more) -> None:
    """Write the values of `variables`, in order, to an npz file."""
    values = {
        f"v{number}": keras.ops.convert_to_numpy(variable)
        for number, variable in enumerate(variables)
    }
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **values, **more)


def load_variables(path, variables):
    """Read what `save_variables` wrote into `variables`; give the file's rest.

    Raises:
        DataError: The file is damaged or belongs to another network.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}); train again") from error
    for number, variable in enumerate(variables):
        value = content.pop(f"v{number}", None)
        if value is None or value.shape != tuple(variable.shape):
            raise DataError(
                f"{path}: is of another network (variable {number}, {variable.path}); "
                "train again with --overwrite"
            )
        variable.assign(value)
    return content


def save(run: RunFolder, model: keras.Model, progress: Progress) -> None:
    """Write a checkpoint: model, optimizer, random states, and where we are."""
    save_variables(
        run.last_checkpoint,
        [*model.variables, *model.optimizer.variables],
        progress=np.array(progress.to_json()),
    )


def restore(run: RunFolder, model: keras.Model) -> Progress:
    """Read the last checkpoint into the model and its optimizer."""
    rest = load_variables(
        run.last_checkpoint, [*model.variables, *model.optimizer.variables]
    )
    return Progress.from_json(str(rest["progress"]))
