"""Training settings of a spec."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vl3d_lite.spec.base import Fraction, PositiveFloat, Section, Violation


class AugmentationSpec(Section):
    """Random augmentation of training fields. Zero or false turns a transform off."""

    rotation: bool = True
    """Rotate by a random angle about the vertical axis."""
    flip: bool = True
    """Mirror along x with probability 0.5."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Scale each axis by a random factor between 1 - scale and 1 + scale."""
    jitter: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of Gaussian noise on the coordinates, in grid sizes."""
    point_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest fraction of neighbors dropped from a field."""
    feature_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a feature of a field is replaced by its mean."""
    intensity_shift: Annotated[float, Field(ge=0)] = 0.0
    """Largest shift of intensity features, in standard deviations."""
    grids: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of grid subsamplings of each training cloud, each with another grid
    origin. Memory grows proportionally."""
    thinning: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest fraction of points dropped before each subsampling but the first."""
    slope: Annotated[float, Field(ge=0)] = 0.0
    """Largest slope (rise over run) of the plane that is added to the heights of a
    training cloud before each subsampling but the first. Vertical objects remain
    vertical."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._single_grid_violations()]

    def _single_grid_violations(self) -> Iterator[Violation]:
        for name in ("thinning", "slope"):
            if self.grids == 1 and getattr(self, name):
                yield Violation(
                    f"`{name}` changes each subsampling but the first, and `grids` is "
                    "1; set `grids` to 2 or more",
                    ((name,),),
                )


class ScheduleSpec(Section):
    """Learning-rate schedule."""

    short_form: ClassVar[str] = "name"

    name: Literal["onecycle", "cosine", "exponential", "plateau", "constant"] = (
        "onecycle"
    )
    """Name of the schedule. `onecycle` rises to the learning rate, then falls to almost
    zero."""
    warmup: Fraction = 0.2
    """Fraction of the steps in which the learning rate rises (onecycle, cosine)."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor over the whole training (exponential), or at each plateau (plateau)."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Epochs without improvement before the learning rate is lowered (plateau)."""


class TrainingSpec(Section):
    """Training settings."""

    epochs: Annotated[int, Field(ge=1)] = 20
    """Number of epochs, each a pass over the training clouds or `steps_per_epoch`
    batches."""
    steps_per_epoch: Annotated[int, Field(ge=1)] | None = None
    """Batches per epoch; by default as many as cover the training clouds."""
    batch_size: Annotated[int, Field(ge=1)] = 4
    """Fields per batch."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer: AdamW, Adam, or SGD with Nesterov momentum 0.9."""
    learning_rate: PositiveFloat = 0.003
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """Decoupled weight decay (AdamW)."""
    schedule: ScheduleSpec = ScheduleSpec()
    """Name of a schedule, or a mapping with its parameters."""
    class_weights: (
        Literal["auto", "none"]
        | dict[str, Annotated[float, Field(ge=0)]]
        | list[Annotated[float, Field(ge=0)]]
    ) = "auto"
    """Class weights of the loss. `auto`: inverse square root of the class frequency;
    `none`: all 1; a mapping of class names to weights, where classes not named weigh
    1; or, in a file that names the classes, a list of one number per class."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Label smoothing: fraction of each label that is distributed over all classes."""
    lovasz: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the Lovász-softmax loss, a surrogate of the IoU, relative to the
    cross-entropy."""
    gradient_clipping: PositiveFloat | None = 10.0
    """Largest global norm of the gradient; null turns clipping off."""
    weight_averaging: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Momentum per step of an exponential moving average of the weights, e.g. 0.99.
    The average is validated and saved in place of the weights; 0 turns it off."""
    augmentation: AugmentationSpec = AugmentationSpec()
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    """Epochs without improvement of the validation mIoU after which training stops."""
    initial_weights: str | None = None
    """Run folder, relative to the spec, or name of a shipped model, that provides the
    initial weights and the feature scaling. Features and network must be the same;
    classes may differ."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 1
    """Epochs between checkpoints for resuming."""
    tensorboard: bool = False
    """Write TensorBoard logs to the run folder."""
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    """Precision of the computation; variables stay in float32."""
    deterministic: bool = True
    """Use deterministic operations: repeated runs on one machine give equal results."""
    jit: Literal["auto", "on", "off"] = "auto"
    """XLA compilation: if it saves time in total (auto), always (on), or never
    (off)."""
