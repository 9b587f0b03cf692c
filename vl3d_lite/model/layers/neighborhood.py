"""A mask of the neighbors that are present, and fast gathers of their rows.

One convention everywhere: an index outside ``[0, R)`` is a missing neighbor
(-1 by convention), and True means present.

Shapes: ``B`` fields, ``R`` support points, ``M`` centers (``M = R`` unless the
centers are another set), ``K`` neighbors, ``C`` channels. ``B`` may be unknown
when a model is built.
"""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException


def is_present(neighbors, features):
    """Return which neighbor slots hold a neighbor.

    Args:
        neighbors: ``(B, M, K)`` int, rows of `features`.
        features: ``(B, R, C)``; only its ``R`` is used.

    Returns:
        ``(B, M, K)`` bool, True where ``0 <= index < R``.
    """
    return ops.logical_and(neighbors >= 0, neighbors < ops.shape(features)[1])


def is_real(neighbors, rows):
    """Return which points are real, as opposed to padded.

    Args:
        neighbors: ``(B, M, K)`` int.
        rows: The number ``R`` of support points that `neighbors` refers to.

    Returns:
        ``(B, M)`` bool, True where a point has at least one neighbor present.
        A real point lists itself, so False means padding.
    """
    present = ops.logical_and(neighbors >= 0, neighbors < rows)
    return ops.any(present, axis=-1)


def flat_rows(neighbors, features):
    """Convert the neighbors to rows of `features` reshaped to ``(B * R, C)``.

    Args:
        neighbors: ``(B, M, K)`` int.
        features: ``(B, R, C)``; only ``B`` and ``R`` are used.

    Returns:
        ``(B, M, K)`` int32. A missing neighbor gets its field's row 0.
    """
    batch, rows = ops.shape(features)[:2]
    neighbors = ops.cast(neighbors, "int32")
    own = ops.where(is_present(neighbors, features), neighbors, 0)
    # Fields are stacked, so that one gather serves all of them.
    first = ops.arange(batch, dtype="int32") * rows
    return own + ops.reshape(first, (-1, 1, 1))


def gather_neighbors(features, neighbors, zero_missing=True):
    """Gather the features of each point's neighbors.

    The values of a row that no point lists (NaN, 1e9) have no effect: missing
    slots are exact zeros, masked with ``where``, and pass no gradient on.

    Args:
        features: ``(B, R, C)``, any type.
        neighbors: ``(B, M, K)`` int, rows of `features`; missing outside
            ``[0, R)``.
        zero_missing: False leaves a copy of the field's row 0 in missing
            slots. Only for a caller whose `features` are finite throughout
            and who multiplies missing slots by zero. On CPU at (4, 2048, 16,
            64) this takes 6 ms instead of 9 (2.5 instead of 3.5 under XLA).

    Returns:
        ``(B, M, K, C)``, type of `features`.
    """
    rows = ops.reshape(features, (-1, ops.shape(features)[-1]))
    gathered = ops.take(rows, flat_rows(neighbors, features), axis=0)
    if not zero_missing:
        return gathered
    present = is_present(neighbors, features)[..., None]
    return ops.where(present, gathered, ops.zeros_like(gathered))


def require_integers(name, neighbors):
    """Check that neighbors are whole numbers.

    Raises:
        DeepLearningException: They are of another type.
    """
    dtype = keras.backend.standardize_dtype(neighbors.dtype)
    if "int" not in dtype:
        raise DeepLearningException(
            f"{name}: neighbors must be integers, rows of the features. "
            f"Received: dtype={dtype}"
        )


def at_least_float32(dtype):
    """Return `dtype`, or float32 where that is more precise.

    On PyTorch, Keras' own `result_type` makes float32 of float64.
    """
    dtype = keras.backend.standardize_dtype(dtype)
    return dtype if dtype in ("float32", "float64") else "float32"


def neighbor_offsets(coordinates, neighbors, centers=None):
    """Subtract each center's coordinates from its neighbors', ``x_j - x_i``.

    Args:
        coordinates: ``(B, R, n_x)`` float32 or float64, in meters.
        neighbors: ``(B, M, K)`` int, rows of the coordinates; -1 where missing.
        centers: ``(B, M, n_x)``, in meters; the coordinates themselves by default.

    Returns:
        ``(B, M, K, n_x)``, type of the coordinates; zeros where missing, whatever
        the coordinates of padded points are.
    """
    centers = coordinates if centers is None else centers
    gathered = gather_neighbors(coordinates, neighbors, zero_missing=False)
    offsets = gathered - ops.expand_dims(centers, 2)
    present = is_present(neighbors, coordinates)[..., None]
    return ops.where(present, offsets, ops.zeros_like(offsets))


def materialize(values, neighbors):
    """Make XLA store `values` before they are gathered.

    XLA fuses the cheap operations that compute a tensor with the gather that
    reads it, and so repeats them for each neighbor. A division prevents that:
    XLA considers it too expensive to repeat. The divisor is 1 at run time, which
    XLA cannot know, so the values stay equal to the last bit on every device.

    Args:
        values: Float of rank 3.
        neighbors: ``(B, M, K)`` int, of any values.

    Returns:
        `values`.
    """
    one = ops.clip(neighbors[:1, :1, :1], 1, 1)
    return ops.divide(values, ops.cast(one, values.dtype))
