"""KPConvX and GVA as the papers write them, on the weights of our layers."""

from unittest import mock

from keras import ops

from vl3d_lite.model.layers import (
    GroupedVectorAttentionLayer,
    KPConvXLayer,
    is_present,
    is_real,
)


def rows_of(features, neighbors):
    """Features of the neighbors of each point, zero where missing."""
    batch, rows = ops.shape(features)[:2]
    start = ops.reshape(ops.arange(batch, dtype="int32") * rows, (-1, 1, 1))
    present = is_present(neighbors, features)
    flat = ops.reshape(features, (-1, features.shape[-1]))
    gathered = ops.take(flat, ops.where(present, neighbors, 0) + start, axis=0)
    return ops.where(present[..., None], gathered, 0.0)


def operator(features, neighbors, nearest, influence, weights, modulations, finite):
    """The operator with modulated weights gathered for each neighbor."""
    batch, rows, channels = ops.shape(features)
    points = weights.shape[0]
    modulations = ops.reshape(modulations, (batch, rows, points, -1, 1))
    modulated = modulations * ops.reshape(weights, (points, modulations.shape[3], -1))
    table = ops.reshape(modulated, (-1, channels))
    first = ops.arange(batch * rows, dtype="int32") * points
    chosen = ops.take(table, nearest + ops.reshape(first, (batch, rows, 1)), axis=0)
    gathered = rows_of(features, neighbors)
    return ops.sum(gathered * influence[..., None] * chosen, axis=2)


class LiteralKPConvX(KPConvXLayer):
    """KPConvX that computes its geometry in each block."""

    def call(self, inputs, training=False, mask=False):
        # Without the geometry that the blocks of a level share.
        return super().call(inputs[:3], training=training)

    def _geometry(self, X, N, rest):
        offsets = rows_of(X, N) - X[:, :, None]
        apart = offsets[..., None, :] - ops.convert_to_tensor(self.Q)
        squared = ops.sum(ops.square(apart), axis=-1)  # (B, R, K, mq)
        nearest = ops.cast(ops.argmin(squared, axis=-1), "int32")
        distance = ops.sqrt(ops.maximum(ops.min(squared, axis=-1), 1e-24))
        influence = ops.relu(1.0 - distance / self.sigma)
        return nearest, ops.where(is_present(N, X), influence, 0.0)

    def _block(self, *arguments):
        name = "vl3d_lite.model.layers.convolution.kpconvx_blocks.kpconvx_operator"
        with mock.patch(name, operator):
            return super()._block(*arguments)


class LiteralGVA(GroupedVectorAttentionLayer):
    """GVA that projects keys and values of each neighbor."""

    def _attend(self, inputs, training):
        coordinates, features, neighbors = inputs
        gate = {"present": is_present(neighbors, features)}
        real = is_real(neighbors, ops.shape(features)[1])
        gathered = rows_of(features, neighbors)  # (B, R, K, C)
        query, key = self._normalized(
            ops.matmul(features, self.query_kernel),
            ops.matmul(gathered, self.key_kernel),
            ops.matmul(features, self.key_kernel),
            real,
            training,
        )
        value = ops.matmul(gathered, self.value_kernel) + self.value_bias
        bias = self._run_mlp(
            self.bias_mlp,
            (rows_of(coordinates, neighbors) - coordinates[:, :, None]) / self.scale,
        )
        encoded = ops.matmul(key - query[:, :, None] + bias, self.encoding_kernel)
        encoded = ops.relu(encoded + self.encoding_bias)
        alpha = self._softmax(encoded, gate, training)
        spread = ops.expand_dims(alpha, -1)
        context = ops.sum(spread * self._split(value + bias), axis=2)
        return self._merge(context), alpha

    def _normalized(self, query, key, own_key, real, training):
        # One set of moving statistics serves the gathered keys as well.
        both = ops.concatenate([query, own_key], axis=-1)
        channels = query.shape[-1]
        both = self.norm(both, training=training, mask=real)
        mean, variance = self.norm.moving_mean, self.norm.moving_variance
        gain = self.norm.gamma * ops.rsqrt(variance + self.norm.epsilon)
        shift = self.norm.beta - mean * gain
        key = key * gain[channels:] + shift[channels:]
        return ops.relu(both[..., :channels]), ops.relu(key)
