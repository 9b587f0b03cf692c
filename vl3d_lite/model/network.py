"""The Keras network of a spec."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from vl3d_lite.model.layers import (
    EnvelopeGatedAttention,
    FieldAttentionLayer,
    GroupedQueryAttentionLayer,
    GroupedVectorAttentionLayer,
    KernelGeometryLayer,
    KPConvXLayer,
    NeighborMaxPool,
    NeighborMeanPool,
    NeighborUpsample,
    PooledCopies,
    UnaryBlock,
    get_group,
)
from vl3d_lite.model.symmetry import equivariant_decoder, rotated_inputs
from vl3d_lite.spec import ConstraintSpec, ModelSpec, RegularizerSpec, StageSpec


def build_network(
    model: ModelSpec,
    inputs: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    *,
    n_classes: int,
    spacings: list[float],
    precision: str = "float32",
) -> keras.Model:
    """Build the network of a spec: from fields to logits of every point.

    An encoder of stages, each a change of width and then its blocks; a decoder
    that upsamples coarse features and joins them with those of the stage, or
    lets fine points attend to coarse tokens; a head on the points of the finest
    stage. With a symmetry, all before the head's mean runs on rotated copies of
    the field, which share their neighbor indices.

    Args:
        model: The network's section of the spec.
        inputs: Shape without the batch axis and dtype of each array of a batch,
            by name: ``features``, ``xyz_l``, ``neighbors_l``, ``down_l``,
            ``up_l``, optionally ``source_weights`` (see `dataset.batch_spec`).
        n_classes: Number of classes.
        spacings: Point spacing of each stage, in meters. Kernel radius and
            influence distance are multiples of it.
        precision: Keras dtype policy of the layers; logits stay float32.

    Returns:
        A model from the named inputs to ``(B, R_0, n_classes)`` float32 logits.
    """
    tensors = {
        name: keras.Input(shape, dtype=np.dtype(dtype).name, name=name)
        for name, (shape, dtype) in inputs.items()
    }
    # Keras holds the policy globally: the caller's is restored.
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return _build(model, tensors, n_classes, spacings)
    finally:
        keras.config.set_dtype_policy(policy)


def _build(model, inputs, n_classes, spacings):
    group = None if model.symmetry == "none" else get_group(model.symmetry)
    seen = rotated_inputs(inputs, group) if group else inputs
    skips = _encode(model, seen, spacings)
    width = model.head_channels or model.stages[0].channels
    if model.decoder.type == "equivariant_transformer":
        features = equivariant_decoder(model, inputs, skips, spacings)
        features = UnaryBlock(width, name="head")([features, inputs["neighbors_0"]])
    else:
        features = _u_shaped(model, seen, skips)
        features = UnaryBlock(width, name="head")([features, seen["neighbors_0"]])
        if group:
            features = PooledCopies(group, name="pool_symmetry")(features)
    if model.dropout:
        features = layers.Dropout(model.dropout, name="head_dropout")(features)
    # Half-precision logits would round the loss and the confidences.
    logits = layers.Dense(n_classes, dtype="float32", name="logits")(features)
    return keras.Model(inputs, logits, name="vl3d_lite")


def _encode(model, inputs, spacings):
    """Return the features of every stage, finest first."""
    features = inputs["features"]
    weights = inputs.get("source_weights")
    skips = []
    for level, stage in enumerate(model.stages):
        neighbors = inputs[f"neighbors_{level}"]
        if level > 0:
            features = DOWNSAMPLING[model.downsampling](
                model, features, inputs, level, spacings
            )
            if weights is not None:
                weights = NeighborMeanPool(name=f"source_weights_{level}")(
                    [weights, inputs[f"down_{level - 1}"]]
                )
        features = UnaryBlock(stage.channels, name=f"widen_{level}")(
            [features, neighbors]
        )
        features = _blocks(model, features, inputs, level, spacings[level], weights)
        skips.append(features)
    return skips


def _u_shaped(model, inputs, skips):
    features = skips[-1]
    for level in reversed(range(len(skips) - 1)):
        features = UPSAMPLING[model.upsampling](features, inputs, level)
        features = layers.Concatenate(name=f"skip_{level}")([features, skips[level]])
        features = UnaryBlock(model.stages[level].channels, name=f"decode_{level}")(
            [features, inputs[f"neighbors_{level}"]]
        )
    return features


def _kernel_arguments(model: ModelSpec, spacing: float) -> dict:
    kernel = model.kpconvx
    return {
        "sigma": kernel.influence_distance * spacing,
        "shell_radii": [
            radius * kernel.kernel_radius * spacing for radius in kernel.shell_radii
        ],
        "shell_points": list(kernel.shell_points),
        "influence": kernel.influence,
    }


@dataclass(frozen=True)
class StageContext:
    """The stage of a block, and what all blocks of it share.

    Attributes:
        stage: The stage's section of the spec.
        spacing: Spacing of its points, in meters.
        xyz: ``(B, R, 3)``.
        neighbors: ``(B, R, K)``.
        geometry: Nearest kernel point and influence of each neighbor; empty
            if no block uses them.
        radius: Distance at which envelope-gated attention ends, in meters.
        source_weights: One tensor ``(B, R, 1)``, or empty.
    """

    stage: StageSpec
    spacing: float
    xyz: keras.KerasTensor
    neighbors: keras.KerasTensor
    geometry: list[keras.KerasTensor]
    radius: float
    source_weights: list[keras.KerasTensor]


def _blocks(model, features, inputs, level, spacing, weights):
    stage = model.stages[level]
    xyz, neighbors = inputs[f"xyz_{level}"], inputs[f"neighbors_{level}"]
    geometry = []
    convolves = {"kpconvx", "kpconvd"} & set(stage.blocks)
    # Rigid kernels of a stage share their geometry; a deformable one has its own.
    if convolves and not model.kpconvx.deformable:
        geometry = KernelGeometryLayer(
            **_kernel_arguments(model, spacing), name=f"geometry_{level}"
        )([xyz, neighbors])
    # Neighbors by count have no radius; the kernel's is that of their support.
    radius = stage.neighbor_radius or model.kpconvx.kernel_radius * spacing
    weights = [] if weights is None else [weights]
    context = StageContext(
        stage, spacing, xyz, neighbors, list(geometry), radius, weights
    )
    for number, block in enumerate(stage.blocks):
        features = BLOCKS[block](model, context, features, f"{block}_{level}_{number}")
    return features


def _kpconvx(model, context, features, name, attention=True):
    kernel = model.kpconvx
    return KPConvXLayer(
        **_kernel_arguments(model, context.spacing),
        DH=round(kernel.hidden_ratio * features.shape[-1]),
        # Without attention there are no groups; 1 divides any width.
        groups=kernel.groups if attention else 1,
        deformable=kernel.deformable,
        drop_path=kernel.drop_path,
        order=kernel.order,
        attention=attention,
        name=name,
    )([context.xyz, features, context.neighbors, *context.geometry])


def _kpconvd(model, context, features, name):
    return _kpconvx(model, context, features, name, attention=False)


def _gva(model, context, features, name):
    gva = model.gva
    gated = gva.softmax == "envelope"
    normalized = _normalized(features, name)
    attended = GroupedVectorAttentionLayer(
        channels=features.shape[-1],
        groups=gva.groups,
        weights=gva.weights,
        positional_multiplier=gva.positional_multiplier,
        positional_bias=gva.positional_bias,
        dropout=gva.dropout,
        scale=context.spacing,
        softmax=gva.softmax,
        radius=context.radius if gated else None,
        name=name,
    )([context.xyz, normalized, context.neighbors, *context.source_weights[:gated]])
    return _residual(features, attended, gva.drop_path, name)


def _envelope(model, context, features, name):
    envelope = model.envelope
    attended = EnvelopeGatedAttention(
        context.radius,
        channels=features.shape[-1],
        heads=envelope.heads,
        positional_bias=envelope.positional_bias,
        dropout=envelope.dropout,
        name=name,
    )(
        [
            context.xyz,
            _normalized(features, name),
            context.neighbors,
            *context.source_weights,
        ]
    )
    return _residual(features, attended, envelope.drop_path, name)


def _gqa(model, context, features, name):
    gqa = model.gqa
    attention = GroupedQueryAttentionLayer(
        gqa.head_dim,
        gqa.num_query_heads,
        gqa.num_key_value_heads,
        dropout=gqa.dropout,
        use_bias=gqa.use_bias,
        flash_attention=gqa.flash_attention,
        kernel_initializer=gqa.kernel_initializer,
        bias_initializer=gqa.bias_initializer,
        kernel_regularizer=_regularizer(gqa.kernel_regularizer),
        bias_regularizer=_regularizer(gqa.bias_regularizer),
        activity_regularizer=_regularizer(gqa.activity_regularizer),
        kernel_constraint=_constraint(gqa.kernel_constraint),
        bias_constraint=_constraint(gqa.bias_constraint),
        name=f"{name}_attention",
    )
    # Half the radius of the disc that the stage's points fill.
    scale = context.spacing * math.sqrt(context.stage.points / math.pi) / 2
    attended = FieldAttentionLayer(
        attention, position=gqa.position, scale=scale, name=name
    )([context.xyz, _normalized(features, name), context.neighbors])
    return _residual(features, attended, gqa.drop_path, name)


def _regularizer(penalty: RegularizerSpec | None):
    if penalty is None:
        return None
    # "l1_l2" penalizes with both.
    factors = {part: penalty.strength for part in penalty.name.split("_")}
    return keras.regularizers.L1L2(**factors)


def _constraint(constraint: ConstraintSpec | None):
    if constraint is None:
        return None
    if constraint.name == "max_norm":
        return keras.constraints.MaxNorm(constraint.limit)
    return keras.constraints.get(constraint.name)


def _normalized(features, name):
    # PyTorch's epsilon, which the papers use; Keras has 1e-3.
    return layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")(features)


def _residual(features, change, drop_path, name):
    if drop_path:
        # One draw per field: a sample skips the whole block.
        change = layers.Dropout(
            drop_path, noise_shape=(None, 1, 1), name=f"{name}_drop_path"
        )(change)
    return layers.Add(name=f"{name}_residual")([features, change])


BLOCKS = {
    "kpconvx": _kpconvx,
    "kpconvd": _kpconvd,
    "gva": _gva,
    "envelope": _envelope,
    "gqa": _gqa,
}


def _max_pool(model, features, inputs, level, spacings):
    return NeighborMaxPool(name=f"pool_{level}")(
        [features, inputs[f"down_{level - 1}"]]
    )


def _strided(model, features, inputs, level, spacings):
    # The kernel has the size of the finer stage, whose points are its neighbors.
    return KPConvXLayer(
        **_kernel_arguments(model, spacings[level - 1]),
        DH=round(model.kpconvx.hidden_ratio * features.shape[-1]),
        groups=1,
        strided=True,
        attention=False,
        name=f"strided_{level}",
    )(
        [
            inputs[f"xyz_{level - 1}"],
            features,
            inputs[f"down_{level - 1}"],
            inputs[f"xyz_{level}"],
        ]
    )


DOWNSAMPLING = {"max": _max_pool, "strided": _strided}


def _nearest(features, inputs, level):
    return NeighborUpsample(name=f"upsample_{level}")([features, inputs[f"up_{level}"]])


def _interpolated(features, inputs, level):
    return NeighborUpsample(name=f"upsample_{level}")(
        [
            features,
            inputs[f"up_{level}"],
            inputs[f"xyz_{level}"],
            inputs[f"xyz_{level + 1}"],
        ]
    )


UPSAMPLING = {"nearest": _nearest, "interpolated": _interpolated}
