"""The Lovász extension of the Jaccard index: a loss that follows IoU."""

from keras import ops


def lovasz_softmax(labels, probabilities):
    """Mean over the classes of the batch of a convex surrogate of ``1 - IoU``.

    For a class ``c`` and the points in the order of decreasing errors ``m``::

        m_i  = |[y_i = c] - p_i(c)|
        J_k  = 1 - (P - hits among the first k) / (P + misses among the first k)
        loss = sum_k m_k (J_k - J_(k-1))

    where ``P`` points are of the class. Only classes with a labeled point
    count; a batch without labels has a loss of zero.

    Args:
        labels: ``(n,)`` int class indices; -1 where a point has no label.
        probabilities: ``(n, C)`` float32; rows sum to 1.

    Returns:
        A scalar in [0, 1].

    Source:
        Berman, Rannen Triki and Blaschko, *The Lovász-Softmax loss* (2018),
        algorithm 1, over the whole batch and the classes in it.
    """
    labels = ops.convert_to_tensor(labels, "int32")
    probabilities = ops.convert_to_tensor(probabilities, "float32")
    n_classes = probabilities.shape[-1]
    labeled = ops.expand_dims(labels >= 0, -1)
    # one_hot of -1 is a row of zeros only on some backends.
    own = ops.one_hot(ops.maximum(labels, 0), n_classes, dtype="float32")
    own = ops.where(labeled, own, 0.0)  # (n, C)
    errors = ops.where(labeled, ops.abs(own - probabilities), 0.0)
    order = ops.argsort(-ops.stop_gradient(errors), axis=0)
    errors = ops.take_along_axis(errors, order, axis=0)
    own = ops.take_along_axis(own, order, axis=0)
    known = ops.cast(ops.broadcast_to(labeled, own.shape), "float32")
    known = ops.take_along_axis(known, order, axis=0)
    total = ops.sum(own, axis=0, keepdims=True)  # (1, C)
    left = total - ops.cumsum(own, axis=0)
    union = total + ops.cumsum(known - own, axis=0)
    jaccard = 1.0 - ops.divide_no_nan(left, union)
    steps = jaccard - ops.concatenate([ops.zeros_like(total), jaccard[:-1]], axis=0)
    losses = ops.sum(errors * ops.stop_gradient(steps), axis=0)  # (C,)
    present = ops.cast(total[0] > 0, "float32")
    return ops.divide_no_nan(ops.sum(losses * present), ops.sum(present))
