"""The Lovász extension of the Jaccard index: a loss that follows IoU."""

from keras import ops

from vl3d_lite.dataset import label_members


def lovasz_softmax(labels, probabilities, partial_labels=()):
    """Mean over the labels of the batch of a convex surrogate of ``1 - IoU``.

    For a class ``c`` and the points in the order of decreasing errors ``m``::

        m_i  = |[y_i = c] - p_i(c)|
        J_k  = 1 - (P - hits among the first k) / (P + misses among the first k)
        loss = sum_k m_k (J_k - J_(k-1))

    where ``P`` points are of the class. Only classes with a labeled point
    count; a batch without labels has a loss of zero.

    A partial label counts like a class, with the sum of the probabilities of its
    classes; points of these classes are of it. A point that may or may not be of a
    class, or of a partial label, does not count there.

    Args:
        labels: ``(n,)`` int label indices; -1 where a point has no label.
        probabilities: ``(n, C)`` float32; rows sum to 1.
        partial_labels: Class indices of each partial label; the label index of the
            first is ``C``.

    Returns:
        A scalar in [0, 1].

    Source:
        Berman, Rannen Triki and Blaschko, *The Lovász-Softmax loss* (2018),
        algorithm 1, over the whole batch and the classes in it. Partial labels are
        our addition.
    """
    labels = ops.convert_to_tensor(labels, "int32")
    probabilities = ops.convert_to_tensor(probabilities, "float32")
    n_classes = probabilities.shape[-1]
    labeled = ops.expand_dims(labels >= 0, -1)
    labels = ops.maximum(labels, 0)
    if partial_labels:
        members = label_members(n_classes, partial_labels)
        sets = ops.transpose(ops.convert_to_tensor(members.astype("float32")))
        probabilities = ops.matmul(probabilities, sets)  # (n, L)
    # one_hot of -1 is a row of zeros only on some backends.
    one_hot = ops.one_hot(labels, probabilities.shape[-1], dtype="float32")
    own = present = ops.where(labeled, one_hot, 0.0)  # (n, L)
    known = ops.cast(ops.broadcast_to(labeled, own.shape), "float32")
    if partial_labels:
        inside, decided = _relations(members)
        own = ops.matmul(present, ops.convert_to_tensor(inside))
        known = ops.matmul(present, ops.convert_to_tensor(decided))
    errors = ops.where(known > 0, ops.abs(own - probabilities), 0.0)
    order = ops.argsort(-ops.stop_gradient(errors), axis=0)
    errors = ops.take_along_axis(errors, order, axis=0)
    own = ops.take_along_axis(own, order, axis=0)
    known = ops.take_along_axis(known, order, axis=0)
    total = ops.sum(own, axis=0, keepdims=True)  # (1, L)
    left = total - ops.cumsum(own, axis=0)
    union = total + ops.cumsum(known - own, axis=0)
    jaccard = 1.0 - ops.divide_no_nan(left, union)
    steps = jaccard - ops.concatenate([ops.zeros_like(total), jaccard[:-1]], axis=0)
    losses = ops.sum(errors * ops.stop_gradient(steps), axis=0)  # (L,)
    present = ops.cast(ops.any(present > 0, axis=0), "float32")
    return ops.divide_no_nan(ops.sum(losses * present), ops.sum(present))


def _relations(members):
    """Whether a point of each label is of each other label, and whether it is known.

    Args:
        members: ``(L, C)`` bool, the classes of each label.

    Returns:
        Two ``(L, L)`` float32: 1 where all classes of the row are in the column, and
        1 where they are all in it or all outside.
    """
    outside = ~(members[:, None] & members[None]).any(axis=-1)
    inside = ~(members[:, None] & ~members[None]).any(axis=-1)
    return inside.astype("float32"), (inside | outside).astype("float32")
