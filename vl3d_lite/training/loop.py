"""The training loop: steps, validation, early stopping."""

import importlib.util
import logging
import math
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
from tqdm import tqdm

from vl3d_lite.errors import DataError, DivergedError, SpecError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.history import write_history
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.system.writing import replacing
from vl3d_lite.training.checkpoints import (
    Progress,
    averaged_weights,
    load_variables,
    restore,
    save,
    save_variables,
)
from vl3d_lite.training.compilation import compile_model
from vl3d_lite.training.joined_optimizer import innermost

logger = logging.getLogger(__name__)


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
    write_history(run.history, progress.history)
    told = f"epoch {progress.epoch}/{training.epochs}: loss {loss:.4f}"
    if "miou" in scores:
        told += f", validation mIoU {scores['miou']:.4f}"
    if not bar.disable:
        bar.write(told, file=sys.stderr)


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
