"""Global context: every point of a coarse stage attends to all points of its field."""

import math

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.neighborhood import at_least_float32, is_real
from vl3d_lite.model.layers.precision import matmul


@keras.saving.register_keras_serializable(package="vl3d_lite")
class FieldAttentionLayer(keras.layers.Layer):
    """Attend from every real point of a field to all others, aware of positions.

    For the real points of a field, of features ``f`` and coordinates ``x``::

        e_i = sin(x_i / scale A + a) E
        y   = attention(query = f + e, key = f + e, value = f)

    ``A`` is initially normal and ``a`` uniform over the circle, so that the
    product of two encodings depends on the difference of two coordinates and
    decays within about `scale`; both are learned. Coordinates are relative to
    the center of the field, which moves with the cloud: a shifted cloud gives
    the same result.

    A padded point (no present entry in its row of the neighbors) is no key and
    gets zeros. The layer has no residual and no normalization; the block adds
    them.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``C`` channels, ``U``
    query heads.

    Args:
        attention: A `GroupedQueryAttentionLayer`, or a layer with the same call
            arguments.
        position: Whether to add ``e``; without it positions have no effect.
        scale: Length over which the initial encoding changes, in meters.
            Positive.

    Call arguments:
        inputs: A list of three: coordinates ``(B, R, 3)`` float in meters;
            features ``(B, R, C)`` float; neighbors ``(B, R, K)`` int, -1
            where missing, which only mark the padding.
        training: Whether the attention drops weights.

    Returns:
        ``(B, R, C)`` float.

    Raises:
        DeepLearningException: `scale` is not positive, or the inputs are not
            three of rank 3.

    Source:
        Ainslie et al., *GQA* (2023), among the points of a field. The initial
        encoding is that of Rahimi and Recht, *Random features* (2007).
    """

    def __init__(self, attention, position=True, scale=1.0, **kwargs):
        # Coordinates stay float32 where the features are half precision.
        super().__init__(**{"autocast": False, **kwargs})
        if not scale > 0:
            raise DeepLearningException(
                f"{self.name}: `scale` must be positive (meters). "
                f"Received: scale={scale!r}"
            )
        self.attention = attention
        self.position = position
        self.scale = scale

    def build(self, input_shape):
        shapes = [shape for shape in input_shape if hasattr(shape, "__len__")]
        if [len(shape) for shape in shapes] != [3, 3, 3]:
            raise DeepLearningException(
                f"{self.name}: expected a list of coordinates (B, R, 3), features "
                "(B, R, C) and neighbors (B, R, K). "
                f"Received: shapes {list(input_shape)}"
            )
        points, features = shapes[:2]
        if self.position:
            width = features[-1]
            self.frequencies = self.add_weight(
                name="frequencies",
                shape=(points[-1], width),
                initializer=keras.initializers.RandomNormal(stddev=1.0),
                autocast=False,
            )
            self.phases = self.add_weight(
                name="phases",
                shape=(width,),
                initializer=keras.initializers.RandomUniform(-math.pi, math.pi),
                autocast=False,
            )
            self.encoding_kernel = self.add_weight(
                name="encoding_kernel",
                shape=(width, width),
                initializer="glorot_uniform",
            )
        self.attention.build(tuple(features), tuple(features))

    def call(self, inputs, training=False):
        return self._attend(inputs, training)

    def attention_scores(self, inputs):
        """Return the scores at inference, ``(B, U, R, R)``; zero where padded."""
        return self._attend(inputs, False, return_attention_scores=True)[1]

    def _attend(self, inputs, training, **options):
        coordinates, features, neighbors = inputs
        real = is_real(neighbors, ops.shape(features)[1])  # (B, R)
        features = ops.cast(features, self.compute_dtype)
        features = ops.where(real[..., None], features, 0.0)
        query = features
        if self.position:
            query = query + self._encode(coordinates, real)
        result = self.attention(
            query,
            features,
            key=query,
            query_mask=real,
            value_mask=real,
            training=training,
            **options,
        )
        output, *scores = result if options else (result,)
        output = ops.where(real[..., None], output, 0.0)
        output = ops.cast(output, self.compute_dtype)
        return (output, *scores) if options else output

    def _encode(self, coordinates, real):
        # Angles of tens of radians lose their fraction in half precision.
        precise = at_least_float32(self.compute_dtype)
        coordinates = ops.where(real[..., None], ops.cast(coordinates, precise), 0.0)
        angles = matmul(coordinates / self.scale, ops.cast(self.frequencies, precise))
        waves = ops.sin(angles + ops.cast(self.phases, precise))
        waves = ops.cast(waves, self.compute_dtype)
        return matmul(waves, ops.cast(self.encoding_kernel, self.compute_dtype))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[1])

    def get_config(self):
        attention = keras.saving.serialize_keras_object(self.attention)
        # It is built with this layer.
        attention.pop("build_config", None)
        return {
            **super().get_config(),
            "attention": attention,
            "position": self.position,
            "scale": self.scale,
        }

    @classmethod
    def from_config(cls, config):
        attention = keras.saving.deserialize_keras_object(config["attention"])
        return cls(**{**config, "attention": attention})
