"""Losses over points, of which some carry no label."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from vl3d_lite.dataset import label_members
from vl3d_lite.spec import Spec, partial_labels
from vl3d_lite.training.lovasz import lovasz_softmax


def loss_weights(spec: Spec, labels: Sequence[np.ndarray]) -> list[float] | None:
    """The weight of each class in the loss, as ``training.class_weights`` sets it.

    ``auto`` takes the inverse square root of the share of a class among the labeled
    points, scaled to a mean of 1 over these points, which increases the weight of
    rare classes moderately. Points of a partial label count as the classes that they
    may be, in the proportion of the points of these classes.

    Args:
        spec: The spec of the training.
        labels: Label indices of the points of each cloud, -1 where a point has no
            label.

    Returns:
        One weight per class; None for ``none``.
    """
    setting = spec.training.class_weights
    if setting == "none":
        return None
    if isinstance(setting, dict):
        return [setting.get(name, 1.0) for name in spec.class_names]
    if isinstance(setting, list):
        return list(setting)
    n_classes, partial = len(spec.classes), partial_labels(spec)
    every = np.zeros(n_classes + len(partial))
    for part in labels:
        every += np.bincount(part[part >= 0], minlength=len(every))
    counts = every[:n_classes].copy()
    for members, count in zip(partial, every[n_classes:], strict=True):
        known = every[list(members)]
        shares = known / known.sum() if known.any() else 1 / len(members)
        counts[list(members)] += count * shares
    # A class without a point counts as one point, or its weight would be infinite.
    share = np.maximum(counts, 1) / max(counts.sum(), 1)
    weights = 1 / np.sqrt(share)
    return (weights / np.sum(weights * share)).tolist()


@keras.saving.register_keras_serializable(package="vl3d_lite")
class PointCrossEntropy(keras.losses.Loss):
    """Weighted mean cross-entropy over the points that carry a label.

    For logits ``z`` and a label ``y`` of ``C`` classes::

        loss = sum_i w[y_i] * H(t_i, softmax(z_i)) / sum_i w[y_i] + a * L
        t_i  = (1 - s) * onehot(y_i) + s / C

    where ``L`` is the Lovász-softmax loss of the labeled points. A batch
    without any label has a loss of zero. A point that may be any class of a set
    ``S`` enters with the sum of their probabilities and the mean of their weights::

        H_i = -(1 - s) * log(sum_{c in S} p_c) - s / C * sum_c log(p_c)

    Args:
        class_weights: One weight per class, ``w``; all 1 by default.
        label_smoothing: ``s``, in [0, 1).
        lovasz: ``a``, at least 0.
        partial_labels: Class indices of each set ``S``; none by default.

    Call arguments:
        y_true: ``(B, R)`` int, -1 where a point has no label; ``C + k`` is the
            ``k``-th partial label.
        y_pred: ``(B, R, C)`` float, logits.

    Returns:
        A scalar.
    """

    def __init__(
        self,
        class_weights=None,
        label_smoothing=0.0,
        lovasz=0.0,
        partial_labels=(),
        name="cross_entropy",
        **kwargs,
    ):
        kwargs.pop("reduction", None)
        super().__init__(name=name, reduction="sum", **kwargs)
        self.class_weights = None if class_weights is None else list(class_weights)
        self.label_smoothing = label_smoothing
        self.lovasz = lovasz
        self.partial_labels = [list(members) for members in partial_labels]

    def call(self, y_true, y_pred):
        labeled = y_true >= 0
        # Keras hands labels to a loss as floats.
        labels = ops.cast(ops.where(labeled, y_true, 0), "int32")
        n_classes = y_pred.shape[-1]
        log_probabilities = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        if self.partial_labels:
            chosen, losses = self._of_sets(labels, log_probabilities)
        else:
            chosen = ops.one_hot(labels, n_classes, dtype="float32")
            target = (1 - self.label_smoothing) * chosen
            target += self.label_smoothing / n_classes
            losses = -ops.sum(target * log_probabilities, axis=-1)  # (B, R)
        weights = ops.ones((n_classes,), "float32")
        if self.class_weights is not None:
            weights = ops.convert_to_tensor(self.class_weights, "float32")
        weights = ops.where(labeled, ops.sum(chosen * weights, axis=-1), 0.0)
        loss = ops.divide_no_nan(
            ops.sum(ops.where(labeled, losses, 0.0) * weights), ops.sum(weights)
        )
        if not self.lovasz:
            return loss
        flat = ops.reshape(ops.where(labeled, labels, -1), (-1,))
        probabilities = ops.reshape(ops.exp(log_probabilities), (-1, n_classes))
        return loss + self.lovasz * lovasz_softmax(
            flat, probabilities, self.partial_labels
        )

    def _of_sets(self, labels, log_probabilities):
        """Mean over its classes ``(B, R, C)``, and loss ``(B, R)`` of each point."""
        n_classes = log_probabilities.shape[-1]
        allowed = label_members(n_classes, self.partial_labels).astype("float32")
        own = ops.take(ops.convert_to_tensor(allowed), labels, axis=0)  # (B, R, C)
        of_set = ops.logsumexp(ops.where(own > 0, log_probabilities, -1e38), axis=-1)
        smoothed = ops.mean(log_probabilities, axis=-1)
        losses = (self.label_smoothing - 1) * of_set - self.label_smoothing * smoothed
        return own / ops.sum(own, axis=-1, keepdims=True), losses

    def get_config(self):
        return {
            "name": self.name,
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
            "lovasz": self.lovasz,
            "partial_labels": self.partial_labels,
        }
