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

# Of one field in full attention: pairs times heads, or times encoded positions.
MOST_PAIR_NUMBERS = 2**26
MOST_TOKENS = 2048  # 64 MiB of scores a field for four heads, several times in training
BlockName = Literal["kpconvx", "kpconvd", "gva", "envelope", "gqa"]


class StageSpec(Section):
    """One level of the network."""

    points: Annotated[int, Field(ge=1)]
    """Points of a field at this level."""
    channels: Annotated[int, Field(ge=1)]
    """Feature channels at this level."""
    neighbors: Annotated[int, Field(ge=1, le=256)] = 16
    """Neighbors of a point, itself included."""
    neighbor_radius: PositiveFloat | None = None
    """Neighbors beyond this distance in meters count as missing."""
    blocks: list[BlockName] = Field(["kpconvx", "gva"])
    """Blocks in order: kpconvx, kpconvd (no attention), gva, envelope, gqa (every
    point attends to all of its field; for coarse stages of at most 2048 points)."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._neighbors_troubles()]

    def _neighbors_troubles(self) -> Iterator[Violation]:
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
    """How coarse features come back to the points; all but `type` is for the
    equivariant transformer."""

    short_form: ClassVar[str] = "type"

    type: Literal["u_shaped", "equivariant_transformer"] = "u_shaped"
    """Upsampling joined with each stage's own features (`u_shaped`), or fine points
    that attend to the tokens of the coarsest stage."""
    group: Group = "C4"
    """Turns (C) or turns and mirrors (D) about the vertical axis that the decoder
    commutes with."""
    multiplicity: Annotated[int, Field(ge=1)] = 16
    """Copies of the group's regular representation; channels are `multiplicity`
    times the order of the group."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads; they split the copies."""
    layers: Annotated[int, Field(ge=1, le=16)] = 1
    """Decoder layers."""
    dim_feedforward: Annotated[int, Field(ge=1)] = 128
    """Hidden channels of a layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of copies, and of attention weights."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """Of the hidden channels."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Root mean square, or mean and variance, over all channels of a point."""
    norm_first: bool = True
    """Normalize before attention and MLP instead of after the sums."""
    layer_norm_eps: PositiveFloat = 1e-5
    """Added to the mean square or variance."""
    bias: bool = True
    """Linear maps with a bias."""
    init_scheme: Literal[
        "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"
    ] = "xavier_uniform"
    """First values of the kernels."""
    attention: Literal["local", "full"] = "local"
    """To the tokens around a point's parent, or to all tokens of the field."""
    self_attention: Literal["none", "local"] = "none"
    """Fine points also attend to their neighbors."""
    position_units: Annotated[int, Field(ge=0)] = 8
    """Units that encode relative positions, seen from each element of the group;
    0 for none."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._head_troubles()]

    def _head_troubles(self) -> Iterator[Violation]:
        if self.multiplicity % self.heads:
            yield Violation(
                f"must divide `multiplicity` = {self.multiplicity}. "
                f"Received: {self.heads}",
                (("heads",), ("multiplicity",)),
            )


class ModelSpec(Section):
    """The network: an encoder of stages, a decoder with skips, a head."""

    stages: list[StageSpec] = Field(min_length=1, max_length=8)
    """From the finest level to the coarsest."""
    kpconvx: KPConvXSpec = KPConvXSpec()
    gva: GVASpec = GVASpec()
    gqa: GQASpec = GQASpec()
    envelope: EnvelopeSpec = EnvelopeSpec()
    source_weights: SourceWeightsSpec | None = None
    """Weights of points in `gva` with `softmax: envelope` and in `envelope`
    blocks: a dimension, or a mapping. A point of weight 0 is not attended to."""
    downsampling: Literal["max", "strided"] = "max"
    """Maximum over a coarse point's children, or a strided convolution."""
    upsampling: Literal["nearest", "interpolated"] = "nearest"
    """Features of the parent, or a distance-weighted mean of three."""
    head_channels: Annotated[int, Field(ge=1)] | None = None
    """Width of the head; the channels of the first stage by default."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the logits."""
    decoder: DecoderSpec = DecoderSpec()
    """A type, or a mapping with its parameters."""
    symmetry: Literal[
        "none", "C2", "C3", "C4", "C6", "C8", "D1", "D2", "D4", "D6", "D8"
    ] = "none"
    """Turns (C) or turns and mirrors (D) of a cloud that leave the logits as they
    are: the network sees as many turned copies and costs as many times more."""

    def violations(self) -> list[Iterator[Violation]]:
        numbers = range(len(vars(self).get("stages", ())))
        return [
            self._decoder_troubles(),
            *(self._size_troubles(number) for number in numbers[1:]),
            *(self._group_troubles(number, "kpconvx") for number in numbers),
            *(self._group_troubles(number, "gva") for number in numbers),
            *(self._token_troubles(number) for number in numbers),
            *(self._group_troubles(number, "envelope", "heads") for number in numbers),
            self._source_troubles(),
        ]

    def _source_troubles(self) -> Iterator[Violation]:
        names = {name for stage in self.stages for name in stage.blocks}
        gated = "gva" in names and self.gva.softmax == "envelope"
        if self.source_weights is not None and not gated and "envelope" not in names:
            yield Violation(
                "`source_weights` would do nothing: they weigh points in `gva` "
                "blocks with `gva.softmax: envelope` and in `envelope` blocks, and "
                "the stages have none",
                (("source_weights",),),
            )

    def _size_troubles(self, number: int) -> Iterator[Violation]:
        before, points = self.stages[number - 1].points, self.stages[number].points
        if points > before:
            yield Violation(
                f"must be at most the {before} points of the stage before. "
                f"Received: {points}",
                (("stages", number, "points"),),
            )

    def _group_troubles(
        self, number: int, block: str, key: str = "groups"
    ) -> Iterator[Violation]:
        stage, groups = self.stages[number], getattr(getattr(self, block), key)
        if block in stage.blocks and stage.channels % groups:
            yield Violation(
                f"must be a multiple of `{block}.{key}` = {groups}. "
                f"Received: {stage.channels}",
                (("stages", number, "channels"), (block, key)),
            )

    def _decoder_troubles(self) -> Iterator[Violation]:
        decoder = self.decoder
        if decoder.type != "equivariant_transformer":
            return
        if self.symmetry not in ("none", decoder.group):
            yield Violation(
                f"must be `model.symmetry` = {self.symmetry}, whose turned copies the "
                f"decoder joins. Received: {decoder.group}",
                (("decoder", "group"), ("symmetry",)),
            )
        pairs = self.stages[0].points * self.stages[-1].points
        wide = max(decoder.heads, GROUP_ORDERS[decoder.group] * decoder.position_units)
        if decoder.attention == "full" and pairs * wide > MOST_PAIR_NUMBERS:
            yield Violation(
                f"full attention keeps {pairs * wide * 4 / 2**20:.0f} MiB a field, of "
                f"{MOST_PAIR_NUMBERS * 4 / 2**20:.0f} at most; use `local`, fewer "
                "points, or `position_units: 0`. Received: full",
                (("decoder", "attention"),),
            )

    def _token_troubles(self, number: int) -> Iterator[Violation]:
        stage = self.stages[number]
        if "gqa" in stage.blocks and stage.points > MOST_TOKENS:
            heads = self.gqa.num_query_heads
            size = 4 * heads * stage.points**2 / 2**20
            yield Violation(
                f"`gqa` scores all pairs of a stage's points and may have at most "
                f"{MOST_TOKENS}. Received: {stage.points} points, which with {heads} "
                f"heads make {size:.0f} MiB a field; move `gqa` to a coarser stage",
                (("stages", number, "blocks"), ("stages", number, "points")),
            )
