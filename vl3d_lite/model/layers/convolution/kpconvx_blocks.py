"""The blocks of `KPConvXLayer`: their weights and what they compute."""

import keras
import numpy as np
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.convolution.kernel_geometry import (
    coordinate_dtype,
    kernel_geometry,
)
from vl3d_lite.model.layers.convolution.kpconvx_arguments import as_layer
from vl3d_lite.model.layers.convolution.kpconvx_initializers import sliced_initializer
from vl3d_lite.model.layers.convolution.kpconvx_operator import kpconvx_operator
from vl3d_lite.model.layers.neighborhood import gather_neighbors, is_present
from vl3d_lite.model.layers.precision import matmul


class KPConvXBlocks(keras.layers.Layer):
    """Geometry, modulation, convolution and MLP of the blocks of `KPConvXLayer`."""

    bn_phi: list | None
    bn_htilde: list | None
    bn_hhat: list | None

    def _geometry(self, X, N, rest):
        """Return nearest kernel points and influence, given or computed."""
        if len(rest) == 2:
            nearest, influence = ops.cast(rest[0], "int32"), rest[1]
            present = is_present(N, X)
            nearest = ops.where(present, nearest, ops.zeros_like(nearest))
            influence = ops.where(present, influence, ops.zeros_like(influence))
        else:
            dtype = coordinate_dtype(self)
            X = ops.cast(X, dtype)
            centers = ops.cast(rest[0], dtype) if rest else X
            Q = ops.convert_to_tensor(self.Q)
            nearest, influence = kernel_geometry(
                X, N, centers, Q, self.sigma, self.influence
            )
        return nearest, ops.cast(influence, self.compute_dtype)

    def _block(self, block, F, support, geometry, real, training):
        apple, last = self.order == "apple", block == self.blocks - 1
        wide = last and self.shortcut is not None
        residual = self._linear(F, self.shortcut, None, 0) if wide else F
        if training and self.drop_path == 1:
            return self._activate(residual) if apple else residual
        modulations = self._modulations(block, F, real, training)
        weights = self._weight(self.W, block)
        neighbors, nearest, influence = geometry
        H = kpconvx_operator(
            support if self.strided else F,
            neighbors,
            nearest,
            influence,
            weights,
            modulations,
            finite=not self.strided,
        )
        if apple:
            H = self._activate(
                self._normalize(self.bn_operator, block, H, real, training)
            )
        H = self._linear(H, self.Atilde, self.btilde, block)
        H = self._activate(self._normalize(self.bn_htilde, block, H, real, training))
        if wide:
            H = self._linear(H, self.Ahat_out, self.bhat_out, 0)
        else:
            H = self._linear(H, self.Ahat, self.bhat, block)
        H = self._normalize(self.bn_hhat, block, H, real, training)
        if not apple:
            H = self._activate(H)
        if training and self.drop_path:
            H = self._drop(H)
        out = residual + H
        return without_padding(self._activate(out) if apple else out, real)

    def _modulations(self, block, F, real, training):
        """Return ``a``, ``(B, M, mq * D / G)`` in (0, 1), or None without attention."""
        if not self.attention:
            return None
        hidden = self._linear(F, self.Phi, self.phi, block)
        if self.order == "vl3d":
            hidden = self._normalize(self.bn_phi, block, hidden, real, training)
        logits = self._linear(self._activate(hidden), self.Psi, self.psi, block)
        if self.modulation_norm:
            logits = self._normalize_modulations(block, logits)
        return self.sigmoid(logits)

    def _normalize_modulations(self, block, logits):
        *head, width = ops.shape(logits)
        split = ops.reshape(logits, (*head, self.mq, width // self.mq))
        split = ops.cast(split, coordinate_dtype(self))
        mean, variance = ops.moments(split, axes=-1, keepdims=True)
        split = (split - mean) * ops.rsqrt(variance + 1e-5)
        logits = ops.cast(ops.reshape(split, (*head, width)), self.compute_dtype)
        gain = self._weight(self.modulation_gain, block)
        return logits * gain + self._weight(self.modulation_bias, block)

    def _weight(self, stack, block):
        return ops.cast(ops.convert_to_tensor(stack)[block], self.compute_dtype)

    def _linear(self, values, matrix, vector, block):
        values = matmul(values, self._weight(matrix, block))
        return values if vector is None else values + self._weight(vector, block)

    def _normalize(self, layers, block, values, real, training):
        # The mask keeps padded points out of the statistics.
        values = layers[block](values, training=training, mask=real)
        return ops.cast(values, self.compute_dtype)

    def _activate(self, values):
        return ops.cast(self.activation(values), self.compute_dtype)

    def _drop(self, values):
        # One draw per sample for the whole block.
        shape = (ops.shape(values)[0], 1, 1)
        drawn = keras.random.uniform(shape, seed=self.seed_generator)
        scale = ops.where(drawn >= self.drop_path, 1.0 / (1.0 - self.drop_path), 0.0)
        return values * ops.cast(scale, self.compute_dtype)

    def _add(self, name, shape, constant=None):
        """Add a stack of weights, one slice per block."""
        initializer = self.initializer
        if constant is not None:
            initializer = keras.initializers.Constant(constant)
        elif initializer is None:
            initializer = "glorot_uniform" if len(shape) == 3 else "zeros"
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=sliced_initializer(initializer, offset=len(self.weights)),
            regularizer=self.regularizer,
            constraint=self.constraint,
            autocast=False,
        )

    def _normalizations(self, layers, widths):
        """Make and build the normalizations of every block."""
        if layers is None:
            # The epsilon of the paper's code; Keras has 1e-3.
            layers = [
                keras.layers.BatchNormalization(
                    momentum=self.bn_momentum, epsilon=1e-5, dtype=self.dtype_policy
                )
                for _ in widths
            ]
        for layer, width in zip(layers, widths, strict=True):
            layer.build((None, None, width))
        return layers

    def _set_normalizations(self, **given):
        """Keep the normalizations that were given, and their configurations."""
        self._given_normalizations = {}
        for name, layers in given.items():
            if layers is not None:
                layers = [as_layer(layer) for layer in layers]
                if len(layers) != self.blocks:
                    raise DeepLearningException(
                        f"{self.name}: `{name}` must hold one layer for each of "
                        f"{self.blocks} blocks. Received: {len(layers)}"
                    )
            setattr(self, name, layers)
            self._given_normalizations[name] = layers and [
                keras.layers.serialize(layer) for layer in layers
            ]


def without_padding(values, real):
    """Set the rows of padded points to zero.

    Args:
        values: ``(B, M, C)``.
        real: ``(B, M)`` bool, True for real points.
    """
    return ops.where(real[..., None], values, ops.zeros_like(values))


def neighbor_maximum(features, neighbors):
    """Return the maximum over the present neighbors, ``(B, M, C)``.

    Args:
        features: ``(B, R, C)`` float.
        neighbors: ``(B, M, K)`` int, rows of `features`; -1 where missing.
    """
    gathered = gather_neighbors(features, neighbors)
    present = is_present(neighbors, features)[..., None]
    lowest = ops.full_like(gathered, -np.inf)
    return ops.max(ops.where(present, gathered, lowest), axis=2)
