"""Relative positions as a field of the regular representation."""

import keras
import numpy as np
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.groups import get_group
from vl3d_lite.model.layers.equivariant.spectral import product
from vl3d_lite.model.layers.neighborhood import gather_neighbors


def lift_vectors(kernel, group):
    """Lift ``(n_x, U)`` weights to ``(n_x, |G| * U)``, element-major.

    Column ``h`` applied to a vector ``v`` gives ``kernel^T (R_h^-1 v)``.
    """
    axes, units = kernel.shape
    rotations = np.asarray(group.matrices[:, :axes, :axes])  # R_h^-1 = R_h^T
    rotations = ops.convert_to_tensor(rotations.transpose(1, 2, 0), dtype=kernel.dtype)
    lifted = ops.einsum("bah,au->bhu", rotations, kernel)
    return ops.reshape(lifted, (axes, group.order * units))


@keras.saving.register_keras_serializable(package="vl3d_lite")
class LiftedOffsets(keras.layers.Layer):
    """Encode relative positions as a field of the regular representation::

        e_ij[u, h] = act(w_u . R_h^-1 (p_j - p_i) / scale + b_u)

    If all positions are rotated by ``g``, ``e`` becomes ``rho(g) e``. A missing
    neighbor gets the encoding of the first token; attention masks it.

    Shapes: ``B`` fields, ``T`` queries, ``S`` tokens, ``K`` neighbors, ``U``
    units.

    Args:
        group: Name of the group, or a `SymmetryGroup`.
        units: ``U``, at least 1.
        scale: Length that offsets are divided by, in meters. Positive.
        activation: Name or function.

    Call arguments:
        query_positions: ``(B, T, n_x)`` float, in meters; ``n_x`` 2 or 3.
        memory_positions: ``(B, S, n_x)`` float, in meters.
        neighbors: None for all pairs, or ``(B, T, K)`` int, rows of the tokens;
            -1 where missing.

    Returns:
        ``(B, T, S or K, |G| * U)`` float, element-major.

    Raises:
        DeepLearningException: An argument is out of range, or positions have
            neither two nor three coordinates.

    Source:
        Zhao et al., *Point Transformer* (2021), eq. 4: a perceptron of relative
        positions. Its first layer is lifted to the group here.
    """

    def __init__(self, group, units, scale=1.0, activation="gelu", **kwargs):
        # Coordinates stay float32 where the fields are half precision.
        super().__init__(**{"autocast": False, **kwargs})
        if units < 1:
            raise DeepLearningException(
                f"{self.name}: `units` must be at least 1. Received: units={units}"
            )
        if not scale > 0:
            raise DeepLearningException(
                f"{self.name}: `scale` must be positive (meters). "
                f"Received: scale={scale}"
            )
        self.group = get_group(group)
        self.units = int(units)
        self.scale = float(scale)
        self.activation = keras.activations.get(activation)

    def build(self, query_positions_shape, memory_positions_shape, *_):
        axes = query_positions_shape[-1]
        if axes not in (2, 3) or memory_positions_shape[-1] != axes:
            raise DeepLearningException(
                f"{self.name}: positions of queries and tokens must both have 2 or 3 "
                f"coordinates. Received: shapes {tuple(query_positions_shape)} and "
                f"{tuple(memory_positions_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel", shape=(axes, self.units), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.units,), initializer="zeros"
        )

    def call(self, query_positions, memory_positions, neighbors=None):
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        kernel = lift_vectors(ops.cast(self.kernel, dtype), self.group) / self.scale
        # Projected before the difference: T + S products instead of T S.
        queries = product(ops.cast(query_positions, dtype), kernel)
        tokens = product(ops.cast(memory_positions, dtype), kernel)
        if neighbors is None:
            tokens = ops.expand_dims(tokens, 1)
        else:
            tokens = gather_neighbors(tokens, neighbors, zero_missing=False)
        bias = ops.tile(ops.cast(self.bias, dtype), (self.group.order,))
        offsets = tokens - ops.expand_dims(queries, 2) + bias
        return self.activation(ops.cast(offsets, self.compute_dtype))

    def compute_output_shape(
        self, query_positions_shape, memory_positions_shape, neighbors_shape=None
    ):
        last = (neighbors_shape or memory_positions_shape[:2])[-1]
        return (*query_positions_shape[:2], last, self.group.order * self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "group": self.group.name,
            "units": self.units,
            "scale": self.scale,
            "activation": keras.activations.serialize(self.activation),
        }
