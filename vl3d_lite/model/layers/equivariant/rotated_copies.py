"""A field seen from every element of a group, along the batch axis.

Any function of the turned copies ``R_h^-1 x`` is a field of the regular
representation: if ``x`` is turned by ``g``, copy ``h`` takes the place of copy
``g h``. So a mean over the copies is invariant, whatever the function was.
"""

import keras
from keras import ops

from vl3d_lite.model.layers.equivariant.groups import get_group


class _Copies(keras.layers.Layer):
    """What all have in common: the group.

    Args:
        group: Name of the group, or a `SymmetryGroup`.
    """

    def __init__(self, group, **kwargs):
        super().__init__(**kwargs)
        self.group = get_group(group)

    def _batch(self, batch, factor):
        if batch is None:
            return None
        return batch * factor if factor > 0 else batch // -factor

    def get_config(self):
        return {**super().get_config(), "group": self.group.name}


@keras.saving.register_keras_serializable(package="vl3d_lite")
class TurnedCopies(_Copies):
    """Coordinates as every element of the group sees them, ``R_h^-1 x``.

    Quarter turns and mirrors only swap coordinates and change signs, so their
    copies agree to the last bit; other turns round.

    Shapes: ``B`` fields, ``R`` points, ``n_x`` 2 or 3.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(B, R, n_x)`` float, meters from the vertical axis.

    Returns:
        ``(|G| * B, R, n_x)`` float, the elements one after the other.
    """

    def __init__(self, group, **kwargs):
        # Coordinates stay float32 where the features are half precision.
        super().__init__(group, **{"autocast": False, **kwargs})

    def call(self, inputs):
        x, y = inputs[..., 0], inputs[..., 1]
        turned = []
        for matrix in self.group.matrices:  # R^-1 = R^T
            own = [_sum(x, matrix[0, axis], y, matrix[1, axis]) for axis in (0, 1)]
            rest = [inputs[..., axis] for axis in range(2, inputs.shape[-1])]
            turned.append(ops.stack([*own, *rest], axis=-1))
        return ops.concatenate(turned, axis=0)

    def compute_output_shape(self, input_shape):
        return (self._batch(input_shape[0], self.group.order), *input_shape[1:])


def _sum(x, a, y, b):
    terms = [v * float(f) for v, f in ((x, a), (y, b)) if f]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


@keras.saving.register_keras_serializable(package="vl3d_lite")
class RepeatedCopies(_Copies):
    """What a turn leaves alone (scalars, neighbor indices), once an element.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(B, ...)``, any type.

    Returns:
        ``(|G| * B, ...)``.
    """

    def __init__(self, group, **kwargs):
        super().__init__(group, **{"autocast": False, **kwargs})

    def call(self, inputs):
        return ops.concatenate([inputs] * self.group.order, axis=0)

    def compute_output_shape(self, input_shape):
        return (self._batch(input_shape[0], self.group.order), *input_shape[1:])


@keras.saving.register_keras_serializable(package="vl3d_lite")
class PooledCopies(_Copies):
    """The mean over the group: invariant.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(|G| * B, R, C)`` float.

    Returns:
        ``(B, R, C)`` float.
    """

    def call(self, inputs):
        shape = ops.shape(inputs)
        apart = ops.reshape(inputs, (self.group.order, -1, *shape[1:]))
        return ops.sum(apart, axis=0) / self.group.order

    def compute_output_shape(self, input_shape):
        return (self._batch(input_shape[0], -self.group.order), *input_shape[1:])


@keras.saving.register_keras_serializable(package="vl3d_lite")
class StackedCopies(_Copies):
    """The copies as one field of the regular representation, copy-major.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(|G| * B, R, C)`` float.

    Returns:
        ``(B, R, C * |G|)`` float.
    """

    def call(self, inputs):
        shape = ops.shape(inputs)
        order, channels = self.group.order, inputs.shape[-1]
        apart = ops.reshape(inputs, (order, -1, *shape[1:]))
        apart = ops.transpose(apart, (1, 2, 3, 0))
        return ops.reshape(apart, (-1, shape[1], channels * order))

    def compute_output_shape(self, input_shape):
        batch, points, channels = input_shape
        batch = self._batch(batch, -self.group.order)
        return (batch, points, channels * self.group.order)
