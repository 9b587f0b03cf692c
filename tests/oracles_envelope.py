"""Envelope-gated attention in loops, extended precision, from the formulas."""

import numpy as np

from tests.oracles_attention import present_of, real_of

LONG = np.longdouble


def envelope_by_formula(distance, rcut):
    """Fade from 1 to 0; three derivatives vanish at the cutoff."""
    x = min(LONG(distance) / LONG(rcut), LONG(1))
    return (1 - x) ** 4 * (1 + 4 * x + 10 * x**2 + 20 * x**3 + 35 * x**4)


def gated_softmax_by_loops(
    logits, envelope, z_bias_raw, eps, source_weights=None, present=None
):
    """``alpha`` of ``(N, K, H)`` logits; the formula itself, which needs the range
    of a longdouble for logits of hundreds."""
    nodes, neighbors, heads = logits.shape
    result = np.zeros(logits.shape, LONG)
    for n, h in np.ndindex(nodes, heads):
        masses = {}
        for k in range(neighbors):
            weight = LONG(envelope[n, k]) ** 2
            if source_weights is not None:
                weight *= LONG(source_weights[n, k])
            if (present is None or present[n, k]) and weight > 0:
                masses[k] = weight * np.exp(LONG(logits[n, k, h]))
        null = np.logaddexp(LONG(0), LONG(z_bias_raw[h])) + LONG(eps)
        for k, mass in masses.items():
            result[n, k, h] = mass / (null + sum(masses.values()))
    return result


def gate_of_gva(z_bias_raw, radius, source_weights=None):
    """Make the envelope-gated `softmax` of `gva_by_loops`."""

    def softmax(logits, distances, rows):
        envelope = [[envelope_by_formula(r, radius) for r in distances]]
        source = None
        if source_weights is not None:
            b, chosen = rows
            source = np.reshape(source_weights, source_weights.shape[:2])[b][[chosen]]
        return gated_softmax_by_loops(
            logits[None], np.array(envelope), z_bias_raw, 1e-7, source
        )[0]

    return softmax


def envelope_attention_by_loops(
    coordinates, features, neighbors, weights, heads, radius, source_weights=None
):
    """Return the output ``(B, R, C)`` and alpha ``(B, R, K, H)``, both float64.

    Weights without ``hidden_kernel`` have no positional bias.
    """
    batch, rows = features.shape[:2]
    channels = weights["value_kernel"].shape[1]
    depth = channels // heads
    output = np.zeros((batch, rows, channels))
    alpha = np.zeros((*neighbors.shape, heads))
    for b, i in real_of(neighbors, rows):
        query = features[b, i] @ weights["query_kernel"]
        slots = [k for k, j in enumerate(neighbors[b, i]) if 0 <= j < rows]
        chosen = present_of(neighbors[b, i], rows)
        logits = np.zeros((1, len(slots), heads))
        envelope = np.zeros((1, len(slots)))
        source = np.ones((1, len(slots)))
        values = []
        for place, j in enumerate(chosen):
            offset = coordinates[b, j] - coordinates[b, i]
            key = features[b, j] @ weights["key_kernel"]
            value = features[b, j] @ weights["value_kernel"]
            for h in range(heads):
                own = slice(h * depth, (h + 1) * depth)
                logits[0, place, h] = query[own] @ key[own] / np.sqrt(depth)
            if "hidden_kernel" in weights:
                hidden = offset / radius @ weights["hidden_kernel"]
                hidden = np.maximum(hidden + weights["hidden_bias"], 0)
                logits[0, place] += hidden @ weights["logits_kernel"]
                value = value + hidden @ weights["shift_kernel"]
            distance = np.sqrt((offset**2).sum())
            envelope[0, place] = envelope_by_formula(distance, radius)
            if source_weights is not None:
                source[0, place] = source_weights[b, j]
            values.append(value)
        shares = gated_softmax_by_loops(
            logits, envelope, weights["z_bias_raw"], 1e-7, source
        )[0]
        alpha[b, i, slots] = shares
        context = np.zeros(channels)
        for c in range(channels):
            context[c] = sum(
                shares[place, c // depth] * value[c]
                for place, value in enumerate(values)
            )
        output[b, i] = context @ weights["output_kernel"]
    return output, alpha
