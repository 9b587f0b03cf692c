"""Checkpoints: variables, optimizer, random states and progress."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.runs import RunFolder
from vl3d_lite.system import replacing
from vl3d_lite.training.joined_optimizer import innermost


@dataclass
class Progress:
    """The progress of a training; a checkpoint holds it beside the variables.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps of the epoch that is under way.
        loss_sum: Sum of their losses.
        seconds: Seconds they took.
        best_score: Highest score of an epoch: validation mIoU, or the negative loss
            where there is no validation cloud.
        best_epoch: Number of that epoch, from 1; -1 before the first one.
        epochs_without_gain: Epochs since then, for early stopping.
        plateau_epochs: Epochs since then or since the learning rate was last lowered.
        history: One row of numbers per finished epoch.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_score: float = -math.inf
    best_epoch: int = -1
    epochs_without_gain: int = 0
    plateau_epochs: int = 0
    history: list[dict] = field(default_factory=list)

    def end_epoch(self, row: dict, score: float, *, improved: bool) -> None:
        """Count an epoch as finished.

        Args:
            row: The numbers of the epoch, for the history.
            score: The score of the epoch.
            improved: Whether `score` is the best so far.
        """
        self.history.append(row)
        self.epoch += 1
        self.step, self.loss_sum, self.seconds = 0, 0.0, 0.0
        self.epochs_without_gain = 0 if improved else self.epochs_without_gain + 1
        self.plateau_epochs = 0 if improved else self.plateau_epochs + 1
        if improved:
            self.best_score, self.best_epoch = score, self.epoch

    def to_json(self) -> str:
        """The progress as JSON; an infinite score becomes null."""
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


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give a model the running mean of its weights while the block runs.

    Nothing changes where the optimizer keeps no mean (`training.weight_averaging`).

    The statistics of BatchNormalization are running means already and stay as they
    are.

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


def save_variables(
    path: Path, variables: Sequence[keras.Variable], **more: np.ndarray
) -> None:
    """Write the values of `variables`, in order, to an npz file.

    Args:
        path: The file; it appears completely or not at all.
        variables: Any number of them.
        more: Arrays to store beside them, by name.

    Raises:
        ResourceError: The file cannot be written.
    """
    arrays: dict[str, Any] = {
        f"v{number}": keras.ops.convert_to_numpy(variable)
        for number, variable in enumerate(variables)
    }
    arrays |= more
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def load_variables(
    path: Path, variables: Sequence[keras.Variable]
) -> dict[str, np.ndarray]:
    """Read what `save_variables` wrote into `variables`.

    Returns:
        The other arrays of the file, by name.

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
                f"{path}: belongs to another network (variable {number}, "
                f"{variable.path}); train again with --overwrite"
            )
        variable.assign(value)
    return content


def save(run: RunFolder, model: keras.Model, progress: Progress) -> None:
    """Write a checkpoint: model, optimizer, random states and progress."""
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
