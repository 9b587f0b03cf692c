"""Masks of attention between tokens: True means attend, everywhere."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.neighborhood import flat_rows, is_present


def check_mask(where, name, mask, ranks, sizes=()):
    """Check the dtype and the shape of a mask.

    A float mask is an error and is not cast: PyTorch adds it to the logits, where
    0 means "attend".

    Args:
        where: Name of the layer.
        name: Name of the argument.
        mask: A tensor or None.
        ranks: Allowed numbers of axes.
        sizes: Sizes of the last axes; None where unknown.

    Raises:
        DeepLearningException: The mask is not bool, or has another shape.
    """
    if mask is None:
        return
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if dtype != "bool":
        raise DeepLearningException(
            f"{where}: `{name}` must be bool, True = attend. Received: {dtype}; "
            "convert an additive mask by `mask == 0`"
        )
    if len(mask.shape) not in ranks:
        raise DeepLearningException(
            f"{where}: `{name}` must have {' or '.join(map(str, ranks))} axes. "
            f"Received: shape {tuple(mask.shape)}"
        )
    own = tuple(mask.shape)[len(mask.shape) - len(sizes) :]
    pairs = zip(own, sizes, strict=True)
    if any(None not in pair and pair[0] != pair[1] for pair in pairs):
        raise DeepLearningException(
            f"{where}: `{name}` must end in {' x '.join(map(str, sizes))}. "
            f"Received: shape {tuple(mask.shape)}"
        )


def by_head(where, name, mask, fields, heads):
    """Give each head its own axis in a mask of PyTorch's form ``(B H, T, S)``.

    Args:
        where: Name of the layer.
        name: Name of the argument.
        mask: ``(T, S)``, ``(B, T, S)``, ``(B H, T, S)`` or ``(B, H, T, S)`` bool, or
            None.
        fields: ``B``; None where unknown.
        heads: ``H``; 1 where a mask for each head is not supported.

    Returns:
        The mask; ``(B, H, T, S)`` in place of ``(B H, T, S)``.

    Raises:
        DeepLearningException: The first axis is neither B nor B H, or the second of
            four is not H.
    """
    if mask is None or len(mask.shape) < 3:
        return mask
    rows, *rest = mask.shape
    by_field = fields is None or rows in (None, 1, fields)
    if len(rest) == 3 and by_field and rest[0] in (None, 1, heads):
        return mask
    if len(rest) == 2 and by_field:
        return mask
    if len(rest) == 2 and heads > 1 and rows == fields * heads:
        return ops.reshape(mask, (fields, heads, *rest))
    forms = "(T, S) or (B, T, S)"
    if heads > 1:
        forms = "(T, S), (B, T, S), (B H, T, S) or (B, H, T, S)"
    raise DeepLearningException(
        f"{where}: `{name}` must have the shape {forms} with B = {fields} and "
        f"H = {heads} heads. Received: shape {tuple(mask.shape)}"
    )


def with_causal_mask(mask, queries, tokens):
    """Join a mask with ``(T, S)``, True where a token is not after the query.

    Args:
        mask: ``(T, S)`` or ``(B, T, S)`` bool, or None.
        queries: ``(B, T, D)``; only its shape matters.
        tokens: ``(B, S, D)``; only its shape matters.
    """
    rows, columns = ops.shape(queries)[1], ops.shape(tokens)[1]
    causal = ops.arange(rows)[:, None] >= ops.arange(columns)[None, :]
    return combine(mask, causal)


def combine(*masks):
    """Join the given masks by AND; None if all are None."""
    result = None
    for mask in masks:
        if mask is not None:
            result = mask if result is None else ops.logical_and(result, mask)
    return result


def pairs_mask(attention_mask, key_mask):
    """Join the masks of full attention: ``(B or 1, H or 1, T or 1, S)``, or None."""
    if attention_mask is not None:
        missing = 4 - len(attention_mask.shape)
        axes = [0, 1][:missing] if missing == 2 else [1][:missing]
        attention_mask = (
            ops.expand_dims(attention_mask, axes) if axes else attention_mask
        )
    if key_mask is not None:
        key_mask = key_mask[:, None, None, :]
    return combine(attention_mask, key_mask)


def neighbors_mask(neighbors, memory, attention_mask, key_mask):
    """Join the masks of local attention: ``(B, T, K)`` bool.

    Args:
        neighbors: ``(B, T, K)`` int, rows of `memory`; -1 where missing.
        memory: ``(B, S, D)``; only its shape is used.
        attention_mask: ``(T, S)`` or ``(B, T, S)`` bool, or None.
        key_mask: ``(B, S)`` bool, or None.
    """
    present = is_present(neighbors, memory)
    if key_mask is not None:
        rows = flat_rows(neighbors, memory)
        present = combine(present, ops.take(ops.reshape(key_mask, (-1,)), rows, axis=0))
    if attention_mask is not None:
        wide = ops.cast(attention_mask, "int32")
        if len(attention_mask.shape) == 2:
            wide = ops.expand_dims(wide, 0)
        shape = (*ops.shape(neighbors)[:2], ops.shape(memory)[1])
        own = ops.clip(ops.cast(neighbors, "int32"), 0, shape[-1] - 1)
        allowed = ops.take_along_axis(ops.broadcast_to(wide, shape), own, axis=-1)
        present = combine(present, allowed > 0)
    return present


def finite_positions(positions, valid):
    """Return ``(B, S)`` bool, True where coordinates are finite or not valid.

    Args:
        positions: ``(B, S, n_x)``.
        valid: ``(B, S)`` bool, or None.
    """
    finite = ops.all(ops.isfinite(positions), axis=-1)
    return finite if valid is None else ops.logical_or(finite, ops.logical_not(valid))


def sees_any(attention_mask, tokens, neighbors, memory):
    """Return ``(B, T or 1)`` bool, True where a query may attend to given tokens.

    Args:
        attention_mask: As in `pairs_mask` or, with neighbors, `neighbors_mask`.
        tokens: ``(B, S)`` bool, the given tokens.
        neighbors: ``(B, T, K)`` int, or None.
        memory: ``(B, S, ...)``; only its shape is used.
    """
    if neighbors is None:
        return ops.any(pairs_mask(attention_mask, tokens), axis=(1, 3))
    return ops.any(neighbors_mask(neighbors, memory, attention_mask, tokens), axis=-1)


def masked_softmax(logits, mask, axis):
    """Compute the softmax over unmasked entries; zeros where all are masked.

    Args:
        logits: float32 or float64; masked values have no effect.
        mask: Bool, broadcastable to `logits`, or None.
        axis: The axis to sum over.
    """
    if mask is not None:
        logits = ops.where(mask, logits, -1e30)
    # The largest logit cancels; its gradient need not be computed.
    top = ops.stop_gradient(ops.max(logits, axis=axis, keepdims=True))
    weights = ops.exp(logits - top)
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)
    total = ops.sum(weights, axis=axis, keepdims=True)
    return weights / (total if mask is None else ops.where(total > 0, total, 1.0))
