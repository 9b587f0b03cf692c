"""Scores and calibration as functions of counts.

Counts add, so results of clouds, chunks and workers merge: scores of a sum
equal scores of the pooled points.
"""

from dataclasses import dataclass

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.prediction.calibration import ratio

PER_CLASS = ("precision", "recall", "f1", "iou")


def confusion_matrix(
    reference: np.ndarray, prediction: np.ndarray, n_classes: int
) -> np.ndarray:
    """Count how often each class was taken for each.

    Args:
        reference: ``(n,)`` int, class index; -1 is left out.
        prediction: ``(n,)`` int, class index in ``[0, n_classes)``.
        n_classes: ``C``, at least 1.

    Returns:
        ``(C, C)`` int64; rows are the reference, columns the prediction.

    Raises:
        DataError: Lengths differ, or a value is no class index.
    """
    reference = _class_indices("reference", reference, -1, n_classes)
    prediction = _class_indices("prediction", prediction, 0, n_classes)
    if len(reference) != len(prediction):
        raise DataError(
            f"reference and prediction must be of equal length. "
            f"Received: {len(reference)} and {len(prediction)} points"
        )
    labelled = reference >= 0
    pairs = reference[labelled] * n_classes + prediction[labelled]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says.

    With ``t_k`` points of class ``k``, ``p_k`` points predicted as it, ``c_k``
    both, and ``s`` points in all::

        precision = c/p   recall = c/t   F1 = 2c/(t+p)   IoU = c/(t+p-c)
        OA    = sum c / s
        kappa = (OA - e) / (1 - e),  e = sum t_k p_k / s^2
        MCC   = (OA - e) / sqrt((1 - sum p_k^2/s^2) (1 - sum t_k^2/s^2))

    A class in neither reference nor prediction is NaN and stays out of every
    mean. One that is only predicted, or never predicted, has 0 where it has
    no quotient: a false alarm costs mean IoU. Mean accuracy alone averages
    recall over the classes that the reference holds. Scores without a
    denominator (no points, or a single class) are NaN.

    Args:
        confusion: ``(C, C)`` int, from `confusion_matrix`.

    Source:
        Gorodkin, *Comparing two K-category assignments by a K-category
        correlation coefficient* (2004), eq. 8; Cohen (1960). For a single
        class both are undefined; scikit-learn reports an MCC of 0 there.
    """

    confusion: np.ndarray

    @property
    def points(self) -> int:
        """Points with a reference."""
        return int(self.confusion.sum())

    @property
    def support(self) -> np.ndarray:
        """``(C,)`` points of each class in the reference."""
        return self.confusion.sum(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """``(C,)`` points predicted as each class."""
        return self.confusion.sum(axis=0)

    @property
    def precision(self) -> np.ndarray:
        """``(C,)`` share of the points predicted as a class that are of it."""
        return self._per_class(self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """``(C,)`` share of a class' points that were found."""
        return self._per_class(self.support)

    @property
    def f1(self) -> np.ndarray:
        """``(C,)`` harmonic mean of precision and recall."""
        return self._per_class((self.support + self.predicted) / 2)

    @property
    def iou(self) -> np.ndarray:
        """``(C,)`` intersection over union."""
        return self._per_class(self.support + self.predicted - self._correct)

    @property
    def overall_accuracy(self) -> float:
        """Share of points that got their class."""
        return ratio(self._correct.sum(), self.points)

    @property
    def mean_accuracy(self) -> float:
        """Mean recall of the classes that the reference holds."""
        return _mean(np.where(self.support > 0, self.recall, np.nan))

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes that occur."""
        return self.macro("iou")

    @property
    def mcc(self) -> float:
        """Matthews' correlation coefficient of several classes, in [-1, 1]."""
        t, p = self._shares()
        return ratio(self.overall_accuracy - t @ p, np.sqrt((1 - p @ p) * (1 - t @ t)))

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance, at most 1."""
        t, p = self._shares()
        return ratio(self.overall_accuracy - t @ p, 1 - t @ p)

    def macro(self, metric: str) -> float:
        """Mean of a per-class score over the classes that occur."""
        return _mean(getattr(self, metric))

    def weighted(self, metric: str) -> float:
        """Mean of a per-class score, weighted by the reference's points."""
        return ratio(np.nansum(getattr(self, metric) * self.support), self.points)

    @property
    def _correct(self) -> np.ndarray:
        return np.diag(self.confusion)

    def _per_class(self, denominator: np.ndarray) -> np.ndarray:
        occurs = self.support + self.predicted > 0
        score = self._correct / np.where(denominator > 0, denominator, 1)
        return np.where(occurs, score, np.nan)

    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        # Shares instead of counts: products of counts leave int64 at 3e9 points.
        points = max(self.points, 1)
        return self.support / points, self.predicted / points


def _class_indices(what: str, values, lowest: int, n_classes: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{what} must be a vector of integers, one class index a point. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if len(values) and (values.min() < lowest or values.max() >= n_classes):
        raise DataError(
            f"{what} must hold class indices from {lowest} to {n_classes - 1}. "
            f"Received: {values.min()} to {values.max()}"
        )
    return values.astype(np.int64, copy=False)


def _mean(values: np.ndarray) -> float:
    return ratio(np.nansum(values), np.isfinite(values).sum())
