"""A temperature that carries over to other places: each left out in turn."""

from collections.abc import Sequence

import numpy as np

from vl3d_lite.prediction.calibration import (
    ReliabilityCounts,
    Temperature,
    fit_temperature,
    reliability,
    temper,
)
from vl3d_lite.prediction.calibration_records import PlaceRecord

__all__ = ["fit_over_places"]

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
        (name, sample)
        for name, sample in zip(names, samples, strict=True)
        if (sample[2] >= 0).any()
    ]
    clouds = [sample for _, sample in labeled]
    pooled = fit_temperature(clouds)
    if len(clouds) < 2:
        return pooled
    without = [
        fit_temperature([*clouds[:number], *clouds[number + 1 :]]).value
        for number in range(len(clouds))
    ]
    # In this order: of equally good ones the first is taken.
    candidates = dict.fromkeys([pooled.value, *without, 1.0])
    counts = {
        value: [_counts(cloud, value) for cloud in clouds] for value in candidates
    }
    errors = {
        value: [count.expected_error for count in found]
        for value, found in counts.items()
    }
    best = min(candidates, key=lambda value: max(errors[value]))
    places = tuple(
        PlaceRecord(
            name=name,
            temperature_without=other,
            error_without=errors[other][number],
            error=errors[best][number],
        )
        for number, ((name, _), other) in enumerate(zip(labeled, without, strict=True))
    )
    after = sum(counts[best], ReliabilityCounts())
    return Temperature(best, pooled.before, after, places)


def _counts(cloud: Sample, temperature: float) -> ReliabilityCounts:
    probabilities, cells, labels = cloud
    return reliability(temper(probabilities, temperature), cells, labels)
