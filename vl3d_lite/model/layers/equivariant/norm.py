"""Normalization that commutes with a group."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.groups import get_representation
from vl3d_lite.model.layers.equivariant.linear import check_width
from vl3d_lite.model.layers.equivariant.spectral import from_spectrum, to_spectrum


class _EquivariantNorm(keras.layers.Layer):
    """Base of both norms: the scales, one for every copy of an irrep."""

    use_bias = False

    def __init__(self, in_rep, eps=1e-5, **kwargs):
        super().__init__(**kwargs)
        if not eps > 0:
            raise DeepLearningException(
                f"{self.name}: `eps` must be positive. Received: eps={eps}"
            )
        self.in_rep = get_representation(in_rep)
        self.eps = float(eps)

    @property
    def group(self):
        return self.in_rep.group

    def build(self, input_shape):
        check_width(self.name, "inputs", input_shape, self.in_rep.size)
        count = sum(irrep.scales for irrep in self.group.irreps)
        self.scale = self.add_weight(
            name="scale", shape=(count, self.in_rep.multiplicity), initializer="ones"
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.in_rep.multiplicity,), initializer="zeros"
            )

    def call(self, inputs):
        check_width(self.name, "inputs", inputs.shape, self.in_rep.size)
        return from_spectrum(self.spectral(to_spectrum(inputs, self.group)), self.group)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "in_rep": self.in_rep.get_config(),
            "eps": self.eps,
        }

    def _normalize(self, spectrum):
        """Divide by the root mean square over all channels, and scale."""
        dtype = spectrum[0].dtype
        scale = ops.cast(self.scale, dtype)
        squares = [
            ops.sum(ops.square(_wide(block)), axis=(-2, -1), keepdims=True)
            for block in spectrum
        ]
        mean = sum(squares[1:], squares[0]) / self.in_rep.size
        # Inner products are equal in both bases, so the spectrum has the field's norm.
        inverse = ops.cast(ops.rsqrt(mean + self.eps), dtype)
        result, first = [], 0
        for block, irrep in zip(spectrum, self.group.irreps, strict=True):
            own = scale[first : first + irrep.scales]
            if irrep.scales < irrep.width:
                own = ops.tile(own, (irrep.width, 1))
            result.append(block * inverse * ops.reshape(own, (-1,)))
            first += irrep.scales
        return result


def _wide(values):
    """Cast half precision to float32, so that squares do not overflow."""
    half = keras.backend.standardize_dtype(values.dtype) in ("float16", "bfloat16")
    return ops.cast(values, "float32") if half else values


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EquivariantRMSNorm(_EquivariantNorm):
    """Divide the channels of a point by their root mean square, and scale::

        y = A x / sqrt(mean(x^2) + eps)

    ``A`` commutes with the group: one learned scale for every copy of every
    irrep (for C4, three per copy of the regular representation).

    Shapes: ``D = multiplicity * |G|``, copy-major.

    Args:
        in_rep: `RegularRepresentation` of the input, or ``(group, multiplicity)``.
        eps: Added to the mean square. Positive.

    Call arguments:
        inputs: ``(..., D)`` float.

    Returns:
        ``(..., D)`` float.

    Raises:
        DeepLearningException: `eps` is not positive, or the width is wrong.

    Source:
        Zhang and Sennrich, *Root Mean Square Layer Normalization* (2019), with
        the scales of symm-learning's ``eRMSNorm``.
    """

    def spectral(self, spectrum):
        """Normalize a spectrum; see `spectral.to_spectrum`."""
        return self._normalize(spectrum)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EquivariantLayerNorm(_EquivariantNorm):
    """Standardize the channels of a point, scale and shift them::

        y = A (x - mean(x)) / sqrt(var(x) + eps) + b

    Mean and variance run over all channels, copies and group alike. ``A`` is
    that of `EquivariantRMSNorm`; ``b`` is one number per copy.

    Shapes: ``D = multiplicity * |G|``, copy-major.

    Args:
        in_rep: `RegularRepresentation` of the input, or ``(group, multiplicity)``.
        eps: Added to the variance. Positive.
        bias: Whether to add ``b``.

    Call arguments:
        inputs: ``(..., D)`` float.

    Returns:
        ``(..., D)`` float.

    Raises:
        DeepLearningException: `eps` is not positive, or the width is wrong.

    Source:
        Ba et al., *Layer Normalization* (2016). symm-learning's ``eLayerNorm``
        normalizes each irrep separately, which leaves only the sign of a
        one-dimensional one; we normalize the whole field.
    """

    def __init__(self, in_rep, eps=1e-5, bias=True, **kwargs):
        super().__init__(in_rep, eps, **kwargs)
        self.use_bias = bool(bias)

    def spectral(self, spectrum):
        """Normalize a spectrum; see `spectral.to_spectrum`."""
        constants = spectrum[0]
        # A sum, since `ops.mean` rounds float64 on PyTorch.
        center = ops.sum(_wide(constants), axis=-1, keepdims=True)
        center = center / self.in_rep.multiplicity
        center = constants - ops.cast(center, constants.dtype)
        result = self._normalize([center, *spectrum[1:]])
        if not self.use_bias:
            return result
        bias = ops.cast(self.bias, constants.dtype) * self.group.order**0.5
        return [result[0] + bias, *result[1:]]

    def get_config(self):
        return {**super().get_config(), "bias": self.use_bias}
