"""The common base of the attentions over a point's neighbors."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.neighborhood import gather_neighbors, is_real
from vl3d_lite.model.layers.precision import matmul


class NeighborAttention(keras.layers.Layer):
    """Base of the attentions from each point to its neighbors.

    A subclass implements ``_attend``, which returns the output and the attention
    weights, and names its groups of channels in `groups_argument`.

    Args:
        channels: Output channels, or None for as many as the input has.
        groups: Groups of channels that share an attention weight: the heads of
            a dot product. Divides the channels.
        dropout: Share of attention weights dropped in training, in [0, 1).
        dropout_dtype: Policy of the dropout.
        kernel_initializer: Initializer of every matrix.
        kernel_regularizer: Regularizer of every matrix.
        seed: Seed of the dropout.
    """

    groups_argument = "groups"

    def __init__(
        self,
        channels,
        groups,
        dropout,
        kernel_initializer,
        kernel_regularizer,
        seed,
        **kwargs,
    ):
        # Coordinates stay float32 where the features are half precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.channels = channels
        self.groups = groups
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.seed = seed
        self.attention_dropout = None

    def call(self, inputs, training=False):
        return self._attend(inputs, training)[0]

    def attention_weights(self, inputs):
        """Return alpha at inference, ``(B, R, K, G)``; zero where missing."""
        return self._attend(inputs, training=False)[1]

    def compute_output_shape(self, input_shape):
        features = input_shape[1]
        return (*features[:-1], self.channels or features[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "seed": self.seed,
        }

    def _make_dropout(self, dtype):
        if not self.dropout:
            return None
        return keras.layers.Dropout(
            self.dropout, seed=self.seed, dtype=dtype, name="dropout"
        )

    def _check_shapes(self, input_shape, weights_allowed):
        """Return coordinates' and features' last axes, and the output channels.

        Raises:
            DeepLearningException: The inputs are not coordinates, features,
                neighbors and perhaps source weights, or the groups do not divide
                the channels.
        """
        shapes = [shape for shape in input_shape if hasattr(shape, "__len__")]
        ranks = [len(shape) for shape in shapes]
        if ranks[:3] != [3, 3, 3] or not _fit(shapes[3:], weights_allowed):
            raise DeepLearningException(
                f"{self.name}: expected a list of coordinates (B, R, 3), features "
                "(B, R, C) and neighbors (B, R, K)"
                f"{' and perhaps source weights (B, R)' if weights_allowed else ''}. "
                f"Received: shapes {list(input_shape)}"
            )
        axes, width = shapes[0][-1], shapes[1][-1]
        channels = self.channels or width
        if channels % self.groups:
            raise DeepLearningException(
                f"{self.name}: `{self.groups_argument}` must divide the channels. "
                f"Received: {self.groups_argument}={self.groups}, channels={channels}"
            )
        return axes, width, channels

    def _add_projections(self, width, channels):
        self.query_kernel = self._matrix("query_kernel", width, channels)
        self.key_kernel = self._matrix("key_kernel", width, channels)
        self.value_kernel = self._matrix("value_kernel", width, channels)

    def _matrix(self, name, rows, columns):
        return self.add_weight(
            name=name,
            shape=(rows, columns),
            # A clone draws its own numbers; one instance repeats them.
            initializer=self.kernel_initializer.clone(),
            regularizer=self.kernel_regularizer,
        )

    def _vector(self, name, size, initializer="zeros"):
        return self.add_weight(name=name, shape=(size,), initializer=initializer)

    def _project(self, features, neighbors):
        """Project the features of real points to query, key and value.

        Returns:
            ``(B, R, 3 C)``, and ``(B, R)`` bool, True for real points.
        """
        real = is_real(neighbors, ops.shape(features)[1])
        features = ops.cast(features, self.compute_dtype)
        features = ops.where(real[..., None], features, 0.0)
        kernels = (self.query_kernel, self.key_kernel, self.value_kernel)
        # One product of three times the columns is faster than three products.
        kernel = self._cast(ops.concatenate(kernels, axis=-1))
        return matmul(features, kernel), real

    def _cast(self, values):
        return ops.cast(values, self.compute_dtype)

    def _split(self, values):
        """Split the channels into groups: ``(..., C)`` to ``(..., G, C / G)``."""
        return ops.reshape(values, (*ops.shape(values)[:-1], self.groups, -1))

    def _merge(self, context):
        """Join the groups: ``(B, R, G, C / G)`` to ``(B, R, C)``."""
        shape = (*ops.shape(context)[:2], self.value_kernel.shape[-1])
        return ops.reshape(context, shape)


def neighbor_weights(source_weights, neighbors):
    """Gather each neighbor's source weight.

    Args:
        source_weights: ``(B, R)`` or ``(B, R, 1)`` float.
        neighbors: ``(B, R, K)`` int, rows of the weights; -1 where missing.

    Returns:
        ``(B, R, K)``, type of the weights; 0 where missing.
    """
    if len(source_weights.shape) == 2:
        source_weights = ops.expand_dims(source_weights, -1)
    return gather_neighbors(source_weights, neighbors)[..., 0]


def _fit(shapes, weights_allowed):
    """Check the shapes of the inputs after the neighbors: none, or weights."""
    if not shapes:
        return True
    first, *more = shapes
    fits = len(first) == 2 or (len(first) == 3 and first[-1] == 1)
    return weights_allowed and fits and not more
