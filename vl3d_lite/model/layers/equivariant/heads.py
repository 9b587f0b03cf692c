"""Attention of each head between spectra: over all pairs or over neighbors."""

import functools

from keras import ops

from vl3d_lite.model.layers.equivariant.spectral import slices_of, spectrum_of
from vl3d_lite.model.layers.neighborhood import gather_neighbors


def heads_of(spectrum, count):
    """Join the components of each head: ``(B, T, H, c |G|)``.

    Heads split the copies; the group axis stays whole within each.

    Args:
        spectrum: Spectrum of ``(B, T)`` points.
        count: Number of heads, ``H``.
    """
    batch, tokens = ops.shape(spectrum[0])[:2]
    multiplicity = spectrum[0].shape[-1] // count
    parts = []
    for block in spectrum:
        # Not -1: with an unknown batch TensorFlow would not infer the components.
        components = block.shape[2] * block.shape[3] // (count * multiplicity)
        parts.append(
            ops.reshape(block, (batch, tokens, components, count, multiplicity))
        )
    joined = ops.transpose(ops.concatenate(parts, axis=2), (0, 1, 3, 2, 4))
    size = multiplicity * joined.shape[3]
    return ops.reshape(joined, (batch, tokens, count, size))


def spectrum_from_heads(heads, group):
    """Undo `heads_of`."""
    batch, tokens, count = ops.shape(heads)[:3]
    multiplicity = heads.shape[-1] // group.order
    shape = (batch, tokens, count, group.order, multiplicity)
    heads = ops.transpose(ops.reshape(heads, shape), (0, 1, 3, 2, 4))
    blocks, first = [], 0
    for irrep in group.irreps:
        components = irrep.rows * irrep.width
        width = irrep.width * multiplicity * count
        block = heads[:, :, first : first + components]
        blocks.append(ops.reshape(block, (batch, tokens, irrep.rows, width)))
        first += components
    return blocks


def split_maps(spectrum, count, group):
    """Split one spectrum into those of the `count` maps that it joins."""
    parts: list[list] = [[] for _ in range(count)]
    for block, irrep in zip(spectrum, group.irreps, strict=True):
        batch, tokens = ops.shape(block)[:2]
        multiplicity = block.shape[-1] // (irrep.width * count)
        shape = (batch, tokens, irrep.rows, irrep.width, count, multiplicity)
        wide = ops.reshape(block, shape)
        for number, part in enumerate(parts):
            own = (batch, tokens, irrep.rows, irrep.width * multiplicity)
            part.append(ops.reshape(wide[..., number, :], own))
    return parts


def present_only(spectrum, key_mask):
    """Zero the masked tokens, so that their values have no effect."""
    if key_mask is None:
        return spectrum
    keep = key_mask[:, :, None, None]
    return [ops.where(keep, block, ops.zeros_like(block)) for block in spectrum]


def finite_points(spectrum):
    """Return ``(B, T)`` bool, True where all components of a point are finite."""
    parts = [ops.all(ops.isfinite(block), axis=(-2, -1)) for block in spectrum]
    return functools.reduce(ops.logical_and, parts)


def attend_to_all(queries, keys, values, bias, softmax):
    """Attend to every token.

    Args:
        queries: ``(B, T, H, d)``.
        keys: ``(B, S, H, d)``.
        values: ``(B, S, H, d)``.
        bias: ``(B, T, S, H)``, added to the logits, or None.
        softmax: Function from logits ``(B, H, T, S)`` to weights.

    Returns:
        The context ``(B, T, H, d)`` and the weights ``(B, T, H, S)``.
    """
    queries = ops.transpose(queries, (0, 2, 1, 3))
    # The operator: on PyTorch `ops.matmul` rounds float64 to float32.
    logits = queries @ ops.transpose(keys, (0, 2, 3, 1))
    if bias is not None:
        logits = logits + ops.transpose(bias, (0, 3, 1, 2))
    weights = softmax(logits)
    context = weights @ ops.transpose(values, (0, 2, 1, 3))
    return ops.transpose(context, (0, 2, 1, 3)), ops.transpose(weights, (0, 2, 1, 3))


def attend_to_neighbors(queries, keys, values, neighbors, bias, softmax):
    """Attend to the listed tokens only.

    Args:
        queries: ``(B, T, H, d)``.
        keys: ``(B, S, H, d)``.
        values: ``(B, S, H, d)``, finite throughout.
        neighbors: ``(B, T, K)`` int, rows of the tokens; -1 where missing.
        bias: ``(B, T, K, H)``, added to the logits, or None.
        softmax: Function from logits ``(B, T, K, H)`` to weights, 0 where missing.

    Returns:
        The context ``(B, T, H, d)`` and the weights ``(B, T, H, K)``.
    """
    keys, values = (_gather(tokens, neighbors) for tokens in (keys, values))
    logits = ops.sum(ops.expand_dims(queries, 2) * keys, axis=-1)
    if bias is not None:
        logits = logits + bias
    weights = softmax(logits)
    context = ops.sum(ops.expand_dims(weights, -1) * values, axis=2)
    return context, ops.transpose(weights, (0, 1, 3, 2))


def _gather(tokens, neighbors):
    batch, count = ops.shape(tokens)[:2]
    heads, size = tokens.shape[2:]
    flat = ops.reshape(tokens, (batch, count, heads * size))
    gathered = gather_neighbors(flat, neighbors, zero_missing=False)
    return ops.reshape(gathered, (*ops.shape(neighbors), heads, size))


def position_logits(query, encoded, kernel, group):
    """Compute ``<q_i, U e_ij>`` of every head.

    ``U`` is applied to the queries, of which there are fewer than pairs.

    Args:
        query: Spectrum of ``(B, T)`` points.
        encoded: ``(B, T, S or K, |G| * U)``, see `LiftedOffsets`.
        kernel: ``(U, H, c)``.

    Returns:
        ``(B, T, S or K, H)``.
    """
    slices = slices_of(query, group)
    lead = ops.shape(slices[0])[:2]
    shape = (*lead, *kernel.shape[1:])
    fields = ops.stack([ops.reshape(x, shape) for x in slices], axis=2)
    units = ops.einsum("btghc,uhc->btguh", fields, kernel)
    return encoded @ ops.reshape(units, (*lead, encoded.shape[-1], kernel.shape[1]))


def position_context(weights, encoded, kernel, group):
    """Compute ``W sum_j alpha_ij e_ij`` as a spectrum.

    Args:
        weights: ``(B, T, H, S or K)``.
        encoded: ``(B, T, S or K, |G| * U)``.
        kernel: ``(U, H, c)``.
    """
    units, heads, multiplicity = kernel.shape
    gathered = weights @ encoded
    lead = ops.shape(gathered)[:2]
    gathered = ops.reshape(gathered, (*lead, heads, group.order, units))
    context = ops.einsum("bthgu,uhc->btghc", gathered, kernel)
    context = ops.reshape(context, (*lead, group.order, heads * multiplicity))
    return spectrum_of([context[:, :, h] for h in range(group.order)], group)
