"""Training settings of a spec."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vl3d_lite.spec.base import Fraction, PositiveFloat, Section, Violation


class AugmentationSpec(Section):
    """Random changes of a training field. Zero or false turns one off."""

    rotation: bool = True
    """Turn about the vertical axis by any angle."""
    flip: bool = True
    """Mirror x with probability one half."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Scale each axis by 1 - scale to 1 + scale."""
    jitter: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of noise on coordinates, in grid sizes."""
    point_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share of neighbors dropped from a field."""
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a feature of a field is set to its mean."""
    intensity_shift: Annotated[float, Field(ge=0)] = 0.0
    """Largest shift of intensity features, in standard deviations."""
    grids: Annotated[int, Field(ge=1, le=64)] = 1
    """Times each training cloud is reduced to cells, every time with another
    origin of the grid; memory grows alike."""
    thinning: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share of points left out before all but the first reduction."""
    slope: Annotated[float, Field(ge=0)] = 0.0
    """Largest slope (rise over run) of the plane that a training cloud is tilted
    onto before all but the first reduction, upright things staying upright."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._one_grid_troubles()]

    def _one_grid_troubles(self) -> Iterator[Violation]:
        for name in ("thinning", "slope"):
            if self.grids == 1 and getattr(self, name):
                yield Violation(
                    f"`{name}` changes all reductions but the first, and `grids` is 1: "
                    "set it to 2 or more",
                    ((name,),),
                )


class ScheduleSpec(Section):
    """How the learning rate moves."""

    short_form: ClassVar[str] = "name"

    name: Literal["onecycle", "cosine", "exponential", "plateau", "constant"] = (
        "onecycle"
    )
    """One cycle (up, then down to almost zero) is the default."""
    warmup: Fraction = 0.2
    """Share of the steps in which the rate rises (onecycle, cosine)."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor over the whole training (exponential), or at each plateau."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs without gain before a plateau lowers the rate."""


class TrainingSpec(Section):
    """How the network learns."""

    epochs: Annotated[int, Field(ge=1)] = 20
    """Passes over the training clouds, or over `steps_per_epoch` batches."""
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Batches of an epoch; by default as many as cover the training clouds."""
    batch_size: Annotated[int, Field(ge=1)] = 4
    """Fields of a batch."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """AdamW, Adam, or SGD with Nesterov momentum 0.9."""
    learning_rate: PositiveFloat = 0.003
    """Highest learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Decoupled weight decay (AdamW)."""
    schedule: ScheduleSpec = ScheduleSpec()
    """A name, or a mapping with its parameters."""
    class_weights: Literal["auto", "none"] | list[Annotated[float, Field(ge=0)]] = (
        "auto"
    )
    """`auto`: inverse square root of a class's share; or one number a class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a label spread over all classes."""
    lovasz: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the Lovász-softmax loss, which follows IoU, beside cross-entropy."""
    gradient_clipping: PositiveFloat | None = 10.0
    """Largest global norm of the gradient."""
    weight_averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum, a step, of the running mean of the weights that is validated and
    kept in place of the weights themselves, e.g. 0.99; 0 turns it off."""
    augmentation: AugmentationSpec = AugmentationSpec()
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Epochs without gain in validation mIoU after which training stops."""
    initial_weights: str | None = None
    """A run folder, relative to the spec, whose weights and feature scaling training
    starts from. Features and network must be the same; classes may differ."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between checkpoints a training can be resumed from."""
    tensorboard: bool = False
    """Write TensorBoard logs into the run folder."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Arithmetic of the layers; variables stay float32."""
    deterministic: bool = True
    """The same numbers in every run on one machine."""
    jit: Literal["auto", "on", "off"] = "auto"
    """Compile with XLA: always, never, or where it pays."""
