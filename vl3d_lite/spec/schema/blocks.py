"""Blocks of a stage: kernel point convolution and attention."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vl3d_lite.spec.base import Fraction, PositiveFloat, Section, Violation
from vl3d_lite.spec.schema.clouds import STORED_COORDINATES

# Dimensions that hold codes, with an example of values to exclude.
CODED_DIMENSIONS = {"withheld": "[1]", "classification": "[7, 18]"}


class KPConvXSpec(Section):
    """Kernel point convolutions (KPConvX) of all stages."""

    shell_radii: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=[0.0, 0.5, 1.0], max_length=8
    )
    """Radii of the shells, as fractions of the kernel radius."""
    shell_points: list[Annotated[int, Field(ge=1, le=128)]] = Field(default=[1, 7, 13])
    """Number of kernel points on each shell."""
    kernel_radius: PositiveFloat = 2.1
    """Kernel radius, in point spacings of the stage."""
    influence_distance: PositiveFloat = 2.1
    """Distance beyond which a kernel point has no influence, in point spacings."""
    influence: Literal["linear", "constant", "gaussian"] = "linear"
    """Decay of a kernel point's influence with distance."""
    groups: Annotated[int, Field(ge=1)] = 8
    """Number of consecutive channels that share one modulation."""
    hidden_ratio: PositiveFloat = 4.0
    """Hidden channels of the pointwise MLP, as a multiple of the channels."""
    order: Literal["vl3d", "apple"] = "vl3d"
    """Order of normalization and activation: that of VL3D's layer, or that of
    Apple's implementation."""
    deformable: bool = False
    """Learn the positions of the kernel points."""
    drop_path: Fraction = 0.0
    """Probability of skipping a block for a field in training (stochastic depth)."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._shell_violations()]

    def _shell_violations(self) -> Iterator[Violation]:
        if len(self.shell_radii) != len(self.shell_points):
            yield Violation(
                "`shell_radii` and `shell_points` must be equally long. Received: "
                f"{len(self.shell_radii)} and {len(self.shell_points)} entries",
                (("shell_points",), ("shell_radii",)),
            )


class GVASpec(Section):
    """Grouped vector attention of all stages."""

    groups: Annotated[int, Field(ge=1)] = 8
    """Number of channel groups that share one attention weight."""
    weights: Literal["groups", "channels"] = "groups"
    """One attention weight per group (Point Transformer V2), or a further factor per
    channel (VL3D)."""
    positional_multiplier: bool = False
    """Multiply the relation of query and key by an encoding of the relative
    position."""
    positional_bias: bool = True
    """Add an encoding of the relative position to the relation and the values."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate of the attention weights."""
    drop_path: Fraction = 0.0
    """Probability of skipping the block for a field in training (stochastic depth)."""
    softmax: Literal["plain", "envelope"] = "plain"
    """Softmax over all neighbors alike, or weighted by an envelope that decays to 0
    at the stage's `neighbor_radius` (if not set, the kernel radius of `kpconvx`), so
    that the output is continuous where a neighbor enters or leaves."""


class EnvelopeSpec(Section):
    """The `envelope` blocks: dot-product attention that decays with distance.

    The attention ends at the stage's `neighbor_radius`, or, if it is not set, at the
    kernel radius of `kpconvx`.
    """

    heads: Annotated[int, Field(ge=1)] = 8
    """Number of attention heads."""
    positional_bias: bool = True
    """Add an encoding of the relative position to logits and values."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate of the attention weights."""
    drop_path: Fraction = 0.0
    """Probability of skipping the block for a field in training (stochastic depth)."""


class SourceWeightsSpec(Section):
    """Attention weight of a point as a key in envelope-gated attention."""

    short_form: ClassVar[str] = "dimension"

    dimension: str = Field(min_length=1)
    """LAS or extra dimension that holds the weights: not negative, preferably
    0 to 1, such as a confidence. A grid cell takes the mean of its points."""
    zero_weight_values: list[float] | None = Field(default=None, min_length=1)
    """Values of the dimension that stand for weight 0; all others stand for 1, e.g.
    {dimension: withheld, zero_weight_values: [1]} or
    {dimension: classification, zero_weight_values: [7, 18]}."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._coded_dimension_violations()]

    def _coded_dimension_violations(self) -> Iterator[Violation]:
        if self.dimension in STORED_COORDINATES:
            yield Violation(
                f"`{self.dimension}` is the integer that the file stores, which "
                "changes with its scale and offset; name a dimension of weights",
                (("dimension",),),
            )
        if self.zero_weight_values is None and self.dimension in CODED_DIMENSIONS:
            yield Violation(
                f"`{self.dimension}` holds codes, not weights; list the values of "
                f"weight 0: {{dimension: {self.dimension}, zero_weight_values: "
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
    """Penalty added to the loss."""

    short_form: ClassVar[str] = "name"

    name: Literal["l1", "l2", "l1_l2"]
    """Sum of absolute values (l1), of squares (l2), or both."""
    strength: PositiveFloat = 0.01
    """Factor of the penalty."""


class ConstraintSpec(Section):
    """Constraint applied after each update."""

    short_form: ClassVar[str] = "name"

    name: Literal["max_norm", "unit_norm", "non_neg"]
    """Norm along the first axis at most `limit` (max_norm) or equal to 1 (unit_norm),
    or no negative values (non_neg)."""
    limit: PositiveFloat = 2.0
    """Largest norm for max_norm."""


class GQASpec(Section):
    """Grouped-query attention between all points of a stage's field."""

    head_dim: Annotated[int, Field(ge=1)] = 16
    """Channels per head."""
    num_query_heads: Annotated[int, Field(ge=1)] = 4
    """Number of query heads."""
    num_key_value_heads: Annotated[int, Field(ge=1)] = 2
    """Number of key and value heads; each is shared by a group of query heads. As
    many as query heads: multi-head attention; 1: multi-query attention."""
    position: bool = True
    """Add an encoding of the coordinates, relative to the field's center, to
    queries and keys."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate of the attention weights."""
    use_bias: bool = True
    """Use biases in the four projections."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Initializer of the projection kernels."""
    bias_initializer: Initializer = "zeros"
    """Initializer of the biases."""
    kernel_regularizer: RegularizerSpec | None = None
    """Regularizer of the projection kernels."""
    bias_regularizer: RegularizerSpec | None = None
    """Regularizer of the biases."""
    activity_regularizer: RegularizerSpec | None = None
    """Regularizer of the outputs of the projections."""
    kernel_constraint: ConstraintSpec | None = None
    """Constraint on the projection kernels."""
    bias_constraint: ConstraintSpec | None = None
    """Constraint on the biases."""
    flash_attention: bool | None = None
    """true: the fused kernel of JAX on a GPU; false: no fused kernel; null: the
    choice of Keras."""
    drop_path: Fraction = 0.0
    """Probability of skipping the block for a field in training (stochastic depth)."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._head_violations(), self._flash_attention_violations()]

    def _head_violations(self) -> Iterator[Violation]:
        if self.num_query_heads % self.num_key_value_heads:
            yield Violation(
                "must be a multiple of `num_key_value_heads` = "
                f"{self.num_key_value_heads}. Received: {self.num_query_heads}",
                (("num_query_heads",), ("num_key_value_heads",)),
            )

    def _flash_attention_violations(self) -> Iterator[Violation]:
        if self.flash_attention and self.dropout:
            yield Violation(
                "flash attention has no dropout; set `dropout: 0` or leave "
                f"`flash_attention` out. Received: dropout {self.dropout:g}",
                (("flash_attention",), ("dropout",)),
            )
