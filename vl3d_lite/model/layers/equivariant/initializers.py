"""Initial values of tied kernels: those of the dense matrix that they represent."""

import math

import keras

from vl3d_lite.errors import DeepLearningException

SCHEMES = ("xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal")


def check_scheme(where, scheme):
    """Check the name of an `init_scheme`; None stands for the first of `SCHEMES`.

    Raises:
        DeepLearningException: The scheme is unknown.
    """
    if scheme is not None and scheme not in SCHEMES:
        raise DeepLearningException(
            f"{where}: `init_scheme` must be one of {', '.join(SCHEMES)}, or None. "
            f"Received: init_scheme={scheme!r}"
        )


def tied_initializer(scheme, fan_in, fan_out):
    """Return an initializer with the variance of a dense matrix of that size.

    Args:
        scheme: One of `SCHEMES`; "xavier" uses the mean of both fans,
            "kaiming" the inputs and the gain of a ReLU. None is the first one.
        fan_in: Columns of the dense matrix.
        fan_out: Rows of the dense matrix.
    """
    scheme = scheme or SCHEMES[0]
    variance = 2 / (fan_in + fan_out) if scheme.startswith("xavier") else 2 / fan_in
    if scheme.endswith("uniform"):
        # A uniform distribution on [-a, a] has the variance a^2 / 3.
        limit = math.sqrt(3 * variance)
        return keras.initializers.RandomUniform(-limit, limit)
    return keras.initializers.RandomNormal(stddev=math.sqrt(variance))
