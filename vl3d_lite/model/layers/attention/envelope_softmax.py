"""Softmax over neighbors whose weights fade out at a cutoff."""

import keras
import numpy as np
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.neighborhood import at_least_float32


def cutoff_envelope(distances, rcut):
    """Fade from 1 to 0 between distance 0 and the cutoff, with three derivatives.

    With ``x = distance / rcut``, clipped to [0, 1]::

        E = (1 - x)^4 * (1 + 4 x + 10 x^2 + 20 x^3 + 35 x^4)

    Value and first three derivatives are continuous everywhere and vanish at
    the cutoff; those at distance 0 vanish too. ``E`` is exactly 1 at 0 and
    exactly 0 from the cutoff on, and nowhere negative.

    Args:
        distances: Float of any shape, not negative.
        rcut: The cutoff, in the unit of the distances. Positive.

    Returns:
        ``E`` in [0, 1], shape and type of `distances`.

    Raises:
        DeepLearningException: `rcut` is not positive and finite.
    """
    if not 0 < rcut < float("inf"):
        raise DeepLearningException(
            f"cutoff_envelope: `rcut` must be positive and finite. Received: {rcut}"
        )
    distances = ops.convert_to_tensor(distances)
    # The expanded polynomial cancels near the cutoff and falls to -1e-7.
    u = ops.clip(1.0 - distances / rcut, 0.0, 1.0)
    x = 1.0 - u
    rise = 1.0 + x * (4.0 + x * (10.0 + x * (20.0 + x * 35.0)))
    return ops.square(ops.square(u)) * rise


def envelope_gated_softmax(
    logits, envelope, z_bias_raw, eps=1e-7, source_weights=None, present=None
):
    """Compute a softmax over neighbors and a null mass, gated by their weights.

    For a neighbor ``k`` of a point and the trailing axes ``h`` (heads, groups)::

        w_k = envelope_k^2 * source_weights_k        (0 where not present)
        zeta_h = softplus(z_bias_raw_h)
        alpha_kh = w_k exp(l_kh) / (zeta_h + eps + sum_k' w_k' exp(l_k'h))

    The null mass ``zeta + eps`` keeps the weights of the others steady while a
    neighbor fades out, so that ``alpha`` is continuous in the distances; the plain
    softmax jumps. A neighbor of weight 0 gets exactly 0 and passes no gradient on,
    whatever its logit is (NaN, inf); so do all if none is left.

    The computation runs in log space below the largest mass, the null mass
    included, and at least in float32.

    Shapes: ``*L`` leading axes, ``K`` neighbors, ``*H`` trailing axes.

    Args:
        logits: ``(*L, K, *H)`` float.
        envelope: ``(*L, K)`` float, as `cutoff_envelope` returns it; 0 or less
            removes a neighbor.
        z_bias_raw: ``(*H)`` float.
        eps: Smallest null mass. Not negative.
        source_weights: ``(*L, K)`` float, or None for ones; 0 removes a neighbor.
        present: ``(*L, K)`` bool or number, True (not 0) where a neighbor is
            present; None for everywhere.

    Returns:
        ``alpha`` ``(*L, K, *H)``, type of `logits`; its sum over ``K`` is less than 1.

    Raises:
        DeepLearningException: `eps` is negative or not finite, or the ranks
            disagree.

    Source:
        DeePMD-kit, DPA-4's ``segment_envelope_gated_softmax``. Its products
        overflow for large logits; we add logarithms of the weights to the
        logits, and include the null mass in the maximum.
    """
    logits, envelope = map(ops.convert_to_tensor, (logits, envelope))
    z_bias_raw = ops.convert_to_tensor(z_bias_raw)
    _check_softmax(logits, envelope, z_bias_raw, eps)
    dtype = keras.backend.standardize_dtype(logits.dtype)
    if "float" not in dtype:
        dtype = "float32"
    real = at_least_float32(dtype)
    active, log_weights = _log_weights(envelope, source_weights, present, real)
    trailing = (1,) * len(z_bias_raw.shape)
    active = ops.reshape(active, (*ops.shape(active), *trailing))
    log_weights = ops.reshape(log_weights, (*ops.shape(log_weights), *trailing))
    logits = ops.where(active, ops.cast(logits, real), 0.0)
    null = ops.softplus(ops.cast(z_bias_raw, real)) + eps
    axis = len(envelope.shape) - 1
    masses, null = _masses(logits, log_weights, active, null, axis)
    total = null + ops.sum(masses, axis=axis, keepdims=True)
    return ops.cast(masses / total, dtype)


def _check_softmax(logits, envelope, z_bias_raw, eps):
    if not 0 <= eps < float("inf"):
        raise DeepLearningException(
            f"envelope_gated_softmax: `eps` must be finite and not negative. "
            f"Received: {eps}"
        )
    trailing = len(logits.shape) - len(envelope.shape)
    if not len(envelope.shape) or trailing != len(z_bias_raw.shape):
        raise DeepLearningException(
            "envelope_gated_softmax: expected logits (*L, K, *H), an envelope "
            "(*L, K) and z_bias_raw (*H). Received: shapes "
            f"{tuple(logits.shape)}, {tuple(envelope.shape)}, "
            f"{tuple(z_bias_raw.shape)}"
        )


def _masses(logits, log_weights, active, null, axis):
    """Return weighted masses and the null mass, relative to the largest of them."""
    # A softplus may underflow to 0, whose logarithm is infinite.
    tiny = float(np.finfo(keras.backend.standardize_dtype(null.dtype)).tiny)
    null = ops.log(ops.where(null > tiny, null, tiny))  # (*H)
    highest = ops.where(active, logits + log_weights, null)
    highest = ops.max(highest, axis=axis, keepdims=True)
    highest = ops.stop_gradient(ops.maximum(highest, null))
    # The difference of two large logits is exact, their sums with small weights are
    # not. Two masks: the first keeps exp finite, so that the second's slope is 0.
    masses = ops.exp(ops.where(active, logits - highest + log_weights, 0.0))
    return ops.where(active, masses, 0.0), ops.exp(null - highest)


def _log_weights(envelope, source_weights, present, dtype):
    """Return which weights count, and their logarithms; 0 where they do not.

    A weight that is NaN counts, so that it shows in the output.
    """
    envelope = ops.cast(envelope, dtype)
    active = ops.logical_not(envelope <= 0)
    if present is not None:
        active = ops.logical_and(active, ops.cast(present, "bool"))
    if source_weights is not None:
        source_weights = ops.cast(ops.convert_to_tensor(source_weights), dtype)
        active = ops.logical_and(active, ops.logical_not(source_weights <= 0))
    log_weights = 2.0 * ops.log(ops.where(active, envelope, 1.0))
    if source_weights is not None:
        log_weights = log_weights + ops.log(ops.where(active, source_weights, 1.0))
    return active, log_weights


def neighbor_envelope(offsets, radius):
    """Return the envelope of each neighbor's distance.

    Args:
        offsets: ``(B, R, K, 3)`` float, zero where missing, as
            `neighbor_offsets` returns them.
        radius: The cutoff, in the unit of the offsets. Positive.

    Returns:
        ``(B, R, K)``, type of `offsets`.
    """
    squares = ops.sum(ops.square(offsets), axis=-1)
    # The slope of a square root at 0, where each point meets itself, is NaN.
    squares = ops.where(squares > 1e-12, squares, 1e-12)
    return cutoff_envelope(ops.sqrt(squares), radius)


def segment_envelope_gated_softmax(
    logits, edge_env, n_nodes, z_bias_raw, eps, src_weight=None, edge_mask=None
):
    """Compute the envelope-gated softmax over the padded edges of each node.

    It is `envelope_gated_softmax` of edges in rows: slot ``(i, j)`` of
    ``E = n_nodes * nnei`` belongs to node ``i``.

    Args:
        logits: ``(E, F, H)`` float.
        edge_env: ``(E, 1)`` or ``(E,)`` float, envelope of each edge.
        n_nodes: Number of nodes. Positive; divides ``E``.
        z_bias_raw: ``(F, H)`` float; its softplus is the null mass.
        eps: Smallest null mass. Not negative.
        src_weight: ``(E, 1)`` or ``(E,)`` float, factor of the source; 0 removes
            the edge. None for ones.
        edge_mask: ``(E,)`` or ``(E, 1)`` bool or number; False or 0 marks a slot
            without an edge. None where every slot has one.

    Returns:
        ``(E, F, H)``, type of `logits`; exactly 0 on invalid slots.

    Raises:
        DeepLearningException: `n_nodes` is not positive or does not divide
            ``E``, `eps` is negative, or the shapes disagree.
    """
    logits = ops.convert_to_tensor(logits)
    z_bias_raw = ops.convert_to_tensor(z_bias_raw)
    _check_segments(tuple(logits.shape), tuple(z_bias_raw.shape), n_nodes)
    edges, *trailing = tuple(logits.shape)
    if edges == 0:
        return logits
    nodes = int(n_nodes)
    given = {"edge_env": edge_env, "src_weight": src_weight, "edge_mask": edge_mask}
    envelope, weights, present = (
        _by_node(name, values, edges, nodes) for name, values in given.items()
    )
    alpha = envelope_gated_softmax(
        ops.reshape(logits, (nodes, -1, *trailing)),
        envelope,
        z_bias_raw,
        eps,
        weights,
        present,
    )
    return ops.reshape(alpha, ops.shape(logits))


def _check_segments(shape, bias_shape, n_nodes):
    whole = isinstance(n_nodes, int | np.integer) and not isinstance(n_nodes, bool)
    if not whole or n_nodes <= 0:
        raise DeepLearningException(
            "segment_envelope_gated_softmax: `n_nodes` must be a positive whole "
            f"number. Received: {n_nodes}"
        )
    if len(shape) != 3 or bias_shape != shape[1:]:
        raise DeepLearningException(
            "segment_envelope_gated_softmax: expected `logits` (E, F, H) and "
            f"`z_bias_raw` (F, H). Received: shapes {shape} and {bias_shape}"
        )
    edges = shape[0]
    if edges is not None and edges % n_nodes:
        raise DeepLearningException(
            f"segment_envelope_gated_softmax: the {edges} edges of `logits` must be "
            f"a multiple of `n_nodes`. Received: n_nodes={int(n_nodes)}"
        )


def _by_node(name, values, edges, nodes):
    """Reshape one number per edge to ``(nodes, nnei)``; None stays None."""
    if values is None:
        return None
    values = ops.convert_to_tensor(values)
    if tuple(values.shape) not in ((edges,), (edges, 1)):
        raise DeepLearningException(
            f"segment_envelope_gated_softmax: `{name}` must have shape "
            f"({edges},) or ({edges}, 1), one number per edge. "
            f"Received: shape {tuple(values.shape)}"
        )
    return ops.reshape(values, (nodes, -1))
