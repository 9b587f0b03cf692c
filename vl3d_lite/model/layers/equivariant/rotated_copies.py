"""A field as seen from every element of a group, along the batch axis.

Any function of the rotated copies ``R_h^-1 x`` is a field of the regular
representation: if ``x`` is rotated by ``g``, copy ``h`` moves to the position of
copy ``g h``. So a mean over the copies is invariant, whatever the function is.
"""

import keras
from keras import ops

from vl3d_lite.model.layers.equivariant.groups import get_group


class _Copies(keras.layers.Layer):
    """Base of the layers that add or remove the copies of a group.

    Args:
        group: Name of the group, or a `SymmetryGroup`.
    """

    def __init__(self, group, **kwargs):
        super().__init__(**kwargs)
        self.group = get_group(group)

    def get_config(self):
        return {**super().get_config(), "group": self.group.name}

    def _copied(self, batch):
        return None if batch is None else batch * self.group.order

    def _pooled(self, batch):
        return None if batch is None else batch // self.group.order


@keras.saving.register_keras_serializable(package="vl3d_lite")
class RotatedCopies(_Copies):
    """Rotate (and mirror) coordinates by the inverse of every element.

    For an element ``h`` of the group and its matrix ``R_h``::

        y_h = R_h^-1 x

    Quarter rotations and mirrors only swap coordinates and change signs, so their
    copies agree to the last bit; other rotations round.

    Shapes: ``B`` fields, ``R`` points, ``n_x`` 2 or 3.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(B, R, n_x)`` float, in meters from the vertical axis.

    Returns:
        ``(|G| * B, R, n_x)`` float, the elements one after the other.

    Raises:
        DeepLearningException: The group is unknown.

    Source:
        Puny et al., *Frame Averaging* (2022), whose frame is the whole group
        here.
    """

    def __init__(self, group, **kwargs):
        # Coordinates stay float32 where the features are half precision.
        super().__init__(group, **{"autocast": False, **kwargs})

    def call(self, inputs):
        x, y = inputs[..., 0], inputs[..., 1]
        rotated = []
        for matrix in self.group.matrices:  # R^-1 = R^T
            own = [_sum(x, matrix[0, axis], y, matrix[1, axis]) for axis in (0, 1)]
            rest = [inputs[..., axis] for axis in range(2, inputs.shape[-1])]
            rotated.append(ops.stack([*own, *rest], axis=-1))
        return ops.concatenate(rotated, axis=0)

    def compute_output_shape(self, input_shape):
        return (self._copied(input_shape[0]), *input_shape[1:])


def _sum(x, a, y, b):
    # Without the terms of factor 0, so that quarter rotations stay exact.
    terms = [v * float(f) for v, f in ((x, a), (y, b)) if f]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


# The name of the layer in model files of version 0.1.
keras.saving.get_custom_objects()["vl3d_lite>TurnedCopies"] = RotatedCopies


@keras.saving.register_keras_serializable(package="vl3d_lite")
class RepeatedCopies(_Copies):
    """Repeat what a rotation leaves alone (scalars, neighbor indices).

    For an element ``h`` of the group::

        y_h = x

    Shapes: ``B`` fields.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(B, ...)``, any dtype.

    Returns:
        ``(|G| * B, ...)``, dtype of the inputs, the elements one after the other.

    Raises:
        DeepLearningException: The group is unknown.

    Source:
        See `RotatedCopies`.
    """

    def __init__(self, group, **kwargs):
        super().__init__(group, **{"autocast": False, **kwargs})

    def call(self, inputs):
        return ops.concatenate([inputs] * self.group.order, axis=0)

    def compute_output_shape(self, input_shape):
        return (self._copied(input_shape[0]), *input_shape[1:])


@keras.saving.register_keras_serializable(package="vl3d_lite")
class PooledCopies(_Copies):
    """Take the mean over the copies, which is invariant under the group.

    For the copies ``x_h`` of a field::

        y = 1/|G| sum_h x_h

    Shapes: ``B`` fields, ``R`` points, ``C`` channels.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(|G| * B, R, C)`` float, the elements one after the other.

    Returns:
        ``(B, R, C)`` float.

    Raises:
        DeepLearningException: The group is unknown.

    Source:
        Puny et al., *Frame Averaging* (2022), eq. 3, over the whole group.
    """

    def call(self, inputs):
        shape = ops.shape(inputs)
        apart = ops.reshape(inputs, (self.group.order, -1, *shape[1:]))
        return ops.sum(apart, axis=0) / self.group.order

    def compute_output_shape(self, input_shape):
        return (self._pooled(input_shape[0]), *input_shape[1:])


@keras.saving.register_keras_serializable(package="vl3d_lite")
class StackedCopies(_Copies):
    """Stack the copies to one field of the regular representation, copy-major.

    For a channel ``c`` and an element ``h``::

        y[c |G| + h] = x_h[c]

    Shapes: ``B`` fields, ``R`` points, ``C`` channels.

    Args:
        group: Name of the group, or a `SymmetryGroup`.

    Call arguments:
        inputs: ``(|G| * B, R, C)`` float, the elements one after the other.

    Returns:
        ``(B, R, C * |G|)`` float.

    Raises:
        DeepLearningException: The group is unknown.

    Source:
        Cohen and Welling, *Group Equivariant Convolutional Networks* (2016):
        the channels of a group convolution.
    """

    def call(self, inputs):
        shape = ops.shape(inputs)
        order, channels = self.group.order, inputs.shape[-1]
        apart = ops.reshape(inputs, (order, -1, *shape[1:]))
        apart = ops.transpose(apart, (1, 2, 3, 0))
        return ops.reshape(apart, (-1, shape[1], channels * order))

    def compute_output_shape(self, input_shape):
        batch, points, channels = input_shape
        return (self._pooled(batch), points, channels * self.group.order)
