"""Dot-product attention over each point's neighbors, gated by distance."""

import keras
from keras import ops

from vl3d_lite.model.layers.arguments import check_arguments
from vl3d_lite.model.layers.attention.base import NeighborAttention, neighbor_weights
from vl3d_lite.model.layers.attention.envelope_softmax import (
    envelope_gated_softmax,
    neighbor_envelope,
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
    neighbor_offsets,
)
from vl3d_lite.model.layers.precision import matmul


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EnvelopeGatedAttention(NeighborAttention):
    """Attend to the neighbors by dot products that fade out at a radius.

    For a point ``i``, its present neighbors ``j``, a head ``h`` and a channel
    ``e`` of the head, ``d`` channels per head::

        q = F W_q,  k = F W_k,  v = F W_v
        t_ij = ReLU((x_j - x_i) / radius A + a)
        l_ijh = sum_e q_ihe k_jhe / sqrt(d) + (t_ij P)_h
        alpha_ijh = w_ij exp(l_ijh) / (softplus(z_h) + 1e-7 + sum_j w_ij exp(l_ijh))
        c_ihe = sum_j alpha_ijh (v_j + t_ij V)_he
        y_i = c_i W_o

    ``w_ij = E(|x_j - x_i|)^2 s_j``, with `cutoff_envelope` ``E`` and the source
    weight ``s_j`` (1 without source weights). Without the positional bias ``t``
    is 0. The output is continuous in the coordinates, even where a neighbor
    enters or leaves the radius and its list. A point without a present neighbor
    of positive weight gets zeros. The layer has no residual and no
    normalization; the block adds them.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``H`` heads.

    Args:
        radius: Distance at which a neighbor has faded out, in meters. Positive.
        channels: Output channels, or None for as many as the input has.
        heads: ``H``; divides the channels.
        positional_bias: Whether to add ``t``.
        dropout: Share of attention weights dropped in training, in [0, 1).
        kernel_initializer: Initializer of every matrix.
        kernel_regularizer: Regularizer of every matrix.
        seed: Seed of the dropout.

    Call arguments:
        inputs: A list of three: coordinates ``(B, R, 3)`` float in meters;
            features ``(B, R, C_in)`` float; neighbors ``(B, R, K)`` int, -1
            where missing. Optionally a fourth: source weights ``(B, R)`` or
            ``(B, R, 1)`` float, not negative, best at most 1; 0 removes a point
            from all attention, its own included.
        training: Whether to drop attention weights.

    Returns:
        ``(B, R, channels)`` float.

    Raises:
        DeepLearningException: An argument is out of range, the heads do not
            divide the channels, or the inputs differ from those above.

    Source:
        The weights are those of DeePMD-kit's DPA-4 (`envelope_gated_softmax`),
        there over messages of a graph of atoms. Dot products: Vaswani et al.,
        *Attention Is All You Need* (2017), eq. 1.
    """

    groups_argument = "heads"

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
        super().__init__(
            channels,
            heads,
            dropout,
            kernel_initializer,
            kernel_regularizer,
            seed,
            **kwargs,
        )
        checks = {
            "radius": (radius > 0, "positive (meters)"),
            "channels": (channels is None or channels >= 1, "at least 1, or None"),
            "heads": (heads >= 1, "at least 1"),
            "dropout": (0 <= dropout < 1, "in [0, 1)"),
        }
        check_arguments(self.name, locals(), checks)
        self.radius = radius
        self.heads = heads
        self.positional_bias = positional_bias
        self.attention_dropout = self._make_dropout(self.dtype_policy)

    def build(self, input_shape):
        axes, width, channels = self._check_shapes(input_shape, weights_allowed=True)
        self._add_projections(width, channels)
        self.output_kernel = self._matrix("output_kernel", channels, channels)
        self.z_bias_raw = self._vector("z_bias_raw", self.heads)
        if self.positional_bias:
            self.hidden_kernel = self._matrix("hidden_kernel", axes, channels)
            self.hidden_bias = self._vector("hidden_bias", channels)
            self.logits_kernel = self._matrix("logits_kernel", channels, self.heads)
            self.shift_kernel = self._matrix("shift_kernel", channels, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "radius": self.radius,
            "heads": self.heads,
            "positional_bias": self.positional_bias,
        }

    def _attend(self, inputs, training):
        coordinates, features, neighbors, *weights = inputs
        projected, _ = self._project(features, neighbors)
        query, key, value = ops.split(projected, 3, axis=-1)
        depth = self.value_kernel.shape[-1] // self.heads
        query = self._split(query) * depth**-0.5
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
        return self._context(alpha, value, hidden, neighbors), alpha

    def _context(self, alpha, value, hidden, neighbors):
        value = self._split(gather_neighbors(value, neighbors, zero_missing=False))
        context = contract_neighbors(alpha, value)  # (B, R, H, d)
        if hidden is not None:
            kernel = self._cast(self.shift_kernel)
            context = context + shift_by_attention(alpha, hidden, kernel, neighbors)
        return matmul(self._merge(context), self._cast(self.output_kernel))
