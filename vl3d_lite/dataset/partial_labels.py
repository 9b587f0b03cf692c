"""Partial labels: points of which only the classes that they may be are known.

The label index of a partial label is the number of classes or above
(`vl3d_lite.spec.partial_labels`).
"""

from collections.abc import Sequence

import numpy as np

from vl3d_lite.spec import Spec, partial_labels


def exact_labels(labels: np.ndarray, spec: Spec) -> np.ndarray:
    """The labels of points of a known class; partial labels become -1.

    Args:
        labels: ``(n,)`` int label index, -1 where a point has none.
        spec: The spec of the labels.
    """
    return np.where(labels < len(spec.classes), labels, -1)


def scored_labels(labels: np.ndarray, prediction: np.ndarray, spec: Spec) -> np.ndarray:
    """The class that each point counts as in scores.

    A point of a partial label counts as its predicted class if that is one of those
    that it may be, and is then right. Otherwise it counts as the class that its
    label names first, and is wrong.

    Args:
        labels: ``(n,)`` int label index, -1 where a point has none.
        prediction: ``(n,)`` int class index.
        spec: The spec of the labels.

    Returns:
        ``(n,)`` int class index, -1 where a point has no label.
    """
    partial = np.flatnonzero(labels >= len(spec.classes))
    if not len(partial):
        return labels
    sets = partial_labels(spec)
    allowed = label_members(len(spec.classes), sets)
    first = np.array([*range(len(spec.classes)), *(members[0] for members in sets)])
    own, predicted = labels[partial], prediction[partial]
    result = labels.copy()
    result[partial] = np.where(allowed[own, predicted], predicted, first[own])
    return result


def label_members(
    n_classes: int, partial_labels: Sequence[Sequence[int]]
) -> np.ndarray:
    """The classes that a point of each label may be.

    Args:
        n_classes: Number of classes.
        partial_labels: Class indices of each partial label.

    Returns:
        ``(labels, classes)`` bool.
    """
    members = np.eye(n_classes + len(partial_labels), n_classes, dtype=bool)
    for number, classes in enumerate(partial_labels):
        members[n_classes + number, list(classes)] = True
    return members


def count_labels(labels: np.ndarray, spec: Spec) -> np.ndarray:
    """``(classes,)`` number of points whose class is known."""
    exact = exact_labels(labels, spec)
    return np.bincount(exact[exact >= 0], minlength=len(spec.classes))
