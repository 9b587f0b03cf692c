"""What a spec may say: names, types, units, ranges and defaults.

The models below are the single source of the JSON schema, of the spec
reference in docs/ and of the errors a reader of YAML gives.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, field_validator, model_validator

from vl3d_lite.spec.base import Code, Fraction, PositiveFloat, Section, Violation

COMPUTED_FEATURES = (
    "height",
    "height_above_ground",
    "return_ratio",
    "relative_intensity",
    "vertical",
    "density",
    "linearity",
    "planarity",
    "verticality",
    "curvature",
)
LONGEST_DIMENSION = 32  # ASCII characters of an extra dimension in LAS
CODED_DIMENSIONS = {"withheld": "[1]", "classification": "[7, 18]"}
# Dimensions that a turn of the cloud about the vertical axis changes.
DIRECTED = tuple(
    name
    for axis in "xyXY"
    for name in (axis, f"normal_{axis}", f"Normal{axis}", f"n{axis}", f"{axis}_t")
)
# Of one field in full attention: pairs times heads, or times encoded positions.
MOST_PAIR_NUMBERS = 2**26
EIGENVALUE_FEATURES = ("linearity", "planarity", "verticality", "curvature")


class ClassSpec(Section):
    """One class: the LAS codes that mean it and the code it is written as."""

    short_form: ClassVar[str] = "codes"

    codes: list[Code] = Field(min_length=1)
    """LAS classification codes that carry this class."""
    output_code: Code | None = None
    """Code written for this class. Needed where `codes` names several."""

    @field_validator("codes", mode="before")
    @classmethod
    def _one_code_is_a_list(cls, value):
        return value if isinstance(value, list | tuple) else [value]

    def violations(self) -> list[Iterator[Violation]]:
        return [self._what_to_write_troubles()]

    def _what_to_write_troubles(self) -> Iterator[Violation]:
        if self.output_code is None and len(self.codes) > 1:
            yield Violation(
                "a class of several codes needs `output_code`, the code it is written "
                f"as. Received: codes {self.codes} only",
                (("codes",),),
            )

    @property
    def code(self) -> int:
        """The LAS code written for this class."""
        return self.codes[0] if self.output_code is None else self.output_code


Flag = Literal["withheld", "overlap", "synthetic", "key_point"]


class CloudsSpec(Section):
    """LAS and LAZ files: paths, globs or folders, relative to the spec."""

    train: list[str] = Field([])
    """Labelled clouds to learn from."""
    validation: list[str] = Field([])
    """Labelled clouds that choose the best epoch."""
    predict: list[str] = Field([])
    """Clouds `run` predicts; those that carry labels are evaluated."""


class FeatureSpec(Section):
    """One input of the network: a LAS dimension or a computed feature."""

    short_form: ClassVar[str] = "name"

    name: str = Field(min_length=1)
    """A LAS dimension, an extra dimension, or one of the computed features:
    height, height_above_ground, return_ratio, relative_intensity, vertical,
    density, linearity, planarity, verticality, curvature."""
    radius: PositiveFloat | None = None
    """Radius of the neighborhood a computed feature looks at, in meters."""
    radii: list[PositiveFloat] | None = Field(default=None, min_length=1)
    """Several radii in meters: one feature each."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._radius_troubles()]

    def _radius_troubles(self) -> Iterator[Violation]:
        if self.radius is not None and self.radii is not None:
            yield Violation("give `radius` or `radii`, not both", (("radii",),))
        needs = (*EIGENVALUE_FEATURES, "density")
        has = self.radius is not None or self.radii is not None
        may = (*needs, "height", "height_above_ground")
        if has and self.name not in may:
            close = get_close_matches(self.name, may, n=1)
            guess = f"; did you mean `{close[0]}`?" if close else ""
            yield Violation(
                f"`{self.name}` has no radius, only {', '.join(may)} have one{guess}",
                (("radius",), ("radii",)),
            )
        if not has and self.name in needs:
            yield Violation(
                f"`{self.name}` needs a radius in meters: "
                f"{{name: {self.name}, radius: 1.5}}",
                (("name",),),
            )


def feature_columns(specs: Sequence[FeatureSpec]) -> list[str]:
    """Names of the network's inputs: one a feature, or one a radius."""
    return [
        spec.name if radius is None else f"{spec.name}_{radius:g}"
        for spec in specs
        for radius in spec.radii or [spec.radius]
    ]


class FieldsSpec(Section):
    """Receptive fields: the pieces of a cloud the network sees at once."""

    shape: Literal["cylinder", "sphere", "box", "nearest"] = "cylinder"
    """Cylinder (vertical, unbounded), sphere, box, or the nearest points."""
    radius: PositiveFloat | None = None
    """Radius of a cylinder or sphere in meters; farthest reach of `nearest`."""
    size: list[PositiveFloat] | None = Field(default=None, min_length=2, max_length=3)
    """Edge lengths of a box in meters: two (unbounded in height) or three."""
    grid_size: PositiveFloat
    """Edge of the cells a cloud is first reduced to, in meters."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the radius (or half edge) that neighboring fields share."""
    sampling: Literal["grid", "farthest"] = "grid"
    """How a field is reduced to the points of each stage: nested grid cells
    of the whole cloud, or farthest-point sampling inside each field."""
    interlevel_neighbors: Literal["parents", "nearest"] = "parents"
    """Down- and upsampling neighbors: grid parents, or nearest points. Nearest
    points in any case where `sampling` is `farthest`, which has no parents."""
    training_centers: Literal["balanced", "random", "grid", "farthest"] = "balanced"
    """Where training fields are centered; `balanced` draws every class alike."""
    prediction_centers: Literal["grid", "farthest"] = "grid"
    """Where fields are centered in validation and prediction."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._shape_troubles()]

    def _shape_troubles(self) -> Iterator[Violation]:
        if self.shape == "box":
            if self.size is None:
                yield Violation(
                    "a box needs `size: [x, y]` or `size: [x, y, z]` in meters",
                    (("shape",),),
                )
            if self.radius is not None:
                yield Violation("a box has a `size`, not a `radius`", (("radius",),))
        else:
            if self.size is not None:
                yield Violation(
                    f"a {self.shape} has a `radius`, not a `size`", (("size",),)
                )
            if self.radius is None and self.shape != "nearest":
                yield Violation(
                    f"a {self.shape} needs a `radius` in meters", (("shape",),)
                )
        reach = self.reach
        if reach is not None and reach < self.grid_size:
            yield Violation(
                f"a field must reach at least one cell of `grid_size` = "
                f"{self.grid_size:g} m. Received: a reach of {reach:g} m",
                (("radius",), ("size",), ("grid_size",)),
            )

    @model_validator(mode="after")
    def _farthest_points_have_no_parents(self):
        if self.sampling == "farthest" and self.interlevel_neighbors == "parents":
            object.__setattr__(self, "interlevel_neighbors", "nearest")
        return self

    @property
    def reach(self) -> float | None:
        """Radius, or half of the shortest horizontal edge, in meters."""
        return min(self.size[:2]) / 2 if self.size else self.radius


BlockName = Literal["kpconvx", "kpconvd", "gva", "envelope", "gqa"]
MOST_TOKENS = 2048  # 64 MiB of scores a field for four heads, several times in training


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


class PredictionSpec(Section):
    """What becomes of the predict clouds."""

    votes: Annotated[int, Field(ge=1, le=64)] = 2
    """Passes over the cloud with shifted centers."""
    grids: Annotated[int, Field(ge=1, le=64)] = 1
    """Times the cloud is reduced to cells, every time with another origin of the
    grid and with `votes` passes; points of one cell are told apart by the others."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Fields of a batch; that of training by default."""
    write: list[
        Literal[
            "prediction", "confidence", "entropy", "probabilities", "classification"
        ]
    ] = Field(["prediction", "confidence"])
    """Dimensions of the output; `classification` overwrites the LAS field."""
    calibrate: bool = True
    """Scale confidences by the temperature fitted on the validation clouds."""
    temperature: PositiveFloat | None = None
    """Temperature in place of the fitted one, such as that of a run that left some
    of its training clouds out and validated on them."""
    min_confidence: Fraction | None = None
    """Confidence below which a point is written as `reject_code`, e.g. 0.6."""
    reject_code: Code | None = None
    """Code of unsure points: 1 (unclassified) by default, or 0 (never classified)
    where 1 is a class."""
    keep_codes: list[Code] = Field([])
    """Codes left untouched where `classification` is written, e.g. 7, 9, 18."""


class EvaluationSpec(Section):
    """Where a report says to look: places where prediction and reference disagree."""

    min_confidence: Fraction = 0.9
    """Confidence from which on a wrong point may be an error of the reference."""
    min_points: Annotated[int, Field(ge=0)] = 20
    """Places of more connected wrong points than this are listed."""
    link_distance: PositiveFloat = 2.0
    """Wrong points so near each other, in grid sizes, are connected."""


class ExportSpec(Section):
    """Kernel representations."""

    kernels: bool = True
    """Export kernel points and weights at initialization and after training."""
    plots: bool = True
    """Draw structure, weights, and what training changed."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Also export every so many epochs."""


class Spec(Section):
    """A whole run: clouds in, classified clouds and kernels out."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of every random choice."""
    classes: dict[str, ClassSpec] = Field(min_length=2)
    """Name: code, list of codes, or {codes, output_code}. Codes that no class names
    are ignored in the loss and in scores."""
    clouds: CloudsSpec = CloudsSpec()
    ignored_flags: list[Flag] = Field([])
    """LAS flags whose points are ignored in the loss and in scores, whatever their
    code, e.g. [withheld]; they are predicted like all others."""
    features: list[FeatureSpec] = Field(min_length=1)
    """Inputs of the network beside the coordinates of neighbors."""
    fields: FieldsSpec
    model: ModelSpec
    training: TrainingSpec = TrainingSpec()
    prediction: PredictionSpec = PredictionSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    export: ExportSpec = ExportSpec()

    def violations(self) -> list[Iterator[Violation]]:
        return [
            self._class_troubles(),
            self._name_troubles(),
            self._feature_troubles(),
            self._weight_troubles(),
            self._direction_troubles(),
            self._reject_code_troubles(),
        ]

    def _direction_troubles(self) -> Iterator[Violation]:
        if self.model.symmetry == "none":
            return
        for number, feature in enumerate(self.features):
            if feature.name in DIRECTED:
                yield Violation(
                    f"`{feature.name}` depends on the direction a cloud lies in, so "
                    f"`model.symmetry: {self.model.symmetry}` cannot hold; leave the "
                    "feature or the symmetry out",
                    (("features", number),),
                )

    def _feature_troubles(self) -> Iterator[Violation]:
        columns = []
        for number, feature in enumerate(self.features):
            for column in feature_columns([feature]):
                if column in columns:
                    yield Violation(
                        f"the feature `{column}` is listed twice",
                        (("features", number),),
                    )
                columns.append(column)

    def _weight_troubles(self) -> Iterator[Violation]:
        weights = self.training.class_weights
        if isinstance(weights, list) and len(weights) != len(self.classes):
            yield Violation(
                f"must have one entry for each of the {len(self.classes)} classes. "
                f"Received: {len(weights)}",
                (("training", "class_weights"),),
            )
        if isinstance(weights, list) and not any(weights):
            yield Violation(
                f"must not all be 0: nothing would be learned. Received: {weights}",
                (("training", "class_weights"),),
            )

    def _reject_code_troubles(self) -> Iterator[Violation]:
        wanted = self.prediction.reject_code
        for name, entry in self.classes.items():
            if wanted is not None and wanted in (*entry.codes, entry.code):
                yield Violation(
                    f"must be a code of no class, so that unsure points can be told "
                    f"from others. Received: {wanted}, a code of class `{name}`",
                    (("prediction", "reject_code"),),
                )
        if self.prediction.min_confidence is not None and self.reject_code is None:
            yield Violation(
                "codes 1 and 0 are classes; name the code of unsure points by "
                "`reject_code`",
                (("prediction", "min_confidence"),),
            )

    def _name_troubles(self) -> Iterator[Violation]:
        for name in self.classes:
            if not name.strip():
                yield Violation("a class needs a name", (("classes", name),))
        if "probabilities" not in self.prediction.write:
            return
        for name in self.classes:
            dimension = f"p_{name}"
            fits = len(dimension) <= LONGEST_DIMENSION
            if not (fits and dimension.isascii() and dimension.isprintable()):
                yield Violation(
                    f"`probabilities` names `{dimension}`, a dimension LAS gives "
                    f"{LONGEST_DIMENSION} ASCII characters. Received: "
                    f"{len(dimension)}; rename the class",
                    (("classes", name),),
                )

    def _class_troubles(self) -> Iterator[Violation]:
        owner: dict[int, str] = {}
        # A reader has already complained about an entry that lacks its codes.
        entries = {n: e for n, e in self.classes.items() if "codes" in vars(e)}
        for name, entry in entries.items():
            for place, code in enumerate(entry.codes):
                if code in owner:
                    yield Violation(
                        f"code {code} of class `{name}` is already claimed by class "
                        f"`{owner[code]}`",
                        (("classes", name, "codes", place),),
                    )
                owner.setdefault(code, name)
        for name, entry in entries.items():
            if (
                entry.output_code is not None
                and owner.get(entry.output_code, name) != name
            ):
                yield Violation(
                    f"class `{name}` must not be written as {entry.output_code}, a "
                    f"code of class `{owner[entry.output_code]}`",
                    (("classes", name, "output_code"),),
                )

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the class index."""
        return list(self.classes)

    @property
    def class_codes(self) -> dict[str, list[int]]:
        """LAS codes of each class, in the order of the class index."""
        return {name: entry.codes for name, entry in self.classes.items()}

    @property
    def reject_code(self) -> int | None:
        """The code of unsure points; None where 1 and 0 are taken."""
        if self.prediction.reject_code is not None:
            return self.prediction.reject_code
        taken = {code for e in self.classes.values() for code in (*e.codes, e.code)}
        return next((code for code in (1, 0) if code not in taken), None)

    @property
    def points_per_batch(self) -> int:
        """Points of the finest stage in a training batch, padding included."""
        return self.training.batch_size * self.model.stages[0].points

    @property
    def prediction_batch(self) -> int:
        """Fields of a batch in prediction."""
        return self.prediction.batch_size or self.training.batch_size

    @property
    def link_distance(self) -> float:
        """Distance in meters that connects wrong points."""
        return self.evaluation.link_distance * self.fields.grid_size

    @property
    def spacings(self) -> list[float]:
        """Point spacing of each stage in meters: the edge of its grid cells."""
        return [self.fields.grid_size * 2**n for n in range(len(self.model.stages))]
