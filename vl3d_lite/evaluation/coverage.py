"""Accuracy and coverage by confidence threshold."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["STEPS", "THRESHOLDS", "ThresholdCounts"]

STEPS = 1000  # Bins of confidence: thresholds have at most three digits.
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class ThresholdCounts:
    """Counts of labeled points by confidence, in bins of width ``1 / STEPS``.

    Args:
        count: ``(STEPS,)`` int64, number of points in each bin.
        correct: ``(STEPS,)`` int64, number of correctly predicted points.

    Source:
        Geifman and El-Yaniv, *Selective Classification for Deep Neural Networks*
        (2017): risk and coverage of a threshold on the highest probability.
    """

    count: np.ndarray = field(default_factory=lambda: np.zeros(STEPS, np.int64))
    correct: np.ndarray = field(default_factory=lambda: np.zeros(STEPS, np.int64))

    @classmethod
    def measure(
        cls, reference: np.ndarray, prediction: np.ndarray, confidence: np.ndarray
    ) -> "ThresholdCounts":
        """Count the labeled points of a cloud.

        Args:
            reference: ``(n,)`` int class index; -1 is ignored.
            prediction: ``(n,)`` int class index.
            confidence: ``(n,)`` float in [0, 1].
        """
        labeled = reference >= 0
        # Rounded before the floor: 0.7 in float32 is a little less than 0.7.
        steps = np.round(confidence[labeled].astype(np.float64) * STEPS, 4)
        steps = np.clip(steps, 0, STEPS - 1).astype(np.int64)
        correct = reference[labeled] == prediction[labeled]
        return cls(
            np.bincount(steps, minlength=STEPS),
            np.bincount(steps[correct], minlength=STEPS),
        )

    def __add__(self, other: "ThresholdCounts") -> "ThresholdCounts":
        return ThresholdCounts(self.count + other.count, self.correct + other.correct)

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Coverage and accuracy at every threshold ``t / STEPS``, ``t`` from 0 on.

        Returns:
            ``(STEPS,)`` coverage, the share of points with at least this
            confidence, and ``(STEPS,)`` accuracy of these points; NaN where none
            is left.
        """
        left = np.cumsum(self.count[::-1])[::-1]
        correct = np.cumsum(self.correct[::-1])[::-1]
        accuracy = np.where(left > 0, correct / np.maximum(left, 1), np.nan)
        return left / max(left[0], 1), accuracy

    def rows(self) -> list[dict[str, Any]]:
        """Confidence, coverage and accuracy at each of `THRESHOLDS`.

        The accuracy is None where no point is left.
        """
        coverage, accuracy = self.curve()
        rows = []
        for threshold in THRESHOLDS:
            step = round(threshold * STEPS)
            value = float(accuracy[step])
            rows.append(
                {
                    "confidence": threshold,
                    "coverage": float(coverage[step]),
                    "accuracy": value if np.isfinite(value) else None,
                }
            )
        return rows
