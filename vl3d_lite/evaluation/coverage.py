"""Coverage against accuracy: what is gained by leaving doubtful points out."""

from dataclasses import dataclass, field

import numpy as np

STEPS = 1000  # of confidence; thresholds are told to three digits
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Coverage:
    """Counts of labelled points by confidence, in steps of ``1 / STEPS``.

    Args:
        count: ``(STEPS,)`` int64, points of such a confidence.
        correct: ``(STEPS,)`` int64, those that got their class.

    Source:
        Geifman and El-Yaniv, *Selective Classification for Deep Neural Networks*
        (2017): risk and coverage of a threshold on the highest probability.
    """

    count: np.ndarray = field(default_factory=lambda: np.zeros(STEPS, np.int64))
    correct: np.ndarray = field(default_factory=lambda: np.zeros(STEPS, np.int64))

    @classmethod
    def measure(
        cls, reference: np.ndarray, prediction: np.ndarray, confidence: np.ndarray
    ) -> "Coverage":
        """Count the labelled points of a cloud.

        Args:
            reference: ``(n,)`` int, -1 is left out.
            prediction: ``(n,)`` int.
            confidence: ``(n,)`` float in [0, 1].
        """
        labelled = reference >= 0
        # Rounded first: 0.7 in float32 is a little less than 0.7.
        steps = np.round(confidence[labelled].astype(np.float64) * STEPS, 4)
        steps = np.clip(steps, 0, STEPS - 1).astype(np.int64)
        right = reference[labelled] == prediction[labelled]
        return cls(
            np.bincount(steps, minlength=STEPS),
            np.bincount(steps[right], minlength=STEPS),
        )

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.count + other.count, self.correct + other.correct)

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """What a threshold leaves, for each ``t / STEPS``, t from 0 on.

        Returns:
            ``(STEPS,)`` share of the points that are at least so sure, and
            ``(STEPS,)`` share of these that are right; NaN where none are left.
        """
        left = np.cumsum(self.count[::-1])[::-1]
        right = np.cumsum(self.correct[::-1])[::-1]
        accuracy = np.where(left > 0, right / np.maximum(left, 1), np.nan)
        return left / max(left[0], 1), accuracy

    def table(self) -> list[dict]:
        """Coverage and accuracy of a few thresholds; None where no point is left."""
        share, accuracy = self.curve()
        rows = []
        for threshold in THRESHOLDS:
            step = round(threshold * STEPS)
            value = float(accuracy[step])
            rows.append(
                {
                    "confidence": threshold,
                    "coverage": float(share[step]),
                    "accuracy": value if np.isfinite(value) else None,
                }
            )
        return rows
