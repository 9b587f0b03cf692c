"""Layers into the regular representation, and out of it to invariant numbers."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import with_new_names
from vl3d_lite.model.layers.equivariant.groups import (
    OLD_NAMES,
    RegularRepresentation,
    get_representation,
)
from vl3d_lite.model.layers.equivariant.linear import EquivariantLinear, check_width
from vl3d_lite.model.layers.equivariant.positions import lift_vectors
from vl3d_lite.model.layers.equivariant.spectral import product


@keras.saving.register_keras_serializable(package="vl3d_lite")
class RegularLift(keras.layers.Layer):
    """Lift scalars and vectors to a field of the regular representation::

        y[c, h] = sum_i s_i A_ic + sum_va (R_h^-1 v_v)_a W_vac + b_c

    Scalars, which a rotation leaves alone, repeat over the group; vectors are
    rotated by the inverse of every element. If the vectors are rotated by ``g``,
    ``y`` becomes ``rho(g) y``. Without vectors the second sum is 0.

    Shapes: ``B`` fields, ``R`` points, ``C`` scalars, ``V`` vectors.

    Args:
        group: Name of the group, or a `SymmetryGroup`.
        multiplicity: Copies in the output, at least 1.

    Call arguments:
        scalars: ``(B, R, C)`` float.
        vectors: ``(B, R, V, n_x)`` float, ``n_x`` 2 or 3, or None.

    Returns:
        ``(B, R, multiplicity * |G|)`` float, copy-major.

    Raises:
        DeepLearningException: `multiplicity` or the group is out of range, or
            `vectors` has another shape.

    Source:
        Cohen and Welling, *Group Equivariant Convolutional Networks* (2016): the
        lifting layer, on vectors at points.
    """

    def __init__(self, group, multiplicity, **kwargs):
        super().__init__(**kwargs)
        self.out_rep = RegularRepresentation(group, multiplicity)

    @property
    def group(self):
        return self.out_rep.group

    def build(self, scalars_shape, vectors_shape=None):
        multiplicity = self.out_rep.multiplicity
        self.kernel = self.add_weight(
            name="kernel",
            shape=(scalars_shape[-1], multiplicity),
            initializer="glorot_uniform",
        )
        self.bias = self.add_weight(
            name="bias", shape=(multiplicity,), initializer="zeros"
        )
        if vectors_shape is None:
            return
        if len(vectors_shape) != 4 or vectors_shape[-1] not in (2, 3):
            raise DeepLearningException(
                f"{self.name}: `vectors` must be (B, R, V, 2 or 3). "
                f"Received: shape {tuple(vectors_shape)}"
            )
        count, axes = vectors_shape[-2:]
        self.vector_kernel = self.add_weight(
            name="vector_kernel",
            shape=(axes, count * multiplicity),
            initializer="glorot_uniform",
        )

    def call(self, scalars, vectors=None):
        result = product(scalars, ops.cast(self.kernel, scalars.dtype))
        result = ops.repeat(
            result + ops.cast(self.bias, scalars.dtype), self.group.order, axis=-1
        )
        if vectors is None:
            return result
        lead, (count, axes) = ops.shape(scalars)[:2], vectors.shape[-2:]
        order, multiplicity = self.group.order, self.out_rep.multiplicity
        kernel = lift_vectors(ops.cast(self.vector_kernel, scalars.dtype), self.group)
        kernel = ops.reshape(kernel, (axes, order, count, multiplicity))
        kernel = ops.transpose(kernel, (2, 0, 3, 1))  # (V, n_x, m, |G|)
        kernel = ops.reshape(kernel, (count * axes, multiplicity * order))
        flat = ops.reshape(vectors, (*lead, count * axes))
        return result + product(flat, kernel)

    def compute_output_shape(self, scalars_shape, vectors_shape=None):
        return (*scalars_shape[:-1], self.out_rep.size)

    def get_config(self):
        return {**super().get_config(), **self.out_rep.get_config()}

    @classmethod
    def from_config(cls, config):
        return cls(**with_new_names(config, OLD_NAMES))


@keras.saving.register_keras_serializable(package="vl3d_lite")
class InvariantPooling(keras.layers.Layer):
    """Pool a field to numbers that the group leaves alone::

        y = W mean over h of act(E x)[., h] + b

    ``E`` is an `EquivariantLinear`. The activation precedes the mean: the mean of
    a linear map alone depends on the constant irrep only.

    Shapes: ``D = multiplicity * |G|``, copy-major.

    Args:
        in_rep: `RegularRepresentation` of the input, or ``(group, multiplicity)``.
        units: Output channels, at least 1.
        hidden: Multiplicity of the hidden field; that of the input by default.
        activation: Name or function.

    Call arguments:
        inputs: ``(..., D)`` float.

    Returns:
        ``(..., units)`` float.

    Raises:
        DeepLearningException: An argument or the input's width is out of range.

    Source:
        Cohen and Welling, *Group Equivariant Convolutional Networks* (2016): the
        pooling over the group. The linear map and activation before it are ours.
    """

    def __init__(self, in_rep, units, hidden=None, activation="gelu", **kwargs):
        super().__init__(**kwargs)
        self.in_rep = get_representation(in_rep)
        if units < 1:
            raise DeepLearningException(
                f"{self.name}: `units` must be at least 1. Received: units={units}"
            )
        self.units = int(units)
        self.hidden = hidden
        self.activation = keras.activations.get(activation)
        self.inner = EquivariantLinear(
            self.in_rep,
            self.in_rep.multiplicity if hidden is None else hidden,
            dtype=self.dtype_policy,
            name="inner",
        )

    def build(self, input_shape):
        check_width(self.name, "inputs", input_shape, self.in_rep.size)
        self.inner.build(input_shape)
        multiplicity = self.inner.out_rep.multiplicity
        self.kernel = self.add_weight(
            name="kernel",
            shape=(multiplicity, self.units),
            initializer="glorot_uniform",
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer="zeros"
        )

    def call(self, inputs):
        # The activation acts on the field itself, not on its spectrum.
        hidden = self.activation(self.inner(inputs))
        lead = ops.shape(hidden)[:-1]
        order = self.in_rep.group.order
        hidden = ops.reshape(hidden, (*lead, self.inner.out_rep.multiplicity, order))
        # A sum, since `ops.mean` rounds float64 on PyTorch.
        pooled = ops.sum(hidden, axis=-1) / order
        result = product(pooled, ops.cast(self.kernel, pooled.dtype))
        return result + ops.cast(self.bias, pooled.dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "in_rep": self.in_rep.get_config(),
            "units": self.units,
            "hidden": self.hidden,
            "activation": keras.activations.serialize(self.activation),
        }
