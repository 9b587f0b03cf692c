"""Change of stage: a maximum or mean over neighbors, and interpolation."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.neighborhood import gather_neighbors, is_present
from vl3d_lite.model.layers.precision import maximum


@keras.saving.register_keras_serializable(package="vl3d_lite")
class NeighborMaxPool(keras.layers.Layer):
    """Take the channel-wise maximum over each coarse point's fine neighbors.

    For a coarse point ``m``::

        y_mc = max_k f_(down_mk)c        (over the present neighbors)

    A point without a present neighbor gets zeros.

    Shapes: ``B`` fields, ``R`` fine and ``M`` coarse points, ``K`` neighbors,
    ``C`` channels.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: A list of two: features ``(B, R, C)`` float; ``down``
            ``(B, M, K)`` int, rows of the features, -1 where missing.

    Returns:
        ``(B, M, C)`` float.

    Raises:
        DeepLearningException: There are not two inputs of rank 3.

    Source:
        Thomas et al., *KPConv* (2019), the max pooling of its code. Zeros where
        no neighbor is present are ours.
    """

    def build(self, input_shape):
        _check_ranks(self.name, input_shape, ("features (B, R, C)", "down (B, M, K)"))

    def call(self, inputs):
        features, down = inputs
        present = is_present(down, features)[..., None]  # (B, M, K, 1)
        gathered = gather_neighbors(features, down)  # (B, M, K, C)
        # Missing slots are 0, which would win over negative features.
        lowest = ops.where(present, gathered, float("-inf"))
        highest = ops.max(lowest, axis=2)
        return ops.where(ops.any(present, axis=2), highest, 0.0)

    def compute_output_shape(self, input_shape):
        features, down = input_shape
        return (*down[:2], features[-1])


@keras.saving.register_keras_serializable(package="vl3d_lite")
class NeighborMeanPool(keras.layers.Layer):
    """Take the channel-wise mean over each coarse point's fine neighbors.

    For a coarse point ``m``::

        y_mc = mean_k f_(down_mk)c       (over the present neighbors)

    A point without a present neighbor gets zeros. The layer computes in
    the type of the features, even under mixed precision: they are weights, not
    activations.

    Shapes: ``B`` fields, ``R`` fine and ``M`` coarse points, ``K`` neighbors,
    ``C`` channels.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: A list of two: features ``(B, R, C)`` float; ``down``
            ``(B, M, K)`` int, rows of the features, -1 where missing.

    Returns:
        ``(B, M, C)``, type of the features.

    Raises:
        DeepLearningException: There are not two inputs of rank 3.

    Source:
        Ours, for source weights of coarser stages: `NeighborMaxPool` with a mean.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})

    def build(self, input_shape):
        _check_ranks(self.name, input_shape, ("features (B, R, C)", "down (B, M, K)"))

    def call(self, inputs):
        features, down = inputs
        total = ops.sum(gather_neighbors(features, down), axis=2)
        count = ops.sum(ops.cast(is_present(down, features), total.dtype), axis=2)
        # A point without a neighbor has total 0, and stays 0.
        return total / ops.maximum(count, 1)[..., None]

    def compute_output_shape(self, input_shape):
        features, down = input_shape
        return (*down[:2], features[-1])

    def compute_output_spec(self, inputs):
        shape = self.compute_output_shape([value.shape for value in inputs])
        return keras.KerasTensor(shape, dtype=inputs[0].dtype)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class NeighborUpsample(keras.layers.Layer):
    """Interpolate coarse features at fine points: the nearest, or a weighted mean.

    With one neighbor, a fine point gets its features. With several::

        y_r = sum_u w_ru f_(up_ru) / sum_u w_ru
        w_ru = 1 / max(|x_r - x_(up_ru)|, 1e-6)        (0 where missing)

    A point without a present neighbor gets zeros.

    Shapes: ``B`` fields, ``M`` coarse and ``R`` fine points, ``U`` neighbors,
    ``C`` channels.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: A list of two: coarse features ``(B, M, C)`` float; ``up``
            ``(B, R, U)`` int, rows of the features, -1 where missing. With
            ``U > 1`` two more: fine coordinates ``(B, R, 3)`` and coarse
            coordinates ``(B, M, 3)``, in meters.

    Returns:
        ``(B, R, C)`` float.

    Raises:
        DeepLearningException: An input is missing or not of rank 3.

    Source:
        Qi et al., *PointNet++* (2017), eq. 2. We weight by the distance to the
        first power; the paper squares it.
    """

    def __init__(self, **kwargs):
        # Coordinates stay float32 where the features are half precision.
        super().__init__(**{"autocast": False, **kwargs})

    def build(self, input_shape):
        names = ["features (B, M, C)", "up (B, R, U)"]
        if len(input_shape) != 2:
            names += ["fine coordinates (B, R, 3)", "coarse coordinates (B, M, 3)"]
        _check_ranks(self.name, input_shape, names)
        if len(input_shape) == 2 and input_shape[1][-1] != 1:
            raise DeepLearningException(
                f"{self.name}: more than one neighbor needs coordinates; pass "
                "[features, up, fine coordinates, coarse coordinates] or an `up` "
                f"of shape (B, R, 1). Received: shapes {list(input_shape)}"
            )

    def call(self, inputs):
        features, up, *coordinates = inputs
        features = ops.cast(features, self.compute_dtype)
        gathered = gather_neighbors(features, up)  # (B, R, U, C)
        if not coordinates or up.shape[-1] == 1:
            return ops.squeeze(gathered, axis=2)
        weights = self._inverse_distances(up, *coordinates)  # (B, R, U)
        weights = ops.cast(weights, self.compute_dtype)
        return ops.sum(ops.expand_dims(weights, -1) * gathered, axis=2)

    def _inverse_distances(self, up, fine, coarse):
        present = is_present(up, coarse)
        offsets = gather_neighbors(coarse, up) - ops.expand_dims(fine, 2)
        # 1 m where missing: a distance of 0 has no finite gradient.
        offsets = ops.where(present[..., None], offsets, 1.0)
        squared = ops.sum(ops.square(offsets), axis=-1)
        weights = ops.where(present, ops.rsqrt(maximum(squared, 1e-12)), 0.0)
        total = ops.sum(weights, axis=-1, keepdims=True)
        return weights / ops.where(total > 0, total, 1.0)

    def compute_output_shape(self, input_shape):
        features, up, *_ = input_shape
        return (*up[:2], features[-1])


def _check_ranks(name, input_shape, expected):
    ranks = [len(shape) for shape in input_shape if hasattr(shape, "__len__")]
    if ranks != [3] * len(expected):
        raise DeepLearningException(
            f"{name}: expected a list of {', '.join(expected)}. "
            f"Received: shapes {list(input_shape)}"
        )
