"""Scores as functions of counts.

Counts are additive, so results of clouds, chunks and workers can be merged: the
scores of a sum equal the scores of the pooled points.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.coverage import ThresholdCounts
from vl3d_lite.prediction import ReliabilityCounts, ratio

__all__ = ["OVERALL", "PER_CLASS", "CloudResult", "Scores", "confusion_matrix"]

PER_CLASS = ("precision", "recall", "f1", "iou")
OVERALL = ("overall_accuracy", "mean_accuracy", "mean_iou", "mcc", "kappa")


def confusion_matrix(
    reference: np.ndarray, prediction: np.ndarray, n_classes: int
) -> np.ndarray:
    """Count the points of each pair of reference and predicted class.

    Args:
        reference: ``(n,)`` int, class index; -1 is ignored.
        prediction: ``(n,)`` int, class index in ``[0, n_classes)``.
        n_classes: ``C``, at least 1.

    Returns:
        ``(C, C)`` int64; rows are the reference, columns the prediction.

    Raises:
        DataError: Lengths differ, or a value is not a class index.
    """
    reference = _class_indices("reference", reference, -1, n_classes)
    prediction = _class_indices("prediction", prediction, 0, n_classes)
    if len(reference) != len(prediction):
        raise DataError(
            f"reference and prediction must be of equal length. "
            f"Received: {len(reference)} and {len(prediction)} points"
        )
    labeled = reference >= 0
    pairs = reference[labeled] * n_classes + prediction[labeled]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


@dataclass(frozen=True)
class Scores:
    """Scores of a confusion matrix.

    With ``t_k`` points of class ``k``, ``p_k`` points predicted as it, ``c_k``
    points that are both, and ``s`` points in total::

        precision = c/p   recall = c/t   F1 = 2c/(t+p)   IoU = c/(t+p-c)
        OA    = sum c / s
        kappa = (OA - e) / (1 - e),  e = sum t_k p_k / s^2
        MCC   = (OA - e) / sqrt((1 - sum p_k^2/s^2) (1 - sum t_k^2/s^2))

    A class in neither reference nor prediction is NaN and is excluded from every
    mean. A class that is only predicted, or never predicted, scores 0 where its
    denominator is 0, so a false alarm lowers mean IoU. Mean accuracy is the only
    mean over the classes of the reference alone. Scores without a denominator
    (no points, or a single class) are NaN.

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
        """Number of points with a reference label."""
        return int(self.confusion.sum())

    @property
    def support(self) -> np.ndarray:
        """``(C,)`` number of points of each class in the reference."""
        return self.confusion.sum(axis=1)

    @property
    def predicted(self) -> np.ndarray:
        """``(C,)`` number of points predicted as each class."""
        return self.confusion.sum(axis=0)

    @property
    def precision(self) -> np.ndarray:
        """``(C,)`` share of the points predicted as a class that belong to it."""
        return self._per_class(self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """``(C,)`` share of the points of a class that are predicted as it."""
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
        """Share of points whose predicted class is the reference class."""
        return ratio(self._correct.sum(), self.points)

    @property
    def mean_accuracy(self) -> float:
        """Mean recall of the classes that occur in the reference."""
        return _mean(np.where(self.support > 0, self.recall, np.nan))

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the classes that occur in reference or prediction."""
        return self.macro("iou")

    @property
    def known_iou(self) -> np.ndarray:
        """``(C,)`` intersection over union; NaN for classes not in the reference.

        How well a network knows a class cannot be measured without its points: a
        class that is only predicted is unknown here, not 0 as in `iou`.
        """
        return np.where(self.support > 0, self.iou, np.nan)

    @property
    def known_mean_iou(self) -> float:
        """Mean IoU of the classes in the reference; NaN with fewer than two.

        With a single class a network that predicts nothing else is perfect, so the
        mean does not include it.
        """
        if np.count_nonzero(self.support) < 2:
            return math.nan
        return _mean(self.known_iou)

    @property
    def mcc(self) -> float:
        """Multi-class Matthews correlation coefficient, in [-1, 1]."""
        t, p = self._shares()
        return ratio(self.overall_accuracy - t @ p, np.sqrt((1 - p @ p) * (1 - t @ t)))

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance, at most 1."""
        t, p = self._shares()
        return ratio(self.overall_accuracy - t @ p, 1 - t @ p)

    def macro(self, metric: str) -> float:
        """Mean of a score of `PER_CLASS` over the classes that occur."""
        return _mean(getattr(self, metric))

    def weighted(self, metric: str) -> float:
        """Mean of a score of `PER_CLASS`, weighted by the points of the reference."""
        return ratio(np.nansum(getattr(self, metric) * self.support), self.points)

    @property
    def _correct(self) -> np.ndarray:
        return np.diag(self.confusion)

    def _per_class(self, denominator: np.ndarray) -> np.ndarray:
        occurs = self.support + self.predicted > 0
        score = self._correct / np.where(denominator > 0, denominator, 1)
        return np.where(occurs, score, np.nan)

    def _shares(self) -> tuple[np.ndarray, np.ndarray]:
        # Shares instead of counts: products of counts overflow int64 at 3e9 points.
        points = max(self.points, 1)
        return self.support / points, self.predicted / points


@dataclass(frozen=True)
class CloudResult:
    """Counts of one cloud, or of many together.

    Args:
        confusion: ``(C, C)`` int64, from `confusion_matrix`.
        ignored: Number of points without a reference label.
        calibration: Counts of confidences; empty without confidences.
        uncalibrated: Counts before calibration; empty without calibration.
        by_threshold: Counts by confidence threshold; empty without confidences.
        accepted: ``(C, C)`` int64, confusion matrix of the points whose
            confidence reaches ``prediction.min_confidence``; None where no
            threshold was set.
    """

    confusion: np.ndarray
    ignored: int = 0
    calibration: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    uncalibrated: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    by_threshold: ThresholdCounts = field(default_factory=ThresholdCounts)
    accepted: np.ndarray | None = None

    def __add__(self, other: "CloudResult") -> "CloudResult":
        accepted = None
        if self.accepted is not None or other.accepted is not None:
            accepted = self.accepted_confusion + other.accepted_confusion
        return CloudResult(
            self.confusion + other.confusion,
            self.ignored + other.ignored,
            self.calibration + other.calibration,
            self.uncalibrated + other.uncalibrated,
            self.by_threshold + other.by_threshold,
            accepted,
        )

    @property
    def accepted_confusion(self) -> np.ndarray:
        """``(C, C)`` int64; the whole confusion matrix without a threshold."""
        return self.confusion if self.accepted is None else self.accepted

    @property
    def uncalibrated_error(self) -> float | None:
        """Error before calibration; None where some points lack the confidence."""
        before = self.uncalibrated
        complete = 0 < before.count.sum() == self.calibration.count.sum()
        return before.expected_error if complete else None

    @property
    def scores(self) -> Scores:
        """Scores of the confusion matrix."""
        return Scores(self.confusion)


def _class_indices(what: str, values, lowest: int, n_classes: int) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{what} must be a vector of integers, one class index per point. "
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
