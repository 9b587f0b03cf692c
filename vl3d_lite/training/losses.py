"""Losses over points, of which some carry no label."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from vl3d_lite.spec import Spec
from vl3d_lite.training.lovasz import lovasz_softmax


def loss_weights(spec: Spec, labels: Sequence[np.ndarray]) -> list[float] | None:
    """The weight of each class in the loss, as ``training.class_weights`` sets it.

    ``auto`` takes the inverse square root of the share of a class among the labeled
    points, scaled to a mean of 1 over these points, which increases the weight of
    rare classes moderately.

    Args:
        spec: The spec of the training.
        labels: Class indices of the points of each cloud, -1 where a point has no
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
    n_classes = len(spec.classes)
    counts = np.zeros(n_classes)
    for part in labels:
        counts += np.bincount(part[part >= 0], minlength=n_classes)
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
    without any label has a loss of zero.

    Args:
        class_weights: One weight per class, ``w``; all 1 by default.
        label_smoothing: ``s``, in [0, 1).
        lovasz: ``a``, at least 0.

    Call arguments:
        y_true: ``(B, R)`` int, -1 where a point has no label.
        y_pred: ``(B, R, C)`` float, logits.

    Returns:
        A scalar.
    """

    def __init__(
        self,
        class_weights=None,
        label_smoothing=0.0,
        lovasz=0.0,
        name="cross_entropy",
        **kwargs,
    ):
        kwargs.pop("reduction", None)
        super().__init__(name=name, reduction="sum", **kwargs)
        self.class_weights = None if class_weights is None else list(class_weights)
        self.label_smoothing = label_smoothing
        self.lovasz = lovasz

    def call(self, y_true, y_pred):
        labeled = y_true >= 0
        # Keras hands labels to a loss as floats.
        labels = ops.cast(ops.where(labeled, y_true, 0), "int32")
        n_classes = y_pred.shape[-1]
        log_probabilities = ops.log_softmax(ops.cast(y_pred, "float32"), axis=-1)
        chosen = ops.one_hot(labels, n_classes, dtype="float32")
        target = (1 - self.label_smoothing) * chosen + self.label_smoothing / n_classes
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
        return loss + self.lovasz * lovasz_softmax(flat, probabilities)

    def get_config(self):
        return {
            "name": self.name,
            "class_weights": self.class_weights,
            "label_smoothing": self.label_smoothing,
            "lovasz": self.lovasz,
        }
