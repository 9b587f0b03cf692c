"""Grouped vector attention over each point's neighbors."""

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
from vl3d_lite.model.layers.attention.torf_gva import TORFGVALayer
from vl3d_lite.model.layers.neighborhood import (
    at_least_float32,
    gather_neighbors,
    is_present,
    neighbor_offsets,
    require_integers,
)
from vl3d_lite.model.layers.precision import matmul

WEIGHTS = ("groups", "channels")
SOFTMAX = ("plain", "envelope")


@keras.saving.register_keras_serializable(package="vl3d_lite")
class GroupedVectorAttentionLayer(NeighborAttention):
    """Attend to the neighbors with one weight per group of channels.

    For a point ``i``, its present neighbors ``j``, a group ``g`` and a channel
    ``e`` of the group::

        q, k = ReLU(Z(F W_q)), ReLU(Z(F W_k))        v = F W_v + b_v
        p_ij = (x_j - x_i) / scale
        r_ij = (k_j - q_i) * mul(p_ij) + bias(p_ij)
        u_ij = ReLU(r_ij W_1 + b_1)
        alpha_ij = softmax over present j of u_ij W_2
        y_ige = sum_j alpha_ijg * w_ijge * (v_j + bias(p_ij))_ge

    ``mul`` and ``bias`` are MLPs, ``ReLU(p A + a) B + b``; without them the
    factor is 1 and the summand 0. ``w = 1`` for ``weights="groups"``,
    ``w_ij = u_ij W_3 + b_3`` for "channels". ``Z`` is a BatchNormalization
    over the real points. A point without a present neighbor gets zeros. The
    layer has no residual and does not normalize its input or output; the block
    does.

    ``softmax="envelope"`` replaces the softmax by `envelope_gated_softmax`, with
    `cutoff_envelope` of the distance and the neighbors' source weights if they
    are given. The output is then continuous where a neighbor enters or leaves
    the radius; with the plain softmax it jumps.

    With ``w = 1`` and no multiplier the same function is computed in a factored
    form: ``k`` and ``q`` are projected to ``G`` channels before the gather, and
    the last linear map of ``bias`` is applied once per point, after the sum over
    the neighbors. No product of size ``(K, C x C)`` per point remains.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``G`` groups.

    Args:
        channels: Output channels, or None for as many as the input has.
        groups: ``G``; divides the channels.
        weights: "groups" (one weight per group, PTv2) or "channels" (VL3D's
            weight encoding, one factor per channel, initially 1).
        positional_bias: Whether to add ``bias``.
        positional_multiplier: Whether to multiply by ``mul``.
        dropout: Share of attention weights dropped in training, in [0, 1).
        scale: Length that coordinate differences are divided by, in meters;
            the stage's point spacing makes them of order one. Positive.
        momentum: Momentum of the moving statistics, in [0, 1].
        softmax: "plain" or "envelope".
        radius: Distance at which a neighbor has faded out, in meters: positive
            with "envelope", None with "plain".
        kernel_initializer: Initializer of every matrix.
        kernel_regularizer: Regularizer of every matrix.
        seed: Seed of the dropout.

    Call arguments:
        inputs: A list of three: coordinates ``(B, R, 3)`` float in meters;
            features ``(B, R, C_in)`` float; neighbors ``(B, R, K)`` int, -1
            where missing. With "envelope" optionally a fourth: source weights
            ``(B, R)`` or ``(B, R, 1)`` float, not negative, best at most 1; 0
            removes a point from all attention, its own included.
        training: Whether to normalize by the batch and drop attention weights.

    Returns:
        ``(B, R, channels)`` float.

    Raises:
        DeepLearningException: An argument is out of range, the groups do not
            divide the channels, or the inputs differ from those above.

    Source:
        Wu et al., *Point Transformer V2* (2022), eq. 3-6. We differ in two
        points: the softmax runs over the present neighbors alone (there it is
        masked afterwards and does not sum to 1), and the MLPs over neighbors
        have no BatchNormalization; `scale` takes its place.
    """

    def __init__(
        self,
        channels=None,
        groups=8,
        weights="groups",
        positional_bias=True,
        positional_multiplier=False,
        dropout=0.0,
        scale=1.0,
        momentum=0.9,
        softmax="plain",
        radius=None,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            channels,
            groups,
            dropout,
            kernel_initializer,
            kernel_regularizer,
            seed,
            **kwargs,
        )
        checks = {
            "channels": (channels is None or channels >= 1, "at least 1, or None"),
            "groups": (groups >= 1, "at least 1"),
            "weights": (weights in WEIGHTS, f"one of {WEIGHTS}"),
            "dropout": (0 <= dropout < 1, "in [0, 1)"),
            "scale": (scale > 0, "positive (meters)"),
            "momentum": (0 <= momentum <= 1, "in [0, 1]"),
            "softmax": (softmax in SOFTMAX, f"one of {SOFTMAX}"),
            "radius": (
                (radius or 0) > 0 if softmax == "envelope" else radius is None,
                "positive (meters) with softmax='envelope', None with 'plain'",
            ),
        }
        check_arguments(self.name, locals(), checks)
        self.weights_per = weights
        self.positional_bias = positional_bias
        self.positional_multiplier = positional_multiplier
        self.scale = scale
        self.momentum = momentum
        self.softmax = softmax
        self.radius = radius
        self.norm = keras.layers.BatchNormalization(
            # PyTorch's epsilon, which the papers use; Keras has 1e-3.
            momentum=momentum,
            epsilon=1e-5,
            dtype=self.dtype_policy,
            name="norm",
        )
        self.contraction = TORFGVALayer(
            weighted=weights == "channels", dtype=self.dtype_policy, name="contraction"
        )
        # The softmax runs at least in float32, and so does its dropout.
        self.attention_dropout = self._make_dropout(self._at_least_float32())

    @property
    def factored(self):
        """Whether the factored form applies."""
        return self.weights_per == "groups" and not self.positional_multiplier

    def build(self, input_shape):
        weighted = self.softmax == "envelope"
        axes, width, channels = self._check_shapes(input_shape, weighted)
        self._add_projections(width, channels)
        self.value_bias = self._vector("value_bias", channels)
        self.norm.build((None, None, 2 * channels))
        if self.positional_bias:
            self.bias_mlp = self._mlp("bias", axes, channels)
        if self.positional_multiplier:
            self.multiplier_mlp = self._mlp("multiplier", axes, channels)
        self.encoding_kernel = self._matrix("encoding_kernel", channels, self.groups)
        self.encoding_bias = self._vector("encoding_bias", self.groups)
        if weighted:
            self.z_bias_raw = self._vector("z_bias_raw", self.groups)
        # The softmax over neighbors cancels a bias here; z_bias_raw is one.
        self.logits_kernel = self._matrix("logits_kernel", self.groups, self.groups)
        if self.weights_per == "channels":
            self.weight_kernel = self._matrix("weight_kernel", self.groups, channels)
            self.weight_bias = self._vector("weight_bias", channels, "ones")

    def _mlp(self, name, rows, columns):
        return (
            self._matrix(f"{name}_hidden_kernel", rows, columns),
            self._vector(f"{name}_hidden_bias", columns),
            self._matrix(f"{name}_kernel", columns, columns),
            self._vector(f"{name}_bias", columns),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "groups": self.groups,
            "weights": self.weights_per,
            "positional_bias": self.positional_bias,
            "positional_multiplier": self.positional_multiplier,
            "scale": self.scale,
            "momentum": self.momentum,
            "softmax": self.softmax,
            "radius": self.radius,
        }

    def _attend(self, inputs, training):
        coordinates, features, neighbors, *weights = inputs
        require_integers(self.name, neighbors)
        query, key, value = self._normalized_projection(features, neighbors, training)
        offsets, gate = self._geometry(coordinates, neighbors, weights)
        gate["present"] = is_present(neighbors, features)  # (B, R, K)
        form = self._factored if self.factored else self._plain
        return form(query, key, value, offsets, neighbors, gate, training)

    def _normalized_projection(self, features, neighbors, training):
        projected, real = self._project(features, neighbors)  # (B, R, 3C)
        channels = self.value_kernel.shape[-1]
        both = projected[..., : 2 * channels]
        # One normalization of joined queries and keys is one pass less.
        both = ops.relu(self.norm(both, training=training, mask=real))
        value = projected[..., 2 * channels :] + self._cast(self.value_bias)
        return both[..., :channels], both[..., channels:], value

    def _geometry(self, coordinates, neighbors, weights):
        """Return scaled offsets ``(B, R, K, 3)`` or None, and gates of the softmax."""
        gate: dict = {}
        positional = self.positional_bias or self.positional_multiplier
        if not positional and self.softmax == "plain":
            return None, gate
        coordinates = ops.cast(coordinates, self._at_least_float32())
        offsets = neighbor_offsets(coordinates, neighbors)
        if self.softmax == "envelope":
            gate["envelope"] = neighbor_envelope(offsets, self.radius)
            if weights:
                gate["source_weights"] = neighbor_weights(weights[0], neighbors)
        return (self._cast(offsets / self.scale) if positional else None), gate

    def _factored(self, query, key, value, offsets, neighbors, gate, training):
        encoding = self._cast(self.encoding_kernel)
        # Two gathers: the backward pass of a joint one is 1.7 times slower in a graph.
        relation = gather_neighbors(
            matmul(key, encoding), neighbors, zero_missing=False
        )
        relation = relation - ops.expand_dims(matmul(query, encoding), 2)
        shift = self._cast(self.encoding_bias)
        if self.positional_bias:
            hidden_kernel, hidden_bias, kernel, bias = map(self._cast, self.bias_mlp)
            hidden = encode_offsets(offsets, hidden_kernel, hidden_bias)
            factored = matmul(kernel, encoding)
            relation = relation + narrow_matmul(hidden, factored, neighbors)
            shift = shift + matmul(bias, encoding)
        alpha = self._softmax(ops.relu(relation + shift), gate, training)
        value = gather_neighbors(value, neighbors, zero_missing=False)
        context = self._contract(alpha, self._split(value))  # (B, R, G, C / G)
        if self.positional_bias:
            context = context + shift_by_attention(alpha, hidden, kernel, neighbors)
            total = ops.expand_dims(ops.sum(alpha, axis=2), -1)  # (B, R, G, 1)
            context = context + total * ops.reshape(bias, (self.groups, -1))
        return self._merge(context), alpha

    def _plain(self, query, key, value, offsets, neighbors, gate, training):
        relation = gather_neighbors(key, neighbors, zero_missing=False)
        relation = relation - ops.expand_dims(query, 2)
        value = gather_neighbors(value, neighbors, zero_missing=False)
        if self.positional_multiplier:
            relation = relation * self._run_mlp(self.multiplier_mlp, offsets)
        if self.positional_bias:
            bias = self._run_mlp(self.bias_mlp, offsets)
            relation = relation + bias
            value = value + bias
        encoded = matmul(relation, self._cast(self.encoding_kernel))
        encoded = ops.relu(encoded + self._cast(self.encoding_bias))
        alpha = self._softmax(encoded, gate, training)
        factors = [self._split(value)]
        if self.weights_per == "channels":
            w = matmul(encoded, self._cast(self.weight_kernel))
            factors.insert(0, self._split(w + self._cast(self.weight_bias)))
        return self._merge(self._contract(alpha, *factors)), alpha

    def _contract(self, alpha, *factors):
        """Sum over the neighbors; all points of all fields are samples of it."""
        fields = ops.shape(alpha)[:2]
        samples = [
            ops.reshape(value, (-1, *ops.shape(value)[2:]))
            for value in (alpha, *factors)
        ]
        context = self.contraction(samples)  # (B R, G, C / G)
        return ops.reshape(context, (*fields, *ops.shape(context)[1:]))

    def _run_mlp(self, mlp, offsets):
        hidden_kernel, hidden_bias, kernel, bias = map(self._cast, mlp)
        hidden = ops.relu(matmul(offsets, hidden_kernel) + hidden_bias)
        return matmul(hidden, kernel) + bias

    def _softmax(self, encoded, gate, training):
        logits = matmul(encoded, self._cast(self.logits_kernel))
        logits = ops.cast(logits, self._at_least_float32())
        if self.softmax == "envelope":
            alpha = envelope_gated_softmax(logits, z_bias_raw=self.z_bias_raw, **gate)
        else:
            present = gate["present"][..., None]
            # Finite, since a row of infinities has a softmax of NaN.
            logits = ops.where(present, logits, -1e30)
            alpha = ops.where(present, ops.softmax(logits, axis=2), 0.0)
        if self.attention_dropout is not None:
            alpha = self.attention_dropout(alpha, training=training)
        return ops.cast(alpha, self.compute_dtype)  # (B, R, K, G)

    def _at_least_float32(self):
        return at_least_float32(self.compute_dtype)
