"""The network of a spec: stages, decoder, symmetry."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from vl3d_lite.spec.base import PositiveFloat, Section, Violation
from vl3d_lite.spec.schema.blocks import (
    EnvelopeSpec,
    GQASpec,
    GVASpec,
    KPConvXSpec,
    SourceWeightsSpec,
)

# Full attention of one field: pairs times heads, or pairs times encoded positions.
# 2**26 float32 values take 256 MiB, several times over in training.
MOST_PAIR_NUMBERS = 2**26
# Scores of 2048 tokens and four heads take 64 MiB per field.
MOST_TOKENS = 2048
BlockName = Literal["kpconvx", "kpconvd", "gva", "envelope", "gqa"]


class StageSpec(Section):
    """One stage of the network: a level of resolution and its blocks."""

    points: Annotated[int, Field(ge=1)]
    """Points of a field at this stage."""
    channels: Annotated[int, Field(ge=1)]
    """Feature channels at this stage."""
    neighbors: Annotated[int, Field(ge=1, le=256)] = 16
    """Number of neighbors of a point, itself included."""
    neighbor_radius: PositiveFloat | None = None
    """Neighbors beyond this distance in meters are treated as missing."""
    blocks: list[BlockName] = Field(default=["kpconvx", "gva"])
    """Blocks in order: kpconvx, kpconvd (without attention), gva, envelope, gqa
    (attention between all points of the field; for stages of at most 2048 points)."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._neighbor_violations()]

    def _neighbor_violations(self) -> Iterator[Violation]:
        if self.neighbors > self.points:
            yield Violation(
                f"a point of {self.points} has at most {self.points} neighbors, "
                f"itself included. Received: {self.neighbors}",
                (("neighbors",), ("points",)),
            )


Group = Literal[
    "trivial", "C2", "C3", "C4", "C5", "C6", "C8", "D1", "D2", "D3", "D4", "D6", "D8"
]
GROUP_ORDERS = {
    name: int(name[1:]) * (2 if name[0] == "D" else 1)
    for name in get_args(Group)
    if name != "trivial"
} | {"trivial": 1, "none": 1}


class DecoderSpec(Section):
    """Decoder from the coarsest stage back to the points. All keys but `type` apply
    to the equivariant transformer only."""

    short_form: ClassVar[str] = "type"

    type: Literal["u_shaped", "equivariant_transformer"] = "u_shaped"
    """Upsampling with skip connections (`u_shaped`), or attention of the fine points
    to the tokens of the coarsest stage (`equivariant_transformer`)."""
    group: Group = "C4"
    """Symmetry group of the decoder: rotations (C) or rotations and reflections (D)
    about the vertical axis."""
    multiplicity: Annotated[int, Field(ge=1)] = 16
    """Multiplicity of the group's regular representation; the decoder has
    `multiplicity` times the order of the group channels."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of attention heads; must divide `multiplicity`."""
    layers: Annotated[int, Field(ge=1, le=16)] = 1
    """Number of decoder layers."""
    dim_feedforward: Annotated[int, Field(ge=1)] = 128
    """Hidden channels of the feed-forward network."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate of the channels and of the attention weights."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """Activation of the hidden channels."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Normalization over the channels of a point: by root mean square (rmsnorm), or
    by mean and variance (layernorm)."""
    norm_first: bool = True
    """Normalize before attention and feed-forward network (pre-norm) instead of after
    the residual sums (post-norm)."""
    layer_norm_eps: PositiveFloat = 1e-5
    """Epsilon of the normalization, added to the mean square or variance."""
    bias: bool = True
    """Use biases in the linear maps."""
    init_scheme: Literal[
        "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"
    ] = "xavier_uniform"
    """Initializer of the kernels."""
    attention: Literal["local", "full"] = "local"
    """Attention to the tokens around a point's parent (local), or to all tokens of the
    field (full)."""
    self_attention: Literal["none", "local"] = "none"
    """Self-attention of the fine points to their neighbors, or none."""
    position_units: Annotated[int, Field(ge=0)] = 8
    """Hidden units of the encoding of relative positions, per element of the group;
    0 turns it off."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._head_violations()]

    def _head_violations(self) -> Iterator[Violation]:
        if self.multiplicity % self.heads:
            yield Violation(
                f"must divide `multiplicity` = {self.multiplicity}. "
                f"Received: {self.heads}",
                (("heads",), ("multiplicity",)),
            )


class ModelSpec(Section):
    """The network: an encoder of stages, a decoder with skip connections, a head."""

    stages: list[StageSpec] = Field(min_length=1, max_length=8)
    """Stages from the finest to the coarsest."""
    kpconvx: KPConvXSpec = KPConvXSpec()
    gva: GVASpec = GVASpec()
    gqa: GQASpec = GQASpec()
    envelope: EnvelopeSpec = EnvelopeSpec()
    source_weights: SourceWeightsSpec | None = None
    """Attention weights of points in `gva` with `softmax: envelope` and in `envelope`
    blocks: a dimension, or a mapping. No point attends to a point of weight 0."""
    downsampling: Literal["max", "strided"] = "max"
    """Maximum over the children of a coarse point, or a strided convolution."""
    upsampling: Literal["nearest", "interpolated"] = "nearest"
    """Features of the parent, or a distance-weighted mean of three coarse points."""
    head_channels: Annotated[int, Field(ge=1)] | None = None
    """Channels of the head; by default those of the first stage."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate before the logits."""
    decoder: DecoderSpec = DecoderSpec()
    """Decoder type, or a mapping with its parameters."""
    symmetry: Literal[
        "none", "C2", "C3", "C4", "C6", "C8", "D1", "D2", "D4", "D6", "D8"
    ] = "none"
    """Rotations (C) or rotations and reflections (D) of a cloud that leave the logits
    unchanged. The network processes one rotated copy of each field per element
    of the group, at a proportional cost."""

    def violations(self) -> list[Iterator[Violation]]:
        numbers = range(len(vars(self).get("stages", ())))
        return [
            self._decoder_violations(),
            *(self._size_violations(number) for number in numbers[1:]),
            *(self._group_violations(number, "kpconvx") for number in numbers),
            *(self._group_violations(number, "gva") for number in numbers),
            *(self._token_violations(number) for number in numbers),
            *(
                self._group_violations(number, "envelope", "heads")
                for number in numbers
            ),
            self._source_weight_violations(),
        ]

    def _source_weight_violations(self) -> Iterator[Violation]:
        names = {name for stage in self.stages for name in stage.blocks}
        if names - set(get_args(BlockName)):
            return  # An unknown name may stand for a block that the weights apply to.
        gated = "gva" in names and self.gva.softmax == "envelope"
        if self.source_weights is not None and not gated and "envelope" not in names:
            yield Violation(
                "has no effect: it applies to `gva` blocks with "
                "`gva.softmax: envelope` and to `envelope` blocks, and the stages "
                "have neither",
                (("source_weights",),),
            )

    def _size_violations(self, number: int) -> Iterator[Violation]:
        before, points = self.stages[number - 1].points, self.stages[number].points
        if points > before:
            yield Violation(
                f"must be at most the {before} points of the previous stage. "
                f"Received: {points}",
                (("stages", number, "points"),),
            )

    def _group_violations(
        self, number: int, block: str, key: str = "groups"
    ) -> Iterator[Violation]:
        stage, groups = self.stages[number], getattr(getattr(self, block), key)
        if block in stage.blocks and stage.channels % groups:
            yield Violation(
                f"must be a multiple of `{block}.{key}` = {groups}. "
                f"Received: {stage.channels}",
                (("stages", number, "channels"), (block, key)),
            )

    def _decoder_violations(self) -> Iterator[Violation]:
        decoder = self.decoder
        if decoder.type != "equivariant_transformer":
            return
        if self.symmetry not in ("none", decoder.group):
            yield Violation(
                f"must equal `model.symmetry` = {self.symmetry}, whose transformed "
                f"copies the decoder combines. Received: {decoder.group}",
                (("decoder", "group"), ("symmetry",)),
            )
        pairs = self.stages[0].points * self.stages[-1].points
        wide = max(decoder.heads, GROUP_ORDERS[decoder.group] * decoder.position_units)
        if decoder.attention == "full" and pairs * wide > MOST_PAIR_NUMBERS:
            yield Violation(
                f"full attention takes {pairs * wide * 4 / 2**20:.0f} MiB per field, "
                f"and at most {MOST_PAIR_NUMBERS * 4 / 2**20:.0f} are allowed; use "
                "`local`, fewer points, or `position_units: 0`. Received: full",
                (("decoder", "attention"),),
            )

    def _token_violations(self, number: int) -> Iterator[Violation]:
        stage = self.stages[number]
        if "gqa" in stage.blocks and stage.points > MOST_TOKENS:
            heads = self.gqa.num_query_heads
            size = 4 * heads * stage.points**2 / 2**20
            yield Violation(
                f"`gqa` scores all pairs of a stage's points and accepts at most "
                f"{MOST_TOKENS} points. Received: {stage.points} points, which take "
                f"{size:.0f} MiB per field with {heads} heads; move `gqa` to a coarser "
                "stage",
                (("stages", number, "blocks"), ("stages", number, "points")),
            )
