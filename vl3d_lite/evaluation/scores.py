"""Scores and calibration as functions of counts.

Counts add, so results of clouds, chunks and workers merge: scores of a sum
equal scores of the pooled points.
"""

from dataclasses import dataclass, field

import numpy as np

from vl3d_lite.errors import DataError

BINS = 15  # The usual number for the expected calibration error (Guo et al. 2017).
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
        return _ratio(self._correct.sum(), self.points)

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
        return _ratio(self.overall_accuracy - t @ p, np.sqrt((1 - p @ p) * (1 - t @ t)))

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance, at most 1."""
        t, p = self._shares()
        return _ratio(self.overall_accuracy - t @ p, 1 - t @ p)

    def macro(self, metric: str) -> float:
        """Mean of a per-class score over the classes that occur."""
        return _mean(getattr(self, metric))

    def weighted(self, metric: str) -> float:
        """Mean of a per-class score, weighted by the reference's points."""
        return _ratio(np.nansum(getattr(self, metric) * self.support), self.points)

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


@dataclass(frozen=True)
class Calibration:
    """Counts of a reliability diagram: is a confidence of 0.8 right 8 times in 10?

    Bins are ``((b-1)/BINS, b/BINS]``; 0 belongs to the first.

    Args:
        count: ``(BINS,)`` int64, labelled points with such a confidence.
        correct: ``(BINS,)`` int64, those that got their class.
        total: ``(BINS,)`` float64, sum of their confidences.

    Source:
        Guo et al., *On Calibration of Modern Neural Networks* (2017), eq. 3.
    """

    count: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    correct: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: np.ndarray = field(default_factory=lambda: np.zeros(BINS))

    @classmethod
    def measure(
        cls, reference: np.ndarray, prediction: np.ndarray, confidence: np.ndarray
    ) -> "Calibration":
        """Sort points into bins.

        Args:
            reference: ``(n,)`` int, -1 is left out.
            prediction: ``(n,)`` int.
            confidence: ``(n,)`` float in [0, 1], probability of the prediction.

        Raises:
            DataError: A confidence is missing or not a probability.
        """
        reference, prediction = np.asarray(reference), np.asarray(prediction)
        confidence = np.asarray(confidence)
        if confidence.shape != reference.shape:
            raise DataError(
                f"confidence must hold one value for each of {len(reference)} points. "
                f"Received: shape {confidence.shape}"
            )
        labelled = reference >= 0
        confidence = confidence[labelled].astype(np.float64)
        # Float32 means of float32 probabilities exceed 1 by a few last digits.
        valid = (confidence >= -1e-4) & (confidence <= 1 + 1e-4)
        if not valid.all():
            raise DataError(
                "confidence must be a probability in [0, 1]. "
                f"Received: {confidence[~valid][0]}"
            )
        confidence = confidence.clip(0, 1)
        right = reference[labelled] == prediction[labelled]
        bins = np.maximum(np.ceil(confidence * BINS).astype(np.int64) - 1, 0)
        return cls(
            count=np.bincount(bins, minlength=BINS),
            correct=np.bincount(bins[right], minlength=BINS),
            total=np.bincount(bins, weights=confidence, minlength=BINS),
        )

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            self.count + other.count,
            self.correct + other.correct,
            self.total + other.total,
        )

    def to_dict(self) -> dict[str, list]:
        """The counts as lists, to be stored."""
        return {name: values.tolist() for name, values in vars(self).items()}

    @classmethod
    def from_dict(cls, content: dict) -> "Calibration":
        """The inverse of `to_dict`.

        Raises:
            ValueError, KeyError, TypeError: It is something else.
        """
        return cls(
            np.array(content["count"], np.int64).reshape(BINS),
            np.array(content["correct"], np.int64).reshape(BINS),
            np.array(content["total"], float).reshape(BINS),
        )

    @property
    def accuracy(self) -> np.ndarray:
        """``(BINS,)`` share of right points, NaN in empty bins."""
        return self._per_bin(self.correct)

    @property
    def confidence(self) -> np.ndarray:
        """``(BINS,)`` mean confidence, NaN in empty bins."""
        return self._per_bin(self.total)

    @property
    def expected_error(self) -> float:
        """Mean distance of accuracy from confidence; NaN without points."""
        gaps = np.abs(self.correct - self.total).sum()
        return _ratio(gaps, self.count.sum())

    def _per_bin(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.count > 0, values / np.maximum(self.count, 1), np.nan)


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


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else float("nan")


def _mean(values: np.ndarray) -> float:
    return _ratio(np.nansum(values), np.isfinite(values).sum())
