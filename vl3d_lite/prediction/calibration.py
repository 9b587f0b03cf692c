"""Calibration: one temperature that makes confidences match accuracies."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from vl3d_lite.errors import DataError
from vl3d_lite.prediction.calibration_records import (
    BINS,
    CalibrationRecord,
    PlaceRecord,
    ReliabilityRecord,
)
from vl3d_lite.prediction.likelihood import (
    CHUNK,
    count_pairs,
    logarithms,
    most_likely,
    tempered,
)
from vl3d_lite.system import parse_record, read_text


@dataclass(frozen=True)
class ReliabilityCounts:
    """Counts of a reliability diagram: accuracy by bins of confidence.

    Bins are ``((b-1)/BINS, b/BINS]``; 0 belongs to the first.

    Args:
        count: ``(BINS,)`` int64, labeled points with a confidence in the bin.
        correct: ``(BINS,)`` int64, those of them that are correct.
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
        """Count points by bins of confidence.

        Args:
            reference: ``(n,)`` int class index; points of -1 are ignored.
            prediction: ``(n,)`` int class index.
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
        labeled = reference >= 0
        confidence = confidence[labeled].astype(np.float64)
        # Float32 means of float32 probabilities exceed 1 by a few last digits.
        valid = (confidence >= -1e-4) & (confidence <= 1 + 1e-4)
        if not valid.all():
            raise DataError(
                "confidence must be a probability in [0, 1]. "
                f"Received: {confidence[~valid][0]}"
            )
        confidence = confidence.clip(0, 1)
        right = reference[labeled] == prediction[labeled]
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
        """The counts as lists, for JSON."""
        return {name: values.tolist() for name, values in vars(self).items()}

    @classmethod
    def from_dict(cls, content: dict) -> "ReliabilityCounts":
        """The inverse of `to_dict`.

        Raises:
            DataError: `content` is something else.
        """
        try:
            record = ReliabilityRecord.model_validate(content)
        except ValidationError as error:
            raise DataError(
                "the reliability counts of a record are damaged "
                f"({error.errors()[0]['msg']}); predict again with --overwrite"
            ) from error
        return cls(
            np.array(record.count, np.int64),
            np.array(record.correct, np.int64),
            np.array(record.total, float),
        )

    @property
    def accuracy(self) -> np.ndarray:
        """``(BINS,)`` share of correct points, NaN in empty bins."""
        return self._per_bin(self.correct)

    @property
    def confidence(self) -> np.ndarray:
        """``(BINS,)`` mean confidence, NaN in empty bins."""
        return self._per_bin(self.total)

    @property
    def expected_error(self) -> float:
        """Expected calibration error: mean distance of accuracy from confidence.

        NaN without points.
        """
        gaps = np.abs(self.correct - self.total).sum()
        return ratio(gaps, self.count.sum())

    def _per_bin(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.count > 0, values / np.maximum(self.count, 1), np.nan)


@dataclass(frozen=True)
class Temperature:
    """Calibration temperature, fitted on the validation clouds of a run.

    For the mean probabilities ``p_c`` of a cell's votes::

        p'_c = p_c^(1/T) / sum_k p_k^(1/T)

    ``T`` below 1 raises confidences, above 1 lowers them; no class changes.

    Args:
        value: ``T``, positive; 1 changes nothing.
        before: Reliability on the validation clouds with ``T`` = 1.
        after: The same with this ``T``.
        places: Of several validation clouds, how the temperature carries over to each.

    Source:
        Guo et al., *On Calibration of Modern Neural Networks* (2017), sec. 4.2.
        They divide logits; we divide the logarithm of the mean of the votes. For
        the softmax of a single field the two are equal.
    """

    value: float = 1.0
    before: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    after: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    places: tuple[PlaceRecord, ...] = ()

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated ``(n, classes)`` float32 of probabilities that sum to 1."""
        return temper(probabilities, self.value)

    def to_dict(self) -> dict:
        """The content of ``calibration.json``: numbers, lists and None, no NaN."""
        return {
            "temperature": self.value,
            "points": int(self.before.count.sum()),
            "before": _reliability(self.before),
            "after": _reliability(self.after),
            **({"places": [vars(one) for one in self.places]} if self.places else {}),
        }

    @classmethod
    def from_json(cls, text: str) -> "Temperature":
        """The inverse of `to_dict`, from JSON.

        Raises:
            DataError: `text` is something else.
        """
        try:
            content = parse_record(text, CalibrationRecord)
        except ValueError as error:
            raise DataError(
                'calibration must be JSON such as {"temperature": 0.8, ...}; restore '
                f"the file or train again ({error})"
            ) from error
        before = ReliabilityCounts.from_dict(content.before.model_dump())
        after = ReliabilityCounts.from_dict(content.after.model_dump())
        return cls(content.temperature, before, after, tuple(content.places))

    @classmethod
    def read(cls, path: Path) -> "Temperature":
        """Read ``calibration.json``.

        Raises:
            DataError: The file cannot be read, or is damaged.
        """
        text = read_text(path, "restore it from a copy, or train again")
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _reliability(counts: ReliabilityCounts) -> dict:
    error = counts.expected_error
    return {
        "expected_error": error if np.isfinite(error) else None,
        **counts.to_dict(),
    }


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities to the power of ``1 / temperature``, normalized to sum to 1.

    Args:
        probabilities: ``(n, classes)`` float, not negative.
        temperature: Positive; 1 returns the input itself.

    Returns:
        ``(n, classes)`` float32.
    """
    if temperature == 1:
        return probabilities
    result = np.empty(probabilities.shape, np.float32)
    for start in range(0, len(result), CHUNK):
        rows = slice(start, start + CHUNK)
        result[rows] = np.exp(tempered(logarithms(probabilities[rows]), temperature))
    return result


def fit_temperature(
    samples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Temperature:
    """Fit the temperature under which the labels are most likely.

    It minimizes the mean of ``-ln p'`` of the true classes of the labeled points. It
    is kept only where it does not increase the expected calibration error.

    Args:
        samples: For each cloud ``(N, classes)`` probabilities of its cells, ``(n,)``
            int cell of each point, and ``(n,)`` int class index of each point, -1
            where it has no label.

    Returns:
        A temperature of value 1 where no point is labeled, or none is better.
    """
    clouds = []
    for probabilities, cells, labels in samples:
        labeled = labels >= 0
        if labeled.any():
            clouds.append((probabilities, cells[labeled], labels[labeled]))
    if not clouds:
        return Temperature()
    value = most_likely(count_pairs(clouds).loss)
    before, after = ReliabilityCounts(), ReliabilityCounts()
    for probabilities, cells, labels in clouds:
        before += reliability(probabilities, cells, labels)
        after += reliability(temper(probabilities, value), cells, labels)
    if after.expected_error > before.expected_error:
        return Temperature(1.0, before, before)
    return Temperature(value, before, after)


def reliability(
    probabilities: np.ndarray, cells: np.ndarray, labels: np.ndarray
) -> ReliabilityCounts:
    """Count the points of a cloud by confidence, from the probabilities of its cells.

    Args:
        probabilities: ``(N, classes)`` float, of the cells.
        cells: ``(n,)`` int, the cell of each point.
        labels: ``(n,)`` int class index of each point; points of -1 are ignored.
    """
    predicted = np.argmax(probabilities, axis=1)
    confidence = np.max(probabilities, axis=1)
    return ReliabilityCounts.measure(labels, predicted[cells], confidence[cells])


def ratio(numerator: float, denominator: float) -> float:
    """The quotient, NaN where the denominator is not positive."""
    return float(numerator / denominator) if denominator > 0 else float("nan")
