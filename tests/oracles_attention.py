"""Attention, pooling and the unary block in loops, float64, from the formulas."""

import numpy as np


def torf_by_loops(alpha, w, values):
    """``A_bge = sum_k alpha_bkg w_bkge V_bkge``."""
    batch, neighbors, groups, depth = values.shape
    result = np.zeros((batch, groups, depth))
    for b in range(batch):
        for g in range(groups):
            for e in range(depth):
                for k in range(neighbors):
                    result[b, g, e] += (
                        float(alpha[b, k, g])
                        * float(w[b, k, g, e])
                        * float(values[b, k, g, e])
                    )
    return result


def present_of(row, rows):
    """List the indices of a row of neighbors that lie in ``[0, rows)``."""
    return [int(j) for j in row if 0 <= j < rows]


def normalize_by_loops(values, real, weights, training, epsilon=1e-5):
    """Batch normalization of ``(B, R, C)`` over the points that are `real`."""
    mean, variance = weights["moving_mean"], weights["moving_variance"]
    if training:
        chosen = np.array([values[b, i] for b, i in real])
        mean = chosen.mean(axis=0)
        variance = ((chosen - mean) ** 2).mean(axis=0)
    result = np.zeros_like(values)
    for b, i in real:
        result[b, i] = (values[b, i] - mean) / np.sqrt(variance + epsilon)
        result[b, i] = result[b, i] * weights["gamma"] + weights["beta"]
    return result


def real_of(neighbors, rows):
    """List ``(b, i)`` of the points with a present neighbor."""
    return [
        (b, i)
        for b in range(neighbors.shape[0])
        for i in range(neighbors.shape[1])
        if present_of(neighbors[b, i], rows)
    ]


def mlp_by_loops(name, offset, weights):
    hidden = offset @ weights[f"{name}_hidden_kernel"] + weights[f"{name}_hidden_bias"]
    return np.maximum(hidden, 0) @ weights[f"{name}_kernel"] + weights[f"{name}_bias"]


def gva_by_loops(
    coordinates, features, neighbors, weights, groups, scale, training, softmax=None
):
    """Grouped vector attention; a missing weight switches its option off.

    `softmax` gives the weights of a point's present neighbors from their logits
    ``(n, G)``, distances ``(n,)`` and rows ``(b, [j, ...])``; None for the plain one.

    Returns:
        The output ``(B, R, C)`` and alpha ``(B, R, K, G)``.
    """
    batch, rows = features.shape[:2]
    channels = weights["value_kernel"].shape[1]
    depth = channels // groups
    real = real_of(neighbors, rows)
    both = np.zeros((batch, rows, 2 * channels))
    value = np.zeros((batch, rows, channels))
    for b, i in real:
        both[b, i, :channels] = features[b, i] @ weights["query_kernel"]
        both[b, i, channels:] = features[b, i] @ weights["key_kernel"]
        value[b, i] = features[b, i] @ weights["value_kernel"] + weights["value_bias"]
    both = np.maximum(normalize_by_loops(both, real, weights, training), 0)
    query, key = both[..., :channels], both[..., channels:]
    output = np.zeros((batch, rows, channels))
    alpha = np.zeros((*neighbors.shape, groups))
    for b, i in real:
        slots = [k for k, j in enumerate(neighbors[b, i]) if 0 <= j < rows]
        logits, factors, values = [], [], []
        for k in slots:
            j = neighbors[b, i, k]
            offset = (coordinates[b, j] - coordinates[b, i]) / scale
            relation = key[b, j] - query[b, i]
            modulated = value[b, j].copy()
            if "multiplier_kernel" in weights:
                relation = relation * mlp_by_loops("multiplier", offset, weights)
            if "bias_kernel" in weights:
                bias = mlp_by_loops("bias", offset, weights)
                relation = relation + bias
                modulated = modulated + bias
            encoded = relation @ weights["encoding_kernel"] + weights["encoding_bias"]
            encoded = np.maximum(encoded, 0)
            logits.append(encoded @ weights["logits_kernel"])
            factor = np.ones(channels)
            if "weight_kernel" in weights:
                factor = encoded @ weights["weight_kernel"] + weights["weight_bias"]
            factors.append(factor)
            values.append(modulated)
        if softmax is not None:
            chosen = [int(j) for j in neighbors[b, i, slots]]
            far = [distance(coordinates[b, j], coordinates[b, i]) for j in chosen]
            alpha[b, i, slots] = softmax(np.array(logits), far, (b, chosen))
        for g in range(groups if softmax is None else 0):
            masses = np.exp([logit[g] for logit in logits])
            for slot, mass in zip(slots, masses, strict=True):
                alpha[b, i, slot, g] = mass / masses.sum()
        for c in range(channels):
            output[b, i, c] = sum(
                alpha[b, i, slot, c // depth] * factor[c] * modulated[c]
                for slot, factor, modulated in zip(slots, factors, values, strict=True)
            )
    return output, alpha


def max_pool_by_loops(features, down):
    """Largest feature among the present neighbors, zero without any."""
    result = np.zeros((*down.shape[:2], features.shape[-1]))
    for b, m in np.ndindex(*down.shape[:2]):
        chosen = present_of(down[b, m], features.shape[1])
        for c in range(features.shape[-1]):
            if chosen:
                result[b, m, c] = max(features[b, j, c] for j in chosen)
    return result


def upsample_by_loops(features, up, fine=None, coarse=None):
    """Mean of the present neighbors, weighted by one over the distance."""
    result = np.zeros((*up.shape[:2], features.shape[-1]))
    for b, r in np.ndindex(*up.shape[:2]):
        chosen = present_of(up[b, r], features.shape[1])
        weights = [
            1.0 if fine is None else 1 / max(distance(fine[b, r], coarse[b, j]), 1e-6)
            for j in chosen
        ]
        for j, weight in zip(chosen, weights, strict=True):
            result[b, r] += weight / sum(weights) * features[b, j]
    return result


def distance(one, other):
    return float(np.sqrt(((np.float64(one) - np.float64(other)) ** 2).sum()))


def unary_by_loops(features, neighbors, weights, slope, training):
    """Dense, batch normalization if it has weights, LeakyReLU; zero on padding."""
    real = real_of(neighbors, features.shape[1])
    values = np.zeros((*features.shape[:2], weights["kernel"].shape[1]))
    for b, i in real:
        values[b, i] = features[b, i] @ weights["kernel"] + weights.get("bias", 0.0)
    if "gamma" in weights:
        values = normalize_by_loops(values, real, weights, training)
    result = np.zeros_like(values)
    for b, i in real:
        for c, value in enumerate(values[b, i]):
            result[b, i, c] = value if value > 0 else slope * value
    return result


def slope_by_differences(function, arrays, directions, cotangent, step=1e-6):
    """Differentiate ``sum(function(arrays) * cotangent)`` along `directions`."""
    ahead = {name: arrays[name] + step * directions[name] for name in arrays}
    behind = {name: arrays[name] - step * directions[name] for name in arrays}
    difference = function(ahead) - function(behind)
    return float((difference * cotangent).sum() / (2 * step))


def gqa_by_loops(query, key, value, attends, weights):
    """Grouped-query attention over the keys that `attends`, ``(B, T, S)``, names.

    Args:
        query: ``(B, T, C)``.
        key: ``(B, S, C)``.
        value: ``(B, S, C)``.
        attends: ``(B, T, S)`` bool.
        weights: Of the projections ``query``, ``key``, ``value`` and
            ``attention_output``: a kernel by name, and a bias where there is one.

    Returns:
        The output ``(B, T, C)`` and the scores ``(B, U, T, S)``.
    """

    def projected(name, token, head):
        row = token @ weights[name]["kernel"][:, head]
        return row + weights[name]["bias"][head] if "bias" in weights[name] else row

    _, heads, depth = weights["query"]["kernel"].shape
    repeats = heads // weights["key"]["kernel"].shape[1]
    output = np.zeros(query.shape)
    scores = np.zeros((len(query), heads, query.shape[1], key.shape[1]))
    for b, i in np.ndindex(*query.shape[:2]):
        chosen = [j for j in range(key.shape[1]) if attends[b, i, j]]
        for u in range(heads):
            context = np.zeros(depth)
            asked = projected("query", query[b, i], u)
            logits = [
                asked @ projected("key", key[b, j], u // repeats) / np.sqrt(depth)
                for j in chosen
            ]
            masses = np.exp(np.array(logits) - max(logits, default=0.0))
            for j, mass in zip(chosen, masses, strict=True):
                scores[b, u, i, j] = mass / masses.sum()
                attended = projected("value", value[b, j], u // repeats)
                context += scores[b, u, i, j] * attended
            output[b, i] += context @ weights["attention_output"]["kernel"][u]
        output[b, i] += weights["attention_output"].get("bias", 0.0)
    return output, scores
