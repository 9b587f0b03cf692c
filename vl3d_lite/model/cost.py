"""Cost of a network by formula: its parameters, and the memory of a step.

It repeats on purpose what `model.network` builds, without Keras, so that `check` and
`plan` answer at once. tests/model/test_cost.py compares the two for every block and
every form of decoder.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vl3d_lite.spec import GROUP_ORDERS, ModelSpec, StageSpec

# Numbers per channel of a batch normalization: gain, bias and two moving statistics.
NORM = 4
AXES = 3


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer of a network.

    Attributes:
        kind: ``unary``, ``geometry``, ``pool``, ``other``, or a block's name.
        parameters: Number of parameters, trained or not.
        per_point: Numbers per point that the layer keeps for the gradient.
        per_neighbor: Numbers per neighbor slot that it keeps.
        stage: Number of the stage whose points it works on.
    """

    kind: str
    parameters: int
    per_point: float
    per_neighbor: float
    stage: int


def network_cost(model: ModelSpec, n_features: int, n_classes: int) -> list[LayerCost]:
    """Return the cost of every layer that `network.build_network` makes, in order.

    Args:
        model: The network's section of a spec.
        n_features: Number of features per point.
        n_classes: Number of classes.
    """
    return list(_layers(model, n_features, n_classes))


def count_parameters(model: ModelSpec, n_features: int, n_classes: int) -> int:
    """Return the number of parameters of the network, trained or not."""
    return sum(cost.parameters for cost in network_cost(model, n_features, n_classes))


def _layers(model: ModelSpec, n_features: int, n_classes: int) -> Iterator[LayerCost]:
    copies = GROUP_ORDERS[model.symmetry]
    if model.decoder.type == "equivariant_transformer":
        yield from _rotated(_encoder(model, n_features), copies)
        yield from _equivariant(model)
        # The decoder pools the group, so the head runs once.
        width, copies = model.decoder.multiplicity, 1
    else:
        yield from _rotated(_encoder(model, n_features), copies)
        yield from _rotated(_u_shaped(model), copies)
        width = model.stages[0].channels
    head = model.head_channels or model.stages[0].channels
    yield from _rotated([_unary(width, head, 0)], copies)
    parameters = head * n_classes + n_classes
    yield LayerCost("other", parameters, 3 * n_classes, 0, 0)


def _rotated(costs: Iterable[LayerCost], copies: int) -> Iterator[LayerCost]:
    """Apply the same weights to every rotated copy of a field."""
    for cost in costs:
        yield replace(
            cost,
            per_point=copies * cost.per_point,
            per_neighbor=copies * cost.per_neighbor,
        )


def _encoder(model: ModelSpec, n_features: int) -> Iterator[LayerCost]:
    width = n_features
    for level, stage in enumerate(model.stages):
        if level and model.downsampling == "strided":
            yield _kpconvx(model, width, level, strided=True)
        elif level:
            yield LayerCost("pool", 0, width, 0, level)
        yield _unary(width, stage.channels, level)
        width = stage.channels
        yield from _blocks(model, stage, level)


def _u_shaped(model: ModelSpec) -> Iterator[LayerCost]:
    width = model.stages[-1].channels
    for level in reversed(range(len(model.stages) - 1)):
        own = model.stages[level].channels
        yield LayerCost("other", 0, 2 * width + own, 0, level)  # upsampled, joined
        yield _unary(width + own, own, level)
        width = own


def _equivariant(model: ModelSpec) -> Iterator[LayerCost]:
    decoder = model.decoder
    order, multiplicity = GROUP_ORDERS[decoder.group], decoder.multiplicity
    width, last = order * multiplicity, len(model.stages) - 1
    for level, channels in (
        (0, sum(stage.channels for stage in model.stages)),
        (last, model.stages[-1].channels),
    ):
        yield LayerCost(
            "other", channels * multiplicity + multiplicity, channels + width, 0, level
        )
    # Attention to the memory always exists.
    attentions = 1 + (decoder.self_attention != "none")
    hidden, units = math.ceil(decoder.dim_feedforward / order), decoder.position_units
    with_bias = decoder.bias
    attention = 4 * multiplicity * (multiplicity * order + with_bias)
    attention += units * (AXES + 1 + 2 * multiplicity)
    norm = multiplicity * _scales(decoder.group)
    norm += multiplicity * (decoder.norm == "layernorm" and with_bias)
    mlp = 2 * hidden * multiplicity * order + (hidden + multiplicity) * with_bias
    for _ in range(decoder.layers):
        yield LayerCost(
            "other",
            attentions * (attention + norm) + mlp + norm,
            attentions * 8 * width + 4 * width + 4 * order * hidden,
            attentions * (3 * width + 4 * decoder.heads + 2 * order * units),
            0,
        )
    pool = multiplicity * multiplicity * (order + 1) + 2 * multiplicity
    yield LayerCost("other", pool, 2 * width + multiplicity, 0, 0)


def _scales(group: str) -> int:
    """Return the number of irreps in a regular representation, with repetitions."""
    rotations = 1 if group == "trivial" else int(group[1:])
    if group[0] != "D":
        return rotations // 2 + 1
    return rotations + 2 if rotations % 2 == 0 else rotations + 1


def _unary(inputs: int, outputs: int, level: int) -> LayerCost:
    # The gradient keeps input, product, normalized and activated output.
    parameters = inputs * outputs + NORM * outputs
    return LayerCost("unary", parameters, inputs + 3 * outputs, 0, level)


def _blocks(model: ModelSpec, stage: StageSpec, level: int) -> Iterator[LayerCost]:
    convolves = {"kpconvx", "kpconvd"} & set(stage.blocks)
    if convolves and not model.kpconvx.deformable:
        points = sum(model.kpconvx.shell_points)
        yield LayerCost("geometry", points * AXES, 0, 4, level)
    for block in stage.blocks:
        yield BLOCK_COSTS[block](model, stage, level)


def _kpconvx(
    model: ModelSpec,
    channels: int,
    level: int,
    *,
    attention: bool = False,
    strided: bool = False,
) -> LayerCost:
    kernel = model.kpconvx
    points = sum(kernel.shell_points)
    hidden = round(kernel.hidden_ratio * channels)
    # Strided layers always have the order of VL3D.
    apple = kernel.order == "apple" and not strided
    parameters = points * (AXES + channels)
    parameters += channels * hidden + hidden + NORM * hidden
    parameters += hidden * channels + channels + NORM * channels
    per_point, per_neighbor = 6 * channels + 4 * hidden, 2 * channels
    if attention:
        width = points * (channels // kernel.groups)
        parameters += channels * channels + channels + channels * width
        parameters += 0 if apple else width + NORM * channels
        per_point += 3 * channels + 2 * width
        per_neighbor += 2 * (channels // kernel.groups)
    if apple:
        parameters += NORM * channels
        per_point += 2 * channels
    if strided or kernel.deformable:
        per_neighbor += 4
    return LayerCost("kpconvx", parameters, per_point, per_neighbor, level)


def _gva(model: ModelSpec, stage: StageSpec, level: int) -> LayerCost:
    gva, channels = model.gva, stage.channels
    groups = gva.groups
    mlp = AXES * channels + channels + channels * channels + channels
    parameters = 2 * channels  # of the normalization in front
    parameters += 3 * channels * channels + channels + NORM * 2 * channels
    parameters += mlp * (gva.positional_bias + gva.positional_multiplier)
    parameters += channels * groups + groups + groups * groups
    per_point = (8 + groups * gva.positional_bias) * channels
    per_neighbor = (1 + gva.positional_bias) * channels + 4 * groups
    if gva.weights == "channels" or gva.positional_multiplier:
        per_neighbor += 4 * channels
    if gva.softmax == "envelope":
        parameters += groups
        per_neighbor += 4 + 4 * groups
    if gva.weights == "channels":
        parameters += groups * channels + channels
    return LayerCost("gva", parameters, per_point, per_neighbor, level)


def _envelope(model: ModelSpec, stage: StageSpec, level: int) -> LayerCost:
    envelope, channels = model.envelope, stage.channels
    heads = envelope.heads
    parameters = 2 * channels  # of the normalization in front
    parameters += 4 * channels * channels + heads
    per_point, per_neighbor = 7 * channels, 3 * channels + 4 + 8 * heads
    if envelope.positional_bias:
        parameters += AXES * channels + channels
        parameters += channels * heads + channels * channels
        per_point += heads * channels
        per_neighbor += channels
    return LayerCost("envelope", parameters, per_point, per_neighbor, level)


def _gqa(model: ModelSpec, stage: StageSpec, level: int) -> LayerCost:
    gqa, channels = model.gqa, stage.channels
    queries, keys = (
        heads * gqa.head_dim for heads in (gqa.num_query_heads, gqa.num_key_value_heads)
    )
    parameters = 2 * channels  # of the normalization in front
    parameters += 2 * channels * (queries + keys)
    parameters += (queries + 2 * keys + channels) * gqa.use_bias
    per_point = 4 * channels + 4 * queries + 2 * keys
    per_point += 3 * gqa.num_query_heads * stage.points  # scores of all pairs
    if gqa.position:
        parameters += AXES * channels + channels + channels * channels
        per_point += 3 * channels
    return LayerCost("gqa", parameters, per_point, 0, level)


BLOCK_COSTS = {
    "kpconvx": lambda m, stage, n: _kpconvx(m, stage.channels, n, attention=True),
    "kpconvd": lambda m, stage, n: _kpconvx(m, stage.channels, n),
    "gva": _gva,
    "envelope": _envelope,
    "gqa": _gqa,
}
