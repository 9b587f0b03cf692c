"""Checkpoints: variables, optimizer, random states and progress."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
from pydantic import BaseModel, Field

from vl3d_lite.errors import DataError, ResourceError
from vl3d_lite.runs import RunFolder
from vl3d_lite.system import parse_record, read_arrays, replacing
from vl3d_lite.training.joined_optimizer import innermost

logger = logging.getLogger(__name__)

LARGEST_ITEM = 8  # bytes of a number of a variable
MOST_PROGRESS = 64 * 2**20  # bytes; the history of a thousand epochs has one million
_REMEDY = "restore it from a copy, or train again with --overwrite"


@dataclass
class Progress:
    """The progress of a training; a checkpoint holds it beside the variables.

    Attributes:
        epoch: Finished epochs.
        step: Finished steps of the epoch that is under way.
        loss_sum: Sum of their losses.
        seconds: Seconds they took.
        best_score: Highest score of an epoch: validation mIoU, or the negative loss
            where the validation clouds cannot choose.
        best_epoch: Number of that epoch, from 1; of equal ones the last, which is
            trained longest. -1 before the first one.
        epochs_without_gain: Epochs since the score last rose, for early stopping.
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

    def is_best(self, score: float) -> bool:
        """Whether no finished epoch has a higher score."""
        return score >= self.best_score

    def end_epoch(self, row: dict, score: float) -> None:
        """Count an epoch as finished.

        Args:
            row: The numbers of the epoch, for the history.
            score: The score of the epoch.
        """
        improved = score > self.best_score
        self.history.append(row)
        self.epoch += 1
        self.step, self.loss_sum, self.seconds = 0, 0.0, 0.0
        self.epochs_without_gain = 0 if improved else self.epochs_without_gain + 1
        self.plateau_epochs = 0 if improved else self.plateau_epochs + 1
        if self.is_best(score):
            self.best_score, self.best_epoch = score, self.epoch

    def to_json(self) -> str:
        """The progress as JSON; an infinite score and NaN become null."""
        content = asdict(self)
        if math.isinf(self.best_score):
            content["best_score"] = None
        for row in content["history"]:
            row.update({name: None for name, value in row.items() if value != value})
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        """The inverse of `to_json`.

        Raises:
            ValueError: The text is something else.
        """
        content = dict(parse_record(text, _ProgressRecord))
        if content["best_score"] is None:
            content["best_score"] = -math.inf
        for row in content["history"]:
            row.update({name: math.nan for name in row if row[name] is None})
        return cls(**content)


_Count = Annotated[int, Field(ge=0)]


class _ProgressRecord(BaseModel):
    """A `Progress` as a checkpoint holds it."""

    epoch: _Count
    step: _Count
    loss_sum: float
    seconds: Annotated[float, Field(ge=0)]
    best_score: float | None
    best_epoch: int
    epochs_without_gain: _Count
    plateau_epochs: _Count
    history: list[dict[str, int | float | None]]


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


def save_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Write the values of `variables`, in order, to an npz file.

    Args:
        path: The file; it appears completely or not at all.
        variables: Any number of them.

    Raises:
        ResourceError: The file cannot be written.
    """
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **_arrays(variables))


def _arrays(variables: Sequence[keras.Variable]) -> dict[str, Any]:
    return {
        f"v{number}": keras.ops.convert_to_numpy(variable)
        for number, variable in enumerate(variables)
    }


def load_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Read what `save_variables` wrote into `variables`: all of them or none.

    Raises:
        DataError: The file is damaged or belongs to another network.
    """
    _assign(variables, _read_variables(path, variables))


def damage(path: Path, variables: Sequence[keras.Variable]) -> str:
    """The reason why `load_variables` would fail; empty where it would not."""
    try:
        _read_variables(path, variables)
    except DataError as error:
        return str(error)
    return ""


def _read_variables(
    path: Path, variables: Sequence[keras.Variable]
) -> dict[str, np.ndarray]:
    size = sum(math.prod(v.shape) * LARGEST_ITEM for v in variables)
    content = read_arrays(path, _REMEDY, size + MOST_PROGRESS)
    for number, variable in enumerate(variables):
        value = content.get(f"v{number}")
        if value is None or value.shape != tuple(variable.shape):
            raise DataError(
                f"{path}: belongs to another network (variable {number}, "
                f"{variable.path}); train again with --overwrite"
            )
        if value.dtype.kind not in "fiub":
            raise DataError(f"{path}: variable {number} is no number; {_REMEDY}")
    return content


def _assign(
    variables: Sequence[keras.Variable], content: dict[str, np.ndarray]
) -> None:
    for number, variable in enumerate(variables):
        variable.assign(content.pop(f"v{number}"))


def save(run: RunFolder, model: keras.Model, progress: Progress) -> None:
    """Write a checkpoint: model, optimizer, random states and progress.

    The checkpoint before it is kept.
    """
    arrays = _arrays([*model.variables, *model.optimizer.variables])
    text = np.array(progress.to_json())
    with replacing(run.last_checkpoint) as part:
        with part.open("wb") as file:
            np.savez(file, **arrays, progress=text)
        # If the process is killed here, the checkpoint before is still there.
        if run.last_checkpoint.is_file():
            run.last_checkpoint.replace(run.previous_checkpoint)


def restore(run: RunFolder, model: keras.Model) -> Progress:
    """Read the last checkpoint that is whole into the model and its optimizer.

    Raises:
        DataError: None is.
    """
    variables = [*model.variables, *model.optimizer.variables]
    errors: list[DataError] = []
    for path in run.checkpoint_files():
        try:
            content = _read_variables(path, variables)
            progress = _progress(path, content)
        except DataError as error:
            errors.append(error)
            continue
        if errors:
            logger.warning("%s. The checkpoint before it is used, %s", errors[0], path)
        _assign(variables, content)
        return progress
    raise errors[0]


def _progress(path: Path, content: dict[str, np.ndarray]) -> Progress:
    try:
        return Progress.from_json(str(content["progress"]))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: holds no progress ({error}); {_REMEDY}") from error


@contextmanager
def resumable(run: RunFolder) -> Iterator[None]:
    """Name the way on where a disk is full while a network is trained.

    Raises:
        ResourceError: The block raised it; a checkpoint, if there is one, is named.
    """
    try:
        yield
    except ResourceError as error:
        if not run.checkpoint_files():
            raise
        raise ResourceError(
            f"{error}. The last checkpoint is kept: then continue with --resume"
        ) from error
