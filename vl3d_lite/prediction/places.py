"""A temperature that carries over to other places: each left out in turn."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.polynomial import Chebyshev

from vl3d_lite.prediction.calibration import (
    ReliabilityCounts,
    Temperature,
    fit_temperature,
    reliability,
    temper,
)
from vl3d_lite.prediction.calibration_records import PlaceRecord
from vl3d_lite.prediction.likelihood import (
    HIGHEST,
    LOWEST,
    count_pairs,
    most_likely,
)

__all__ = ["fit_over_places"]

# Interpolates the loss to 1e-10 of its value for 20 classes.
DEGREE = 63

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def fit_over_places(names: Sequence[str], samples: Sequence[Sample]) -> Temperature:
    """Fit the temperature on several clouds, so that none of them is calibrated badly.

    Each cloud is left out in turn, and a temperature is fitted on the others. Of
    these, of the one fitted on all clouds, and of 1, the temperature is taken whose
    largest expected calibration error over the clouds is the lowest.

    Args:
        names: Names of the clouds.
        samples: As for `fit_temperature`.

    Returns:
        That of `fit_temperature`, without `places`, where fewer than two clouds have
        labels.
    """
    labeled = [
        (name, (probabilities, cells[known], classes[known]))
        for name, (probabilities, cells, classes) in zip(names, samples, strict=True)
        if (known := classes >= 0).any()
    ]
    clouds = [sample for _, sample in labeled]
    pooled = fit_temperature(clouds)
    if len(clouds) < 2:
        return pooled
    counts = _Counts(clouds)
    without = _fit_without_each(clouds, counts)
    # In this order: of equally good ones the first is taken.
    candidates = dict.fromkeys([pooled.value, *without, 1.0])
    numbers = range(len(clouds))
    best = min(candidates, key=lambda value: max(counts.errors(value)))
    places = tuple(
        PlaceRecord(
            name=labeled[number][0],
            temperature_without=without[number],
            error_without=counts.errors(without[number])[number],
            error=counts.errors(best)[number],
        )
        for number in numbers
    )
    return Temperature(best, pooled.before, counts.pooled(best, numbers), places)


class _Counts:
    """The reliability of each cloud by temperature; each is counted once."""

    def __init__(self, clouds: Sequence[Sample]) -> None:
        self._clouds = clouds
        self._known: dict[float, list[ReliabilityCounts]] = {}

    def of(self, temperature: float) -> list[ReliabilityCounts]:
        if temperature not in self._known:
            self._known[temperature] = [
                reliability(temper(probabilities, temperature), cells, labels)
                for probabilities, cells, labels in self._clouds
            ]
        return self._known[temperature]

    def errors(self, temperature: float) -> list[float]:
        return [counts.expected_error for counts in self.of(temperature)]

    def pooled(self, temperature: float, numbers: Iterable[int]) -> ReliabilityCounts:
        every = self.of(temperature)
        return sum((every[number] for number in numbers), ReliabilityCounts())


def _fit_without_each(clouds: Sequence[Sample], counts: _Counts) -> list[float]:
    """For each cloud the temperature that `fit_temperature` finds on the others.

    The loss of each cloud becomes a polynomial of the logarithm of the temperature,
    so the loss of the others is the sum of all less its own.
    """
    losses, points = [], []
    for cloud in clouds:
        pairs = count_pairs([cloud])
        losses.append(
            Chebyshev.interpolate(
                np.vectorize(pairs.total_loss, otypes=[float]),
                DEGREE,
                domain=(np.log(LOWEST), np.log(HIGHEST)),
            )
        )
        points.append(int(pairs.points.sum()))
    total = sum(losses[1:], losses[0])
    found = []
    for left, own in enumerate(losses):
        others = (total - own) / (sum(points) - points[left])
        value = most_likely(others)
        numbers = [number for number in range(len(clouds)) if number != left]
        before = counts.pooled(1.0, numbers).expected_error
        worse = counts.pooled(value, numbers).expected_error > before
        found.append(1.0 if worse else value)
    return found
