"""What symmetry about the vertical axis adds to a network."""

import math

import keras
from keras import ops

from vl3d_lite.model.layers import (
    EquivariantTransformerDecoderLayer,
    InvariantPooling,
    NeighborUpsample,
    RegularLift,
    RegularRepresentation,
    RepeatedCopies,
    StackedCopies,
    TurnedCopies,
    gather_neighbors,
    get_group,
    is_real,
)


def turned_inputs(inputs, group):
    """The inputs as every element of a group sees them, along the batch axis.

    Args:
        inputs: Keras tensors by name, as `dataset.batch_spec` has them.
        group: A `SymmetryGroup`.

    Returns:
        The same names; coordinates turned about the field's vertical axis, all
        else (scalars and neighbor indices) repeated.
    """
    return {
        name: TurnedCopies(group, name=f"turned_{name}")(value)
        if name.startswith("xyz_")
        else RepeatedCopies(group, name=f"repeated_{name}")(value)
        for name, value in inputs.items()
    }


def equivariant_decoder(model, inputs, skips, spacings):
    """Fine points attend to coarse tokens, the same from every direction.

    A point's own features and those of its parents at every stage are lifted to
    the regular representation, those of the coarsest stage are the memory. With a
    symmetry of the whole network the turned copies are the group axis;
    without, features are scalars and repeat over it.

    Args:
        model: The network's part of the spec.
        inputs: Keras tensors by name, not turned.
        skips: Features of each stage, of turned copies if the model has a
            symmetry.
        spacings: Point spacing of each stage, meters.

    Returns:
        ``(B, R_0, copies)`` that turning the field does not change if it does
        not change `skips` (or, with a symmetry, in any case).
    """
    settings, last = model.decoder, len(skips) - 1
    group = get_group(settings.group)
    symmetric = model.symmetry != "none"
    seen = (
        turned_inputs(
            {name: inputs[name] for name in inputs if name.startswith("up_")}, group
        )
        if symmetric
        else inputs
    )
    fine = skips[-1]
    for level in reversed(range(last)):
        above = NeighborUpsample(name=f"parents_{level}")(
            [fine, seen[f"up_{level}"][..., :1]]
        )
        fine = keras.layers.Concatenate(name=f"column_{level}")([above, skips[level]])
    query = _lift(fine, group, settings.multiplicity, symmetric, "query")
    memory = _lift(skips[-1], group, settings.multiplicity, symmetric, "memory")
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
    # Half the radius of what is attended to: a disc that the tokens fill.
    reach = (
        model.stages[-1].neighbors
        if settings.attention == "local"
        else model.stages[-1].points
    )
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
            position_scale=spacings[-1] * math.sqrt(reach / math.pi) / 2,
            name=f"decoder_{number}",
        )(query, memory, **call)
    return InvariantPooling(representation, settings.multiplicity, name="pool_group")(
        query
    )


def _lift(features, group, copies, symmetric, name):
    if not symmetric:
        return RegularLift(group, copies, name=f"lift_{name}")(features)
    features = keras.layers.Dense(copies, name=f"lift_{name}")(features)
    return StackedCopies(group, name=f"stack_{name}")(features)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class RealPoints(keras.layers.Layer):
    """Tell real points from padded ones.

    Call arguments:
        neighbors: ``(B, R, K)`` int; a padded point has none.

    Returns:
        ``(B, R)`` bool.
    """

    def call(self, neighbors):
        return is_real(neighbors, ops.shape(neighbors)[1])

    def compute_output_shape(self, neighbors_shape):
        return tuple(neighbors_shape[:2])

    def compute_output_spec(self, neighbors):
        return keras.KerasTensor(neighbors.shape[:2], dtype="bool")


@keras.saving.register_keras_serializable(package="vl3d_lite")
class CoarseNeighbors(keras.layers.Layer):
    """The neighbors of each fine point's parent at the coarsest stage.

    Call arguments:
        inputs: A list: ``up_l`` of every stage but the last, ``(B, R_l, U)`` int,
            the parent first; then the neighbors of the last, ``(B, S, K)`` int.
            -1 where missing.

    Returns:
        ``(B, R_0, K)`` int32, rows of the coarsest stage; -1 where missing.
    """

    def call(self, inputs):
        *tables, neighbors = inputs
        if not tables:
            return ops.cast(neighbors, "int32")
        parent = ops.cast(tables[0][..., :1], "int32")
        for table in [*(table[..., :1] for table in tables[1:]), neighbors]:
            # One up and down again: what is missing gathers 0.
            found = gather_neighbors(ops.cast(table, "int32") + 1, parent)
            parent = ops.squeeze(found, axis=2) - 1
        return parent

    def compute_output_shape(self, input_shape):
        if len(input_shape) == 1:
            return tuple(input_shape[0])
        return (*input_shape[0][:2], input_shape[-1][-1])

    def compute_output_spec(self, inputs):
        shape = self.compute_output_shape([x.shape for x in inputs])
        return keras.KerasTensor(shape, dtype="int32")
