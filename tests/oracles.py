"""The layers of the KPConvX family in loops, in float64.

Written from the formulas; nothing of the package is imported.
"""

import math

import numpy as np


def present(index, rows):
    return 0 <= index < rows


def gather_by_loops(features, neighbors):
    """Copy features of neighbors; zero where missing."""
    batch, centers, count = neighbors.shape
    out = np.zeros((batch, centers, count, features.shape[2]))
    for b, i, j in np.ndindex(batch, centers, count):
        if present(neighbors[b, i, j], features.shape[1]):
            out[b, i, j] = features[b, neighbors[b, i, j]]
    return out


def shells_by_loops(radii, counts, dimension):
    """Place kernel points on shells, one at a time."""
    golden = math.pi * (3.0 - math.sqrt(5.0))
    points = []
    for shell, (radius, count) in enumerate(zip(radii, counts, strict=True)):
        for i in range(count):
            if dimension == 2:
                angle = 2.0 * math.pi * i / count + shell * golden
                points.append([radius * math.cos(angle), radius * math.sin(angle)])
                continue
            z = 1.0 - (2 * i + 1) / count
            ring = math.sqrt(1.0 - z * z)
            x, y = ring * math.cos(i * golden), ring * math.sin(i * golden)
            points.append([radius * x, radius * y, radius * z])
    return np.array(points)


def geometry_by_loops(support, neighbors, centers, Q, sigma, influence="linear"):
    """Find the nearest kernel point and its influence; 0 and 0 where missing."""
    nearest = np.zeros(neighbors.shape, int)
    weights = np.zeros(neighbors.shape)
    for b, i, j in np.ndindex(*neighbors.shape):
        row = neighbors[b, i, j]
        if not present(row, support.shape[1]):
            continue
        offset = support[b, row] - centers[b, i]
        distances = [math.dist(offset, q) for q in Q]
        best = min(distances)
        nearest[b, i, j] = distances.index(best)
        weights[b, i, j] = {
            "linear": max(0.0, 1.0 - best / sigma),
            "constant": 1.0,
            "gaussian": math.exp(-(best**2) / (2.0 * (0.3 * sigma) ** 2)),
        }[influence]
    return nearest, weights


def operator_by_loops(features, neighbors, nearest, influence, W, modulations=None):
    """Sum influence * modulation * weight * feature over the neighbors."""
    batch, centers, count = neighbors.shape
    channels = features.shape[2]
    out = np.zeros((batch, centers, channels))
    for b, i, j in np.ndindex(batch, centers, count):
        row, point = neighbors[b, i, j], nearest[b, i, j]
        if not present(row, features.shape[1]):
            continue
        for c in range(channels):
            modulation = 1.0
            if modulations is not None:
                width = modulations.shape[2] // W.shape[0]
                group = channels // width
                modulation = modulations[b, i, point * width + c // group]
            out[b, i, c] += (
                influence[b, i, j] * modulation * W[point, c] * features[b, row, c]
            )
    return out


def leaky(values, slope):
    return np.where(values > 0, values, slope * values)


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def normalize(values, real, bn, training):
    """Batch-normalize the real points; the others may have any value."""
    listed = np.array([values[b, i] for b, i in np.ndindex(*real.shape) if real[b, i]])
    if training:
        mean = listed.mean(axis=0)
        variance = ((listed - mean) ** 2).mean(axis=0)
    else:
        mean, variance = bn["moving_mean"], bn["moving_variance"]
    scaled = (values - mean) / np.sqrt(variance + 1e-5)
    return scaled * bn["gamma"] + bn["beta"]


def kpconvx_by_loops(
    X,
    F,
    N,
    weights,
    *,
    sigma,
    slope=0.3,
    training=False,
    order="vl3d",
    influence="linear",
    centers=None,
    norm_by_point=False,
):
    """Compute the whole layer block by block.

    Args:
        X: (B, R, n_x).
        F: (B, R, D).
        N: (B, M, K).
        weights: Dict of Q and, stacked by block, W, Phi, phi, Psi, psi, Atilde,
            btilde; lists by block of Ahat, bhat; dicts of lists bn_phi,
            bn_htilde, bn_hhat, bn_operator; optionally shortcut,
            modulation_gain and modulation_bias. Without Phi there is no
            attention.
        sigma: Influence distance.
        slope: Negative slope of the activation.
        training: Normalize by the batch.
        order: "vl3d" or "apple".
        influence: See `geometry_by_loops`.
        centers: (B, M, n_x) for a strided layer.
        norm_by_point: Normalize the logits of each kernel point.

    Returns:
        (B, M, D_out), zero for padded points.
    """
    where = X if centers is None else centers
    geometry = geometry_by_loops(X, N, where, weights["Q"], sigma, influence)
    real = np.array(
        [[any(present(j, X.shape[1]) for j in row) for row in field] for field in N]
    )
    apple = order == "apple"
    support = F
    if centers is not None:
        F = np.zeros((*real.shape, support.shape[2]))
        for b, i in np.ndindex(*real.shape):
            listed = [support[b, j] for j in N[b, i] if present(j, X.shape[1])]
            if listed:
                F[b, i] = np.max(listed, axis=0)
    F = np.where(real[..., None], F, 0.0)
    blocks = len(weights["W"])
    for block in range(blocks):
        w = {
            name: value[block]
            for name, value in weights.items()
            if name not in ("Q", "shortcut")
        }
        modulations = None
        if "Phi" in w:
            hidden = F @ w["Phi"] + w["phi"]
            if not apple:
                hidden = normalize(hidden, real, w["bn_phi"], training)
            logits = leaky(hidden, slope) @ w["Psi"]
            if not apple:
                logits = logits + w["psi"]
            if norm_by_point:
                logits = _normalize_by_point(logits, len(weights["Q"]))
                logits = logits * w["modulation_gain"] + w["modulation_bias"]
            modulations = sigmoid(logits)
        source = F if centers is None else support
        H = operator_by_loops(source, N, *geometry, w["W"], modulations)
        if apple:
            H = leaky(normalize(H, real, w["bn_operator"], training), slope)
        H = normalize(H @ w["Atilde"] + w["btilde"], real, w["bn_htilde"], training)
        H = leaky(H, slope) @ w["Ahat"] + w["bhat"]
        H = normalize(H, real, w["bn_hhat"], training)
        last = block == blocks - 1
        residual = F @ weights["shortcut"] if last and "shortcut" in weights else F
        F = leaky(residual + H, slope) if apple else residual + leaky(H, slope)
        F = np.where(real[..., None], F, 0.0)
    return F


def _normalize_by_point(logits, points):
    out = np.zeros_like(logits)
    width = logits.shape[-1] // points
    for b, i, q in np.ndindex(*logits.shape[:2], points):
        group = logits[b, i, q * width : (q + 1) * width]
        variance = ((group - group.mean()) ** 2).mean()
        out[b, i, q * width : (q + 1) * width] = (group - group.mean()) / math.sqrt(
            variance + 1e-5
        )
    return out


def slope_along(function, value, direction, step=1e-6):
    """Differentiate a scalar function at `value` along `direction`, centrally."""
    ahead = function(value + step * direction)
    behind = function(value - step * direction)
    return (ahead - behind) / (2.0 * step)


def lovasz_by_loops(labels, probabilities, only=None):
    """For each class: points by falling error, each weighed by the step in 1 - IoU.

    `only` names the one class that counts.
    """
    known = [(y, p) for y, p in zip(labels, probabilities, strict=True) if y >= 0]
    losses = []
    for name in sorted({y for y, _ in known}) if only is None else [only]:
        total = sum(y == name for y, _ in known)
        points = sorted(
            ((abs((y == name) - float(p[name])), y == name) for y, p in known),
            key=lambda point: -point[0],
        )
        loss = before = hits = misses = 0
        for error, own in points:
            hits, misses = hits + own, misses + (not own)
            jaccard = 1 - (total - hits) / (total + misses)
            loss += error * (jaccard - before)
            before = jaccard
        losses.append(loss)
    return np.mean(losses) if losses else 0.0
