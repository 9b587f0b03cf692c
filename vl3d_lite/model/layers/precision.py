"""Operations that keep float64 on every backend.

On PyTorch `keras.ops` rounds the results of some operations to float32, so that a
layer of float64 is imprecise without a word, or ends with an error where two types
meet. Elsewhere these functions are those of `keras.ops`.
"""

import keras
from keras import ops


def matmul(one, other):
    """Multiply matrices of one float type, in that type.

    Args:
        one: ``(..., n, k)`` or ``(k,)`` float.
        other: ``(..., k, m)``, type of `one`.

    Returns:
        ``(..., n, m)`` or ``(m,)``, type of `one`.
    """
    if keras.backend.backend() == "torch":
        return one @ other
    # On TensorFlow the operator is slower for a matrix of rank 2.
    return ops.matmul(one, other)


def maximum(values, lowest):
    """The larger one of each value and a number, in the type of the values.

    Args:
        values: Float.
        lowest: A Python float.
    """
    if keras.backend.backend() == "torch":
        return ops.where(values > lowest, values, lowest)
    return ops.maximum(values, lowest)


def minimum(one, other):
    """The smaller one of two values, in their type.

    Args:
        one: Float.
        other: Float, shape and type of `one`.
    """
    if keras.backend.backend() == "torch":
        return ops.where(one < other, one, other)
    return ops.minimum(one, other)
