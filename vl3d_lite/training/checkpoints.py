"""Checkpoints: variables, optimizer, random states and progress."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import keras
import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system.writing import replacing
from vl3d_lite.training.joined_optimizer import innermost


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
