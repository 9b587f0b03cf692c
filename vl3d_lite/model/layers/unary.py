"""A linear map of each point, normalized over the real points, and activated."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.neighborhood import is_real

NORMALIZATIONS = ("batch", "layer", "none")


@keras.saving.register_keras_serializable(package="vl3d_lite")
class UnaryBlock(keras.layers.Layer):
    """Apply a linear map, a normalization and a LeakyReLU to each real point.

    For a real point ``i``::

        y_i = LeakyReLU(Z(f_i W))

    A padded point (no present entry in its row of the neighbors) gets zeros,
    whatever its features are, and is not part of the statistics of ``Z``.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``C`` channels.

    Args:
        units: Output channels. Positive; at least 2 with "batch".
        negative_slope: Slope of the LeakyReLU below zero, in [0, 1]; 1 is linear.
        normalization: "batch", "layer", or "none" (a bias replaces it).
        momentum: Momentum of the moving statistics of "batch", in [0, 1].
        kernel_initializer: Initializer of ``W``.
        kernel_regularizer: Regularizer of ``W``.

    Call arguments:
        inputs: A list of two: features ``(B, R, C)`` float; neighbors
            ``(B, R, K)`` int, rows of the features, -1 where missing.
        training: Whether to normalize by the batch.

    Returns:
        ``(B, R, units)`` float.

    Raises:
        DeepLearningException: An argument is out of range, or there are not
            two inputs of rank 3.

    Source:
        Thomas et al., *KPConv* (2019), the unary convolution of its code.
        Statistics over the real points alone are ours.
    """

    def __init__(
        self,
        units,
        negative_slope=0.1,
        normalization="batch",
        momentum=0.9,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        # Keras' masked statistics lose the axis of a single channel.
        fewest = 2 if normalization == "batch" else 1
        if units < fewest:
            raise DeepLearningException(
                f"{self.name}: `units` must be at least {fewest} for "
                f"normalization={normalization!r}. Received: units={units}"
            )
        if not 0 <= negative_slope <= 1:
            raise DeepLearningException(
                f"{self.name}: `negative_slope` must be in [0, 1]. "
                f"Received: negative_slope={negative_slope}"
            )
        if normalization not in NORMALIZATIONS:
            raise DeepLearningException(
                f"{self.name}: `normalization` must be one of {NORMALIZATIONS}. "
                f"Received: normalization={normalization!r}"
            )
        if not 0 <= momentum <= 1:
            raise DeepLearningException(
                f"{self.name}: `momentum` must be in [0, 1]. "
                f"Received: momentum={momentum}"
            )
        self.units = units
        self.negative_slope = negative_slope
        self.normalization = normalization
        self.momentum = momentum
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.dense = keras.layers.Dense(
            units,
            use_bias=normalization == "none",
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="dense",
        )
        self.norm = _normalization_layer(normalization, momentum, self.dtype_policy)

    def build(self, input_shape):
        if [len(shape) for shape in input_shape if hasattr(shape, "__len__")] != [3, 3]:
            raise DeepLearningException(
                f"{self.name}: expected a list of features (B, R, C) and neighbors "
                f"(B, R, K). Received: shapes {list(input_shape)}"
            )
        features = tuple(input_shape[0])
        self.dense.build(features)
        if self.norm is not None:
            self.norm.build((*features[:-1], self.units))

    def call(self, inputs, training=False):
        features, neighbors = inputs
        real = is_real(neighbors, ops.shape(features)[1])  # (B, R)
        # Zeros first, so that NaN of padding reaches neither product nor gradient.
        features = ops.where(real[..., None], features, 0.0)
        outputs = self.dense(features)
        if self.normalization == "batch":
            outputs = self.norm(outputs, training=training, mask=real)
        elif self.normalization == "layer":
            outputs = self.norm(outputs)
        outputs = ops.leaky_relu(outputs, self.negative_slope)
        # A normalization or a bias shifts the zeros of padding.
        return ops.where(real[..., None], outputs, 0.0)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "negative_slope": self.negative_slope,
            "normalization": self.normalization,
            "momentum": self.momentum,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _normalization_layer(normalization, momentum, dtype):
    if normalization == "batch":
        return keras.layers.BatchNormalization(
            momentum=momentum, epsilon=1e-5, dtype=dtype, name="norm"
        )
    if normalization == "layer":
        return keras.layers.LayerNormalization(epsilon=1e-5, dtype=dtype, name="norm")
    return None
