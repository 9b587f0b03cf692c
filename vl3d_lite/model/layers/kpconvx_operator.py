"""The sum over neighbors at the heart of KPConvX, factored."""

from keras import ops

from vl3d_lite.model.layers.neighborhood import gather_neighbors, settle


def kpconvx_operator(
    features,
    neighbors,
    nearest,
    influence,
    weights,
    modulations=None,
    finite=False,
):
    """Sum neighbors, weighted by influence, kernel weights and modulations.

    For a center ``i``, its neighbors ``j`` and channel ``c``, with ``n`` the
    kernel point nearest to ``j`` and ``G = D / S`` channels per modulation::

        y_ic = sum_j h_ij a_i[n, c // G] W[n, c] f_jc

    The modulated weights ``a * W`` of all kernel points never exist: rows of
    ``a`` (``S`` wide), of ``W`` (a small table) and of ``f`` are gathered apart
    and multiplied.

    Shapes: ``B`` fields, ``R`` support points, ``M`` centers, ``K`` neighbors,
    ``D`` channels, ``mq`` kernel points, ``S`` modulations per kernel point.

    Args:
        features: ``(B, R, D)`` float.
        neighbors: ``(B, M, K)`` int, rows of `features`.
        nearest: ``(B, M, K)`` int in ``[0, mq)``.
        influence: ``(B, M, K)`` float, 0 where missing.
        weights: ``(mq, D)`` float.
        modulations: ``(B, M, mq * S)`` float, ``S`` a divisor of ``D``; None for
            ones, the depthwise form.
        finite: True promises that `features` hold no NaN and no infinity, so
            that missing slots need no cut of their own.

    Returns:
        ``(B, M, D)`` float.
    """
    features = settle(features, neighbors)
    gathered = gather_neighbors(features, neighbors, zero_missing=not finite)
    products = ops.take(weights, nearest, axis=0) * gathered  # (B, M, K, D)
    if modulations is None:
        return ops.sum(products * influence[..., None], axis=2)
    batch, centers, count, channels = ops.shape(products)
    points = weights.shape[0]
    width = modulations.shape[-1] // points
    first = ops.arange(batch * centers, dtype="int32") * points
    rows = nearest + ops.reshape(first, (batch, centers, 1))
    table = ops.reshape(modulations, (-1, width))
    factors = ops.take(table, rows, axis=0) * influence[..., None]  # (B, M, K, S)
    groups = (batch, centers, count, width, channels // width)
    summed = ops.sum(ops.reshape(products, groups) * factors[..., None], axis=2)
    return ops.reshape(summed, (batch, centers, channels))
