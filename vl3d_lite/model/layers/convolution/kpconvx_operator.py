"""The sum over neighbors that KPConvX computes, and its gradient."""

from keras import ops

from vl3d_lite.model.layers.gradients import upstream_gradient
from vl3d_lite.model.layers.neighborhood import (
    at_least_float32,
    flat_rows,
    is_present,
    materialize,
)

# Neighbors summed at once. XLA on a CPU unrolls a sum of 8 in registers; a sum of 32
# becomes a loop that takes 3 times as long per neighbor.
CHUNK = 8


def kpconvx_operator(
    features,
    neighbors,
    nearest,
    influence,
    weights,
    modulations=None,
    finite=False,
):
    """Sum neighbors, weighted by influence, kernel weights and modulations.

    For a center ``i``, its neighbors ``j`` and channel ``c``, with ``n`` the
    kernel point nearest to ``j`` and ``G = D / S`` channels per modulation::

        y_ic = sum_j h_ij a_i[n, c // G] W[n, c] f_jc

    The modulated weights ``a * W`` of all kernel points are never formed: rows of
    ``a`` (``S`` wide), of ``W`` (a small table) and of ``f`` are gathered
    separately and multiplied. The gradient is written by hand and gathers its
    factors again. Automatic differentiation shares tensors of the size of all
    neighbors; under XLA on one CPU core it took 1.2 times as long (0.31 instead
    of 0.25 of the time of the PyTorch implementation).

    Shapes: ``B`` fields, ``R`` support points, ``M`` centers, ``K`` neighbors,
    ``D`` channels, ``mq`` kernel points, ``S`` modulations per kernel point.

    Args:
        features: ``(B, R, D)`` float.
        neighbors: ``(B, M, K)`` int, rows of `features`.
        nearest: ``(B, M, K)`` int in ``[0, mq)``.
        influence: ``(B, M, K)`` float, 0 where missing.
        weights: ``(mq, D)`` float.
        modulations: ``(B, M, mq * S)`` float, ``S`` a divisor of ``D``; None for
            ones, the depthwise convolution.
        finite: True where `features` hold neither NaN nor infinity, so that
            missing slots need no mask.

    Returns:
        ``(B, M, D)`` float.
    """
    integers = ops.cast(neighbors, "int32"), ops.cast(nearest, "int32")
    floats = [features, influence, weights]
    if modulations is not None:
        floats.append(modulations)
    floats = [ops.convert_to_tensor(value) for value in floats]

    @ops.custom_gradient
    def operator(neighbors, nearest, *floats):
        factors = _Factors(neighbors, nearest, *floats, finite=finite)

        def gradient(*upstream, **torch_arguments):
            upstream = upstream_gradient(upstream, torch_arguments)
            return None, None, *factors.gradient(upstream)

        return factors.forward(), gradient

    return operator(*integers, *floats)


class _Factors:
    """The factors of the sum, gathered where they are used."""

    def __init__(
        self,
        neighbors,
        nearest,
        features,
        influence,
        weights,
        modulations=None,
        *,
        finite,
    ):
        self.neighbors, self.nearest, self.influence = neighbors, nearest, influence
        self.features, self.weights, self.modulations = features, weights, modulations
        self.present = None if finite else is_present(neighbors, features)[..., None]
        self.batch, self.centers, self.count = ops.shape(neighbors)
        self.points, self.channels = weights.shape
        self.flat = flat_rows(neighbors, features)
        if modulations is not None:
            first = ops.arange(self.batch * self.centers, dtype="int32") * self.points
            self.rows = nearest + ops.reshape(first, (self.batch, self.centers, 1))
            self.width = modulations.shape[-1] // self.points

    def forward(self):
        # Without it XLA recomputes the features for every neighbor.
        features = materialize(self.features, self.neighbors)
        modulations = self.modulations
        total = 0.0
        for start in range(0, self.neighbors.shape[-1], CHUNK):
            slots = slice(start, start + CHUNK)
            product = self._gathered(features, slots) * self._weights(slots)
            product = product * self._factors(modulations, slots)
            total = total + ops.sum(product, axis=2)
        return total

    def gradient(self, upstream):
        """Return gradients of features, influence, weights and modulations."""
        features = materialize(self.features, self.neighbors)
        upstream = materialize(upstream, self.neighbors)[:, :, None]
        gradients = [
            self._gradient_of_features(upstream),
            self._gradient_of_influence(features, upstream),
            self._gradient_of_weights(features, upstream),
        ]
        if self.modulations is not None:
            gradients.append(self._gradient_of_modulations(features, upstream))
        return gradients

    def _gradient_of_features(self, upstream):
        product = self._masked(
            self._weights() * self._factors(self.modulations) * upstream
        )
        rows = ops.shape(self.features)[0] * ops.shape(self.features)[1]
        return ops.reshape(
            ops.segment_sum(self._rows_of(product), self._vector(self.flat), rows),
            ops.shape(self.features),
        )

    def _gradient_of_influence(self, features, upstream):
        product = self._gathered(features) * self._weights() * upstream
        if self.modulations is not None:
            product = product * self._spread(self._modulations(self.modulations))
        return ops.sum(product, axis=-1)

    def _gradient_of_weights(self, features, upstream):
        product = self._gathered(features) * self._factors(self.modulations) * upstream
        # A kernel point sums thousands of neighbors, too many for half precision.
        wide = ops.cast(product, at_least_float32(product.dtype))
        summed = ops.segment_sum(
            self._rows_of(wide), self._vector(self.nearest), self.points
        )
        return ops.cast(summed, product.dtype)

    def _gradient_of_modulations(self, features, upstream):
        product = self._gathered(features) * self._weights() * upstream
        split = (self.batch, self.centers, self.count, self.width, -1)
        product = ops.sum(ops.reshape(product, split), axis=-1)
        product = ops.reshape(product * self.influence[..., None], (-1, self.width))
        size = self.batch * self.centers * self.points
        summed = ops.segment_sum(product, self._vector(self.rows), size)
        return ops.reshape(summed, ops.shape(self.modulations))

    def _gathered(self, features, slots=slice(None)):
        table = ops.reshape(features, (-1, self.channels))
        return self._masked(ops.take(table, self.flat[..., slots], axis=0), slots)

    def _weights(self, slots=slice(None)):
        return ops.take(self.weights, self.nearest[..., slots], axis=0)

    def _modulations(self, modulations, slots=slice(None)):
        table = ops.reshape(modulations, (-1, self.width))
        return ops.take(table, self.rows[..., slots], axis=0)  # (B, M, K, S)

    def _factors(self, modulations, slots=slice(None)):
        influence = self.influence[..., slots, None]
        if modulations is None:
            return influence
        return self._spread(self._modulations(modulations, slots) * influence)

    def _spread(self, factors):
        return ops.repeat(factors, self.channels // self.width, axis=-1)

    def _masked(self, product, slots=slice(None)):
        if self.present is None:
            return product
        return ops.where(self.present[..., slots, :], product, ops.zeros_like(product))

    def _rows_of(self, product):
        return ops.reshape(product, (-1, self.channels))

    @staticmethod
    def _vector(indices):
        return ops.reshape(indices, (-1,))
