"""A linear map that commutes with a group."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import with_new_names
from vl3d_lite.model.layers.equivariant.groups import (
    OLD_NAMES,
    RegularRepresentation,
    get_representation,
)
from vl3d_lite.model.layers.equivariant.initializers import (
    check_scheme,
    tied_initializer,
)
from vl3d_lite.model.layers.equivariant.spectral import (
    from_spectrum,
    multiply,
    product,
    to_spectrum,
)

EVALUATIONS = ("auto", "dense", "spectral")


def check_width(where, name, shape, size):
    """Check that the last axis of a field is that of its representation.

    Raises:
        DeepLearningException: It is not.
    """
    if shape[-1] != size:
        raise DeepLearningException(
            f"{where}: `{name}` must have {size} channels, those of `in_rep`. "
            f"Received: shape {tuple(shape)}"
        )


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EquivariantLinear(keras.layers.Layer):
    """Multiply by a matrix that commutes with the group, and add a bias::

        y[o, h] = sum_ik kernel[o, i, h^-1 k] x[i, k] + bias[o]

    so that ``rho(g) x`` gives ``rho(g) y``. The layer has ``|G|`` times fewer
    parameters than a dense layer of the same width. It multiplies by
    the dense matrix, or block by block in the group-Fourier basis.

    Shapes: ``D = multiplicity * |G|``, copy-major.

    Args:
        in_rep: `RegularRepresentation` of the input, or ``(group, multiplicity)``.
        multiplicity: Copies in the output, at least 1.
        bias: Whether to add a bias.
        init_scheme: "xavier_uniform", "xavier_normal", "kaiming_uniform" or
            "kaiming_normal", of the dense matrix; None for the first.
        evaluation: "dense", "spectral", or "auto": spectral from four elements
            on, where it is faster (benchmarks/bench_equivariant.py).

    Call arguments:
        inputs: ``(..., D_in)`` float.

    Returns:
        ``(..., D_out)`` float.

    Raises:
        DeepLearningException: An argument is out of range, or the input's width
            is not the representation's.

    Source:
        Cohen and Welling, *Group Equivariant Convolutional Networks* (2016),
        on a finite group. symm-learning's ``eLinear`` on stacked regular
        representations is the same map.
    """

    def __init__(
        self,
        in_rep,
        multiplicity,
        bias=True,
        init_scheme="xavier_uniform",
        evaluation="auto",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.in_rep = get_representation(in_rep)
        self.out_rep = RegularRepresentation(self.in_rep.group, multiplicity)
        check_scheme(self.name, init_scheme)
        if evaluation not in EVALUATIONS:
            raise DeepLearningException(
                f"{self.name}: `evaluation` must be one of {', '.join(EVALUATIONS)}. "
                f"Received: evaluation={evaluation!r}"
            )
        self.use_bias = bool(bias)
        self.init_scheme = init_scheme
        self.evaluation = evaluation

    @property
    def group(self):
        return self.in_rep.group

    @property
    def is_spectral(self):
        """Whether the layer multiplies in the group-Fourier basis."""
        if self.evaluation == "auto":
            # Measured: below, the change of basis costs more than it saves.
            return self.group.order >= 4
        return self.evaluation == "spectral"

    def build(self, input_shape):
        check_width(self.name, "inputs", input_shape, self.in_rep.size)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(
                self.out_rep.multiplicity,
                self.in_rep.multiplicity,
                self.group.order,
            ),
            initializer=tied_initializer(
                self.init_scheme, self.in_rep.size, self.out_rep.size
            ),
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.out_rep.multiplicity,), initializer="zeros"
            )

    def call(self, inputs):
        check_width(self.name, "inputs", inputs.shape, self.in_rep.size)
        if self.is_spectral:
            spectrum = self.spectral(to_spectrum(inputs, self.group))
            return from_spectrum(spectrum, self.group)
        out, into, order = self.kernel.shape
        dense = ops.take(self.kernel, self.group.tie.reshape(-1), axis=2)
        dense = ops.reshape(dense, (out, into, order, order))
        dense = ops.transpose(dense, (1, 3, 0, 2))  # (i, k, o, h)
        dense = ops.reshape(dense, (into * order, out * order))
        result = product(inputs, ops.cast(dense, inputs.dtype))
        if self.bias is None:
            return result
        return result + ops.repeat(ops.cast(self.bias, inputs.dtype), order)

    def spectral(self, spectrum):
        """Apply the map to a spectrum; see `spectral.to_spectrum`."""
        dtype = spectrum[0].dtype
        bias = None if self.bias is None else ops.cast(self.bias, dtype)
        return multiply(spectrum, ops.cast(self.kernel, dtype), bias, self.group)

    def compute_output_shape(self, input_shape):
        check_width(self.name, "inputs", input_shape, self.in_rep.size)
        return (*input_shape[:-1], self.out_rep.size)

    def get_config(self):
        return {
            **super().get_config(),
            "in_rep": self.in_rep.get_config(),
            "multiplicity": self.out_rep.multiplicity,
            "bias": self.use_bias,
            "init_scheme": self.init_scheme,
            "evaluation": self.evaluation,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_new_names(config, OLD_NAMES))
