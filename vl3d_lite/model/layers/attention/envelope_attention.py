"""Dot-product attention over each point's neighbors, gated by distance."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import check_arguments
from vl3d_lite.model.layers.attention.envelope_softmax import (
    envelope_gated_softmax,
    neighbor_envelope,
    neighbor_weights,
    takes_weights,
)
from vl3d_lite.model.layers.attention.products import (
    encode_offsets,
    narrow_matmul,
    shift_by_attention,
)
from vl3d_lite.model.layers.attention.torf_gva import contract_neighbors
from vl3d_lite.model.layers.neighborhood import (
    at_least_float32,
    gather_neighbors,
    is_present,
    is_real,
    neighbor_offsets,
)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EnvelopeGatedAttention(keras.layers.Layer):
    """Attend to the neighbors by dot products that fade out at a radius.

    For a point ``i``, its present neighbors ``j``, a head ``h`` and a channel
    ``e`` of the head, ``d`` channels a head::

        q = F W_q,  k = F W_k,  v = F W_v
        t_ij = ReLU((x_j - x_i) / radius A + a)
        l_ijh = sum_e q_ihe k_jhe / sqrt(d) + (t_ij P)_h
        alpha_ijh = w_ij exp(l_ijh) / (softplus(z_h) + 1e-7 + sum_j w_ij exp(l_ijh))
        c_ihe = sum_j alpha_ijh (v_j + t_ij V)_he
        y_i = c_i W_o

    ``w_ij = E(|x_j - x_i|)^2 s_j``, with `cutoff_envelope` ``E`` and the source
    weight ``s_j`` (1 without). Without the positional bias ``t`` is 0. The
    output is continuous in the coordinates, also where a neighbor enters or
    leaves the radius and is listed no longer. A point without a present neighbor
    of positive weight gets zeros. There is no residual and no normalization:
    those are the block's.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``H`` heads.

    Args:
        radius: Distance at which a neighbor has faded out, in meters. Positive.
        channels: Output channels, or None for as many as the input has.
        heads: ``H``; divides the channels.
        positional_bias: Whether ``t`` is there.
        dropout: Share of attention weights dropped in training, in [0, 1).
        kernel_initializer: For every matrix.
        kernel_regularizer: For every matrix.
        seed: Of the dropout.

    Call arguments:
        inputs: A list of three: coordinates ``(B, R, 3)`` float in meters;
            features ``(B, R, C_in)`` float; neighbors ``(B, R, K)`` int, -1
            where missing. Perhaps a fourth: source weights ``(B, R)`` or
            ``(B, R, 1)`` float, not negative, best at most 1; 0 takes a point
            out of all attention, its own included.

    Returns:
        ``(B, R, channels)`` float.

    Raises:
        DeepLearningException: An argument is out of range, heads do not divide
            the channels, or the inputs are not those above.

    Source:
        The weights are those of DeePMD-kit's DPA-4 (`envelope_gated_softmax`),
        there over messages of a graph of atoms. Dot products: Vaswani et al.,
        *Attention Is All You Need* (2017), eq. 1.
    """

    def __init__(
        self,
        radius,
        channels=None,
        heads=8,
        positional_bias=True,
        dropout=0.0,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        seed=None,
        **kwargs,
    ):
        # Coordinates stay float32 where the features are half precision.
        super().__init__(**{"autocast": False, **kwargs})
        checks = {
            "radius": (radius > 0, "positive (meters)"),
            "channels": (channels is None or channels >= 1, "at least 1, or None"),
            "heads": (heads >= 1, "at least 1"),
            "dropout": (0 <= dropout < 1, "in [0, 1)"),
        }
        check_arguments(self.name, locals(), checks)
        self.radius = radius
        self.channels = channels
        self.heads = heads
        self.positional_bias = positional_bias
        self.dropout = dropout
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.seed = seed
        self.attention_dropout = (
            keras.layers.Dropout(
                dropout, seed=seed, dtype=self.dtype_policy, name="dropout"
            )
            if dropout
            else None
        )

    def build(self, input_shape):
        shapes = [shape for shape in input_shape if hasattr(shape, "__len__")]
        ranks = [len(shape) for shape in shapes]
        if ranks[:3] != [3, 3, 3] or not takes_weights(shapes[3:]):
            raise DeepLearningException(
                f"{self.name}: expected a list of coordinates (B, R, 3), features "
                "(B, R, C) and neighbors (B, R, K) and perhaps source weights "
                f"(B, R). Received: shapes {list(input_shape)}"
            )
        dimensions, width = shapes[0][-1], shapes[1][-1]
        channels = self.channels or width
        if channels % self.heads:
            raise DeepLearningException(
                f"{self.name}: `heads` must divide the channels. Received: "
                f"heads={self.heads}, channels={channels}"
            )
        self.query_kernel = self._matrix("query_kernel", width, channels)
        self.key_kernel = self._matrix("key_kernel", width, channels)
        self.value_kernel = self._matrix("value_kernel", width, channels)
        self.output_kernel = self._matrix("output_kernel", channels, channels)
        self.z_bias_raw = self._vector("z_bias_raw", self.heads)
        if self.positional_bias:
            self.hidden_kernel = self._matrix("hidden_kernel", dimensions, channels)
            self.hidden_bias = self._vector("hidden_bias", channels)
            self.logits_kernel = self._matrix("logits_kernel", channels, self.heads)
            self.shift_kernel = self._matrix("shift_kernel", channels, channels)

    def _matrix(self, name, rows, columns):
        return self.add_weight(
            name=name,
            shape=(rows, columns),
            # A clone draws its own numbers; one instance repeats them.
            initializer=self.kernel_initializer.clone(),
            regularizer=self.kernel_regularizer,
        )

    def _vector(self, name, size):
        return self.add_weight(name=name, shape=(size,), initializer="zeros")

    def call(self, inputs, training=False):
        return self._attend(inputs, training)[0]

    def attention_weights(self, inputs):
        """Give alpha at inference, ``(B, R, K, H)``; zero where missing."""
        return self._attend(inputs, training=False)[1]

    def _attend(self, inputs, training):
        coordinates, features, neighbors, *weights = inputs
        query, key, value = self._project(features, neighbors)
        coordinates = ops.cast(coordinates, at_least_float32(self.compute_dtype))
        offsets = neighbor_offsets(coordinates, neighbors)  # (B, R, K, 3)
        logits = self._split(gather_neighbors(key, neighbors, zero_missing=False))
        logits = ops.sum(logits * ops.expand_dims(query, 2), axis=-1)  # (B, R, K, H)
        hidden = None
        if self.positional_bias:
            hidden = encode_offsets(
                self._cast(offsets / self.radius),
                self._cast(self.hidden_kernel),
                self._cast(self.hidden_bias),
            )
            kernel = self._cast(self.logits_kernel)
            logits = logits + narrow_matmul(hidden, kernel, neighbors)
        alpha = envelope_gated_softmax(
            logits,
            neighbor_envelope(offsets, self.radius),
            self.z_bias_raw,
            source_weights=neighbor_weights(weights[0], neighbors) if weights else None,
            present=is_present(neighbors, features),
        )
        if self.attention_dropout is not None:
            alpha = self.attention_dropout(alpha, training=training)
        return self._gather_context(alpha, value, hidden, neighbors), alpha

    def _project(self, features, neighbors):
        real = is_real(neighbors, ops.shape(features)[1])  # (B, R)
        features = ops.cast(features, self.compute_dtype)
        features = ops.where(real[..., None], features, 0.0)
        kernels = (self.query_kernel, self.key_kernel, self.value_kernel)
        kernel = self._cast(ops.concatenate(kernels, axis=-1))
        query, key, value = ops.split(ops.matmul(features, kernel), 3, axis=-1)
        depth = self.value_kernel.shape[-1] // self.heads
        return self._split(query) * depth**-0.5, key, value

    def _gather_context(self, alpha, value, hidden, neighbors):
        value = self._split(gather_neighbors(value, neighbors, zero_missing=False))
        context = contract_neighbors(alpha, value)  # (B, R, H, d)
        channels = self.value_kernel.shape[-1]
        if hidden is not None:
            kernel = self._cast(self.shift_kernel)
            context = context + shift_by_attention(alpha, hidden, kernel, neighbors)
        context = ops.reshape(context, (*ops.shape(context)[:2], channels))
        return ops.matmul(context, self._cast(self.output_kernel))

    def _cast(self, values):
        return ops.cast(values, self.compute_dtype)

    def _split(self, values):
        shape = (*ops.shape(values)[:-1], self.heads, -1)
        return ops.reshape(values, shape)

    def compute_output_shape(self, input_shape):
        features = input_shape[1]
        return (*features[:-1], self.channels or features[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "radius": self.radius,
            "channels": self.channels,
            "heads": self.heads,
            "positional_bias": self.positional_bias,
            "dropout": self.dropout,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "seed": self.seed,
        }
