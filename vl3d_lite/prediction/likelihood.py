"""The likelihood of labels under a temperature, and the temperature of the highest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

# Beyond these temperatures all points have a confidence of 1, or all the lowest one.
LOWEST, HIGHEST = 0.1, 10.0
_SMALLEST = 1e-12  # probability; float32 rounds to 0 what is below 1e-45
CHUNK = 1 << 18  # rows at a time: keeps temporary arrays below about 50 MB


def most_likely(loss: Callable[[float], float]) -> float:
    """The temperature of the least loss, to four digits.

    Args:
        loss: Takes the logarithm of a temperature.
    """
    found = minimize_scalar(
        loss,
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return round(float(np.exp(found.x)), 4)


@dataclass(frozen=True)
class LabeledPairs:
    """Pairs of a cell and a class that labeled points have; as many rows as pairs.

    Attributes:
        logs: ``(m, classes)`` float32, logarithms of the probabilities of the cell.
        class_index: ``(m,)`` int, the class.
        points: ``(m,)`` int, number of points.
    """

    logs: np.ndarray
    class_index: np.ndarray
    points: np.ndarray

    def loss(self, log_temperature: float) -> float:
        """Mean of ``-ln p'`` of the true classes of all points."""
        return self.total_loss(log_temperature) / float(self.points.sum())

    def total_loss(self, log_temperature: float) -> float:
        """Sum of ``-ln p'`` of the true classes of all points."""
        total = 0.0
        for start in range(0, len(self.logs), CHUNK):
            rows = slice(start, start + CHUNK)
            logs = tempered(self.logs[rows], np.exp(log_temperature))
            column = self.class_index[rows, None]
            own = np.take_along_axis(logs, column, axis=1)[:, 0]
            total -= float(own @ self.points[rows])
        return total


def count_pairs(
    clouds: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> LabeledPairs:
    """Count the points of each cell and class: far fewer rows than points."""
    parts = []
    for probabilities, cells, labels in clouds:
        n_classes = probabilities.shape[1]
        pairs = cells.astype(np.int64) * n_classes + labels
        pairs, points = np.unique(pairs, return_counts=True)
        logs = logarithms(probabilities[pairs // n_classes]).astype(np.float32)
        parts.append((logs, pairs % n_classes, points))
    return LabeledPairs(
        *(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    )


def logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, _SMALLEST, dtype=np.float64))


def tempered(logs: np.ndarray, temperature: float) -> np.ndarray:
    """Logarithms of tempered probabilities, float64."""
    scaled = logs.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
