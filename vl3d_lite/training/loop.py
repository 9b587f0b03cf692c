"""The training loop: steps, validation, checkpoints, early stopping."""

import contextlib
import importlib.util
import logging
import math
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import keras
import numpy as np

from vl3d_lite.dataset import Inputs, TrainingBatches
from vl3d_lite.errors import DataError, DivergedError, SpecError
from vl3d_lite.model import make_deterministic, uses_accelerator
from vl3d_lite.runs import RunFolder, write_history
from vl3d_lite.spec import Spec, partial_labels
from vl3d_lite.system import Interrupts, ProgressBar, replacing
from vl3d_lite.training.checkpoints import (
    Progress,
    averaged_weights,
    damage,
    load_variables,
    restore,
    save,
    save_variables,
)
from vl3d_lite.training.compilation import choose_compilation
from vl3d_lite.training.joined_optimizer import innermost
from vl3d_lite.training.losses import PointCrossEntropy
from vl3d_lite.training.optimizers import build_optimizer

logger = logging.getLogger(__name__)


def require_tensorboard(spec: Spec) -> None:
    """Check that TensorBoard is installed where the spec asks for its logs.

    Raises:
        SpecError: `training.tensorboard` is on and the package is missing.
    """
    if spec.training.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise SpecError(
            "`training.tensorboard` needs the package tensorboard; install it with "
            '`pip install "vl3d-lite[tensorboard]"`, or set it to false'
        )


def compile_model(
    model: keras.Model, spec: Spec, total_steps: int, weights: list[float] | None
) -> None:
    """Give a network its optimizer and loss, and XLA where that pays.

    Args:
        model: The network; compiled in place.
        spec: The spec of the training.
        total_steps: Steps of all epochs.
        weights: One loss weight per class, or None.
    """
    training = spec.training
    jit = choose_compilation(
        spec,
        total_steps,
        backend=keras.backend.backend(),
        accelerator=uses_accelerator(),
    )
    if training.deterministic:
        make_deterministic(jit)
    model.compile(
        optimizer=build_optimizer(training, total_steps),
        loss=PointCrossEntropy(
            weights, training.label_smoothing, training.lovasz, partial_labels(spec)
        ),
        jit_compile=jit,
    )
    # A checkpoint holds the moments, so they exist before the first step.
    model.optimizer.build(model.trainable_variables)


@dataclass
class TrainingLoop:
    """Trains a network epoch by epoch.

    Args:
        model: The network; trained in place.
        batches: The training batches.
        spec: The spec of the training.
        run: Where history and checkpoints are written.
        interrupts: Checked before every step for a signal.
        weights: One loss weight per class, or None.
        validate: Returns the validation scores of `model`; ``miou`` chooses the best
            weights. Without it, and where `validate` is None because there is no
            validation cloud, the loss of the epoch chooses them.
        on_epoch: Called with the number of finished epochs and the model.
        quiet: Show no progress bar.

    Attributes:
        progress: Epoch, step, best score and history.
    """

    model: keras.Model
    batches: TrainingBatches
    spec: Spec
    run: RunFolder
    interrupts: Interrupts
    weights: list[float] | None = None
    validate: Callable[[], dict[str, float]] | None = None
    on_epoch: Callable[[int, keras.Model], None] | None = None
    quiet: bool = False
    progress: Progress = field(default_factory=Progress, init=False)

    def fit(self, *, resume: bool) -> Progress:
        """Train to the last epoch; the model ends with the weights of the best one.

        Args:
            resume: Continue from the last checkpoint, where there is one.

        Returns:
            Where the training ended, with its history.

        Raises:
            DivergedError: The loss is not finite; the batch is saved.
            InterruptedRunError: A signal came; a checkpoint is written.
        """
        total_steps = self.spec.training.epochs * self.batches.steps_per_epoch
        compile_model(self.model, self.spec, total_steps, self.weights)
        if resume and self.run.checkpoint_files():
            self._restore()
        callbacks = self._tensorboard()
        callbacks.on_train_begin()
        with self._progress_bar(total_steps) as bar:
            while self.progress.epoch < self.spec.training.epochs:
                if self._stops_early():
                    logger.info("early stop after epoch %d", self.progress.epoch)
                    break
                self._run_epoch(bar)
                self._end_epoch(bar)
                numbers = dict(self.progress.history[-1])
                callbacks.on_epoch_end(numbers.pop("epoch") - 1, numbers)
                if self.on_epoch:
                    self.on_epoch(self.progress.epoch, self.model)
        callbacks.on_train_end()
        load_variables(self.run.best_weights, self.model.variables)
        return self.progress

    def _restore(self) -> None:
        self.progress = progress = restore(self.run, self.model)
        logger.info("resumed at epoch %d, step %d", progress.epoch + 1, progress.step)
        reason = damage(self.run.best_weights, self.model.variables)
        if progress.epoch and reason:
            logger.warning(
                "%s. The weights of the checkpoint count as the best so far", reason
            )
            with averaged_weights(self.model):
                save_variables(self.run.best_weights, self.model.variables)
            progress.best_score, progress.best_epoch = -math.inf, progress.epoch

    def _progress_bar(self, total_steps: int) -> ProgressBar:
        done = self.progress.epoch * self.batches.steps_per_epoch + self.progress.step
        return ProgressBar(
            desc="training",
            total=total_steps,
            initial=done,
            unit="step",
            quiet=self.quiet,
        )

    def _run_epoch(self, bar: ProgressBar) -> None:
        progress = self.progress
        began = time.monotonic() - progress.seconds
        batches = self.batches.epoch(progress.epoch, start_step=progress.step)
        # Closing the generator ends the threads that make batches ahead.
        with contextlib.closing(cast(Generator, batches)):
            for inputs, labels in batches:
                if self.interrupts.received:
                    progress.seconds = time.monotonic() - began
                    save(self.run, self.model, progress)
                    self.interrupts.stop(
                        f"{self.run.root}: interrupted; a checkpoint is written, "
                        "continue with --resume"
                    )
                self.model.reset_metrics()
                loss = float(self.model.train_on_batch(inputs, labels))
                if not math.isfinite(loss):
                    self._diverged(inputs, labels, loss)
                progress.step += 1
                progress.loss_sum += loss
                loss_text = f"{progress.loss_sum / progress.step:.3f}"
                bar.set_postfix(loss=loss_text, refresh=False)
                bar.update()
        progress.seconds = time.monotonic() - began

    def _end_epoch(self, bar: ProgressBar) -> None:
        training, progress = self.spec.training, self.progress
        row = self._history_row()
        with averaged_weights(self.model):
            scores = self.validate() if self.validate else {}
            score = scores.get("miou", -row["loss"])
            if progress.is_best(score):
                save_variables(self.run.best_weights, self.model.variables)
        row.update({f"val_{name}": value for name, value in scores.items()})
        progress.end_epoch(row, score)
        self._lower_rate_on_plateau()
        ended = progress.epoch == training.epochs or self._stops_early()
        if ended or progress.epoch % training.checkpoint_every == 0:
            save(self.run, self.model, progress)
        write_history(self.run.history, progress.history)
        message = f"epoch {progress.epoch}/{training.epochs}: loss {row['loss']:.4f}"
        if "miou" in scores:
            message += f", validation mIoU {scores['miou']:.4f}"
        if not bar.disable:
            bar.write(message, file=sys.stderr)

    def _history_row(self) -> dict[str, float]:
        progress = self.progress
        points = progress.step * self.spec.points_per_batch
        seconds = max(
            progress.seconds, 1e-9
        )  # a clock may not advance in a short epoch
        row = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / max(progress.step, 1),
            "learning_rate": _learning_rate(self.model.optimizer),
            "seconds": round(progress.seconds, 2),
            "points_per_second": round(points / seconds),
            "wait_share": round(self.batches.wait_seconds / seconds, 4),
        }
        self.batches.wait_seconds = 0.0
        return row

    def _lower_rate_on_plateau(self) -> None:
        schedule, optimizer = self.spec.training.schedule, self.model.optimizer
        if schedule.name != "plateau":
            return
        if self.progress.plateau_epochs >= schedule.patience:
            self.progress.plateau_epochs = 0
            optimizer.learning_rate = float(optimizer.learning_rate) * schedule.decay
            logger.info("plateau: the learning rate is lowered")

    def _stops_early(self) -> bool:
        patience = self.spec.training.early_stopping
        return patience is not None and self.progress.epochs_without_gain >= patience

    def _tensorboard(self) -> keras.callbacks.CallbackList:
        callbacks = []
        if self.spec.training.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(self.run.tensorboard)))
        return keras.callbacks.CallbackList(callbacks, model=self.model)

    def _diverged(self, inputs: Inputs, labels: np.ndarray, loss: float) -> NoReturn:
        for name, values in inputs.items():
            if not np.all(np.isfinite(values)):
                raise DataError(
                    f"the batch holds a value of `{name}` that is not finite"
                )
        run, progress = self.run, self.progress
        arrays: dict[str, Any] = {"labels": labels, **inputs}
        with replacing(run.bad_batch) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        raise DivergedError(
            f"the loss became {loss} in epoch {progress.epoch + 1}, step "
            f"{progress.step + 1}; the batch is saved as {run.bad_batch}. Lower "
            "`training.learning_rate`, or set `training.precision: float32`"
        )


def _learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The rate of the step just made, not of the one to come."""
    optimizer = innermost(optimizer)
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(keras.ops.maximum(optimizer.iterations - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))
