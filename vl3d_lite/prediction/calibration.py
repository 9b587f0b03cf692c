"""Calibration: one temperature, so that a confidence says how often it is right."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize_scalar

from vl3d_lite.errors import DataError

BINS = 15  # The usual number for the expected calibration error (Guo et al. 2017).
LOWEST, HIGHEST = 0.1, 10.0  # beyond, all points are certain, or none is
_SMALLEST = 1e-12  # probability; float32 rounds to 0 what is below 1e-45
_CHUNK = 1 << 18  # rows at a time: bounds temporaries to some 50 MB


@dataclass(frozen=True)
class ReliabilityCounts:
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
    ) -> "ReliabilityCounts":
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

    def __add__(self, other: "ReliabilityCounts") -> "ReliabilityCounts":
        return ReliabilityCounts(
            self.count + other.count,
            self.correct + other.correct,
            self.total + other.total,
        )

    def to_dict(self) -> dict[str, list]:
        """The counts as lists, to be stored."""
        return {name: values.tolist() for name, values in vars(self).items()}

    @classmethod
    def from_dict(cls, content: dict) -> "ReliabilityCounts":
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
        return ratio(gaps, self.count.sum())

    def _per_bin(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.count > 0, values / np.maximum(self.count, 1), np.nan)


@dataclass(frozen=True)
class Temperature:
    """What makes confidences of a run those of its validation clouds.

    For the mean probabilities ``p_c`` of a cell's votes::

        p'_c = p_c^(1/T) / sum_k p_k^(1/T)

    ``T`` below 1 makes them surer, above 1 less sure; no class changes.

    Args:
        value: ``T``, positive; 1 changes nothing.
        before: Reliability on the validation clouds with ``T`` = 1.
        after: The same with this ``T``.

    Source:
        Guo et al., *On Calibration of Modern Neural Networks* (2017), sec. 4.2.
        They divide logits; we take the logarithm of the votes' mean, which
        one field's softmax makes the same thing.
    """

    value: float = 1.0
    before: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    after: ReliabilityCounts = field(default_factory=ReliabilityCounts)

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated ``(n, classes)`` float32 of probabilities that sum to 1."""
        return temper(probabilities, self.value)

    def to_dict(self) -> dict:
        """What ``calibration.json`` holds: numbers, lists and None, no NaN."""
        return {
            "temperature": self.value,
            "points": int(self.before.count.sum()),
            "before": _reliability(self.before),
            "after": _reliability(self.after),
        }

    @classmethod
    def from_json(cls, text: str) -> "Temperature":
        """The inverse of `to_dict`, from its text.

        Raises:
            DataError: It is something else.
        """
        try:
            content = json.loads(text)
            value = float(content["temperature"])
            before = ReliabilityCounts.from_dict(content["before"])
            after = ReliabilityCounts.from_dict(content["after"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                'calibration must be JSON such as {"temperature": 0.8, ...}; restore '
                f"the file or train again ({error})"
            ) from error
        if not 0 < value < np.inf:
            raise DataError(f"`temperature` must be positive. Received: {value}")
        return cls(value, before, after)


def _reliability(counts: ReliabilityCounts) -> dict:
    error = counts.expected_error
    return {
        "expected_error": error if np.isfinite(error) else None,
        **counts.to_dict(),
    }


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities to the power of ``1 / temperature``, made to sum to 1.

    Args:
        probabilities: ``(n, classes)`` float, not negative.
        temperature: Positive; 1 gives the very input.

    Returns:
        ``(n, classes)`` float32.
    """
    if temperature == 1:
        return probabilities
    result = np.empty(probabilities.shape, np.float32)
    for start in range(0, len(result), _CHUNK):
        rows = slice(start, start + _CHUNK)
        result[rows] = np.exp(_tempered(_logs(probabilities[rows]), temperature))
    return result


def fit_temperature(
    samples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Temperature:
    """The temperature under which the labels are likeliest.

    It minimizes the mean of ``-ln p'`` of the labelled points' own classes, and is
    kept only where the expected calibration error is not the worse for it.

    Args:
        samples: Of each cloud ``(N, classes)`` voted probabilities of its
            cells, ``(n,)`` int cell of each point, ``(n,)`` int label of each
            point, -1 where there is none.

    Returns:
        With ``value`` 1 where no point is labelled, or nothing is gained.
    """
    before = ReliabilityCounts()
    logs, columns, weights, clouds = [], [], [], []
    for probabilities, cells, labels in samples:
        labelled = labels >= 0
        if not labelled.any():
            continue
        clouds.append((probabilities, cells[labelled], labels[labelled]))
        before += reliability(*clouds[-1])
        n_classes = probabilities.shape[1]
        # Points of a cell and a class count together: as many rows as cells.
        pairs = cells[labelled].astype(np.int64) * n_classes + labels[labelled]
        pairs, counts = np.unique(pairs, return_counts=True)
        logs.append(_logs(probabilities[pairs // n_classes]).astype(np.float32))
        columns.append(pairs % n_classes)
        weights.append(counts)
    if not clouds:
        return Temperature()
    logs, columns, weights = map(np.concatenate, (logs, columns, weights))

    def loss(log_temperature: float) -> float:
        total = 0.0
        for start in range(0, len(logs), _CHUNK):
            rows = slice(start, start + _CHUNK)
            tempered = _tempered(logs[rows], np.exp(log_temperature))
            own = np.take_along_axis(tempered, columns[rows, None], axis=1)[:, 0]
            total -= own @ weights[rows]
        return total / weights.sum()

    found = minimize_scalar(
        loss,
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    value = round(float(np.exp(found.x)), 4)
    after = sum(
        (reliability(temper(p, value), *rest) for p, *rest in clouds),
        ReliabilityCounts(),
    )
    if after.expected_error > before.expected_error:
        return Temperature(1.0, before, before)
    return Temperature(value, before, after)


def reliability(
    probabilities: np.ndarray, cells: np.ndarray, labels: np.ndarray
) -> ReliabilityCounts:
    """Reliability of a cloud's points, whose cells were given probabilities.

    Args:
        probabilities: ``(N, classes)`` float, of each cell.
        cells: ``(n,)`` int, the cell of each point.
        labels: ``(n,)`` int, of each point; -1 is left out.
    """
    predicted = np.argmax(probabilities, axis=1)
    confidence = np.max(probabilities, axis=1)
    return ReliabilityCounts.measure(labels, predicted[cells], confidence[cells])


def _logs(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _SMALLEST, dtype=np.float64))


def _tempered(logs: np.ndarray, temperature: float) -> np.ndarray:
    """Logarithms of tempered probabilities, float64."""
    scaled = logs.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def ratio(numerator: float, denominator: float) -> float:
    """The quotient, NaN where the denominator is not positive."""
    return float(numerator / denominator) if denominator > 0 else float("nan")
