"""The layers inside a stage of the network: convolutions and attention."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vl3d_lite.spec.base import Fraction, PositiveFloat, Section, Violation

CODED_DIMENSIONS = {"withheld": "[1]", "classification": "[7, 18]"}


class KPConvXSpec(Section):
    """The kernel point convolutions of every stage."""

    shell_radii: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        [0.0, 0.5, 1.0], max_length=8
    )
    """Radii of the shells as shares of the kernel radius."""
    shell_points: list[Annotated[int, Field(ge=1, le=128)]] = Field([1, 7, 13])
    """Kernel points on each shell."""
    kernel_radius: PositiveFloat = 2.1
    """Kernel radius in point spacings of the stage."""
    influence_distance: PositiveFloat = 2.1
    """Distance at which a kernel point stops to act, in point spacings."""
    influence: Literal["linear", "constant", "gaussian"] = "linear"
    """How a kernel point's influence falls with distance."""
    groups: Annotated[int, Field(ge=1)] = 8
    """Consecutive channels that share one modulation."""
    hidden_ratio: PositiveFloat = 4.0
    """Hidden channels of the pointwise MLP, as a multiple of the channels."""
    order: Literal["vl3d", "apple"] = "vl3d"
    """Normalization and activation as in VL3D's layer or in Apple's code."""
    deformable: bool = False
    """Train the positions of the kernel points."""
    drop_path: Fraction = 0.0
    """Probability of dropping a block of a sample in training."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._shells_troubles()]

    def _shells_troubles(self) -> Iterator[Violation]:
        if len(self.shell_radii) != len(self.shell_points):
            yield Violation(
                "`shell_radii` and `shell_points` must be equally long. Received: "
                f"{len(self.shell_radii)} and {len(self.shell_points)} entries",
                (("shell_points",), ("shell_radii",)),
            )


class GVASpec(Section):
    """The grouped vector attention of every stage."""

    groups: Annotated[int, Field(ge=1)] = 8
    """Groups of channels that share one attention weight."""
    weights: Literal["groups", "channels"] = "groups"
    """One weight a group (Point Transformer V2), or one a channel."""
    positional_multiplier: bool = False
    """Multiply the relation by an encoding of the relative position."""
    positional_bias: bool = True
    """Add an encoding of the relative position."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of attention weights."""
    drop_path: Fraction = 0.0
    """Probability of dropping the block of a sample in training."""
    softmax: Literal["plain", "envelope"] = "plain"
    """Over the neighbors as they are, or fading out towards the stage's
    `neighbor_radius` (without one, the kernel radius of `kpconvx`), so that no
    neighbor enters or leaves with a jump."""


class EnvelopeSpec(Section):
    """The `envelope` blocks: dot-product attention that fades out with distance.

    It ends at the stage's `neighbor_radius`; without one, at the kernel radius of
    `kpconvx`.
    """

    heads: Annotated[int, Field(ge=1)] = 8
    """Heads, each with its own attention weights."""
    positional_bias: bool = True
    """Add an encoding of the relative position to logits and values."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of attention weights."""
    drop_path: Fraction = 0.0
    """Probability of dropping the block of a sample in training."""


class SourceWeightsSpec(Section):
    """How much a point may say to others in envelope-gated attention."""

    short_form: ClassVar[str] = "dimension"

    dimension: str = Field(min_length=1)
    """A LAS or extra dimension whose values are the weights: not negative, best
    0 to 1, such as a confidence. Cells of the grid take the mean of their points."""
    zero_weight_values: list[float] | None = Field(default=None, min_length=1)
    """Values of the dimension that mean weight 0; all others weigh 1, e.g.
    {dimension: withheld, zero_weight_values: [1]} or
    {dimension: classification, zero_weight_values: [7, 18]}."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._code_troubles()]

    def _code_troubles(self) -> Iterator[Violation]:
        if self.zero_weight_values is None and self.dimension in CODED_DIMENSIONS:
            yield Violation(
                f"`{self.dimension}` is no weight; name the values that mute a "
                f"point: {{dimension: {self.dimension}, zero_weight_values: "
                f"{CODED_DIMENSIONS[self.dimension]}}}",
                (("dimension",),),
            )


Initializer = Literal[
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "variance_scaling",
    "random_normal",
    "random_uniform",
    "truncated_normal",
    "zeros",
    "ones",
]


class RegularizerSpec(Section):
    """A penalty that joins the loss."""

    short_form: ClassVar[str] = "name"

    name: Literal["l1", "l2", "l1_l2"]
    """Sum of absolute values (l1), of squares (l2), or of both."""
    strength: PositiveFloat = 0.01
    """Factor of the sum."""


class ConstraintSpec(Section):
    """What a weight is brought back to after every step."""

    short_form: ClassVar[str] = "name"

    name: Literal["max_norm", "unit_norm", "non_neg"]
    """Norms along the first axis of at most `limit`, or of 1; or no negatives."""
    limit: PositiveFloat = 2.0
    """Largest norm, of max_norm."""


class GQASpec(Section):
    """The grouped-query attention among all points of a stage's field."""

    head_dim: Annotated[int, Field(ge=1)] = 16
    """Channels of a head."""
    num_query_heads: Annotated[int, Field(ge=1)] = 4
    """Heads of queries."""
    num_key_value_heads: Annotated[int, Field(ge=1)] = 2
    """Heads of keys and values, which groups of query heads share; as many as
    query heads is multi-head attention, 1 is multi-query attention."""
    position: bool = True
    """Add an encoding of the coordinates, relative to the field's center, to
    queries and keys."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of attention weights."""
    use_bias: bool = True
    """Biases in the four projections."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Start of the four matrices."""
    bias_initializer: Initializer = "zeros"
    """Start of the biases."""
    kernel_regularizer: RegularizerSpec | None = None
    """Penalty on the matrices."""
    bias_regularizer: RegularizerSpec | None = None
    """Penalty on the biases."""
    activity_regularizer: RegularizerSpec | None = None
    """Penalty on what the projections give."""
    kernel_constraint: ConstraintSpec | None = None
    """Constraint on the matrices."""
    bias_constraint: ConstraintSpec | None = None
    """Constraint on the biases."""
    flash_attention: bool | None = None
    """true: the fused kernel of JAX on a GPU; false: none; null: as Keras sees fit."""
    drop_path: Fraction = 0.0
    """Probability of dropping the block of a sample in training."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._head_troubles(), self._flash_troubles()]

    def _head_troubles(self) -> Iterator[Violation]:
        if self.num_query_heads % self.num_key_value_heads:
            yield Violation(
                "must be a multiple of `num_key_value_heads` = "
                f"{self.num_key_value_heads}. Received: {self.num_query_heads}",
                (("num_query_heads",), ("num_key_value_heads",)),
            )

    def _flash_troubles(self) -> Iterator[Violation]:
        if self.flash_attention and self.dropout:
            yield Violation(
                "flash attention has no dropout; set `dropout: 0` or leave "
                f"`flash_attention` out. Received: dropout {self.dropout:g}",
                (("flash_attention",), ("dropout",)),
            )
