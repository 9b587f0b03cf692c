"""Symmetry about the vertical axis: rotated inputs and the equivariant decoder."""

import math

import keras

from vl3d_lite.model.layers import (
    CoarseNeighbors,
    EquivariantTransformerDecoderLayer,
    InvariantPooling,
    NeighborUpsample,
    RealPoints,
    RegularLift,
    RegularRepresentation,
    RepeatedCopies,
    RotatedCopies,
    StackedCopies,
    get_group,
)


def rotated_inputs(inputs, group):
    """Return the inputs as every element of a group sees them, along the batch axis.

    Args:
        inputs: Keras tensors by name, see `dataset.batch_spec`.
        group: A `SymmetryGroup`.

    Returns:
        The same names: coordinates rotated about the field's vertical axis, all
        else (scalars and neighbor indices) repeated.
    """
    return {
        name: RotatedCopies(group, name=f"rotated_{name}")(value)
        if name.startswith("xyz_")
        else RepeatedCopies(group, name=f"repeated_{name}")(value)
        for name, value in inputs.items()
    }


def equivariant_decoder(model, inputs, skips, spacings):
    """Attend from fine points to coarse tokens, equally from every direction.

    A point's own features and those of its parents at every stage are lifted to
    the regular representation; those of the coarsest stage are the memory. With a
    symmetry of the whole network the rotated copies are the group axis; without
    it features are scalars and repeat over that axis.

    Args:
        model: The network's section of the spec.
        inputs: Keras tensors by name, not rotated.
        skips: Features of each stage, of rotated copies if the model has a
            symmetry.
        spacings: Point spacing of each stage, in meters.

    Returns:
        ``(B, R_0, multiplicity)``, invariant under rotations of the field that do
        not change `skips` (with a symmetry, under all of the group).
    """
    settings = model.decoder
    group = get_group(settings.group)
    symmetric = model.symmetry != "none"
    query = _lift(
        _columns(inputs, skips, group if symmetric else None),
        group,
        settings.multiplicity,
        symmetric,
        "query",
    )
    memory = _lift(skips[-1], group, settings.multiplicity, symmetric, "memory")
    call = _call_arguments(settings, inputs, len(skips) - 1)
    representation = RegularRepresentation(group, settings.multiplicity)
    for number in range(settings.layers):
        query = EquivariantTransformerDecoderLayer(
            representation,
            self_attn=settings.self_attention,
            multihead_attn=settings.attention,
            dim_feedforward=settings.dim_feedforward,
            dropout=settings.dropout,
            activation=settings.activation,
            layer_norm_eps=settings.layer_norm_eps,
            norm_first=settings.norm_first,
            norm_module=settings.norm,
            bias=settings.bias,
            init_scheme=settings.init_scheme,
            num_heads=settings.heads,
            position_units=settings.position_units,
            position_scale=_position_scale(model, spacings[-1]),
            name=f"decoder_{number}",
        )(query, memory, **call)
    pool = InvariantPooling(representation, settings.multiplicity, name="pool_group")
    return pool(query)


def _columns(inputs, skips, group):
    """Join each fine point's features with those of its parents at every stage."""
    up = {name: value for name, value in inputs.items() if name.startswith("up_")}
    if group is not None:
        up = rotated_inputs(up, group)
    features = skips[-1]
    for level in reversed(range(len(skips) - 1)):
        # Each row of `up` lists the parent first.
        above = NeighborUpsample(name=f"parents_{level}")(
            [features, up[f"up_{level}"][..., :1]]
        )
        features = keras.layers.Concatenate(name=f"column_{level}")(
            [above, skips[level]]
        )
    return features


def _call_arguments(settings, inputs, last):
    """Return masks, neighbors and positions that the decoder layers take."""
    call = {
        "tgt_key_padding_mask": RealPoints(name="real_points")(inputs["neighbors_0"])
    }
    if settings.attention == "local":
        tables = [inputs[f"up_{level}"] for level in range(last)]
        call["memory_neighbors"] = CoarseNeighbors(name="coarse_neighbors")(
            [*tables, inputs[f"neighbors_{last}"]]
        )
    call["memory_key_padding_mask"] = RealPoints(name="real_tokens")(
        inputs[f"neighbors_{last}"]
    )
    if settings.self_attention == "local":
        call["tgt_neighbors"] = inputs["neighbors_0"]
    if settings.position_units:
        call["tgt_positions"] = inputs["xyz_0"]
        call["memory_positions"] = inputs[f"xyz_{last}"]
    return call


def _position_scale(model, spacing):
    """Return half the radius of the disc that the attended tokens fill, in meters."""
    stage = model.stages[-1]
    local = model.decoder.attention == "local"
    tokens = stage.neighbors if local else stage.points
    return spacing * math.sqrt(tokens / math.pi) / 2


def _lift(features, group, multiplicity, symmetric, name):
    if not symmetric:
        return RegularLift(group, multiplicity, name=f"lift_{name}")(features)
    # Copies are channels of the group already: a map shared by all commutes with it.
    features = keras.layers.Dense(multiplicity, name=f"lift_{name}")(features)
    return StackedCopies(group, name=f"stack_{name}")(features)
