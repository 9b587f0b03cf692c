"""A temperature for several places, each left out in turn."""

import json

import numpy as np
import pytest

from tests.prediction.test_calibration import overconfident
from vl3d_lite.prediction import places as module
from vl3d_lite.prediction.calibration import Temperature, fit_temperature, temper
from vl3d_lite.prediction.places import fit_over_places

NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def places():
    """Two clouds that need a temperature of 2, and one that needs 1."""
    return [overconfident(0), overconfident(1), overconfident(2, temperature=1.0)]


def error_by_loops(sample, temperature, bins=15):
    """The expected calibration error from its definition."""
    probabilities, cells, labels = sample
    tempered = np.asarray(temper(probabilities, temperature), np.float64)[cells]
    confidence, predicted = tempered.max(axis=1), tempered.argmax(axis=1)
    total = 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        total += abs(
            np.sum(predicted[inside] == labels[inside]) - confidence[inside].sum()
        )
    return total / len(labels)


def test_the_temperature_with_the_smallest_worst_error_is_taken(places):
    found = fit_over_places(NAMES, places)
    without = [
        fit_temperature([one for one in places if one is not left]).value
        for left in places
    ]
    candidates = [fit_temperature(places).value, *without, 1.0]
    worst = {t: max(error_by_loops(one, t) for one in places) for t in candidates}
    assert found.value == min(worst, key=worst.get)
    assert worst[found.value] < worst[1.0]
    for place, sample, other in zip(found.places, places, without, strict=True):
        assert place.temperature_without == other
        assert place.error_without == pytest.approx(
            error_by_loops(sample, other), abs=1e-5
        )
        assert place.error == pytest.approx(
            error_by_loops(sample, found.value), abs=1e-5
        )
    # The odd place is the one that the others do not prepare for.
    assert max(found.places, key=lambda place: place.error_without).name == "c"
    assert found.after.count.sum() == found.before.count.sum() == 12000


def test_one_labeled_place_has_the_temperature_of_its_fit(places):
    probabilities, cells, labels = places[1]
    unlabeled = probabilities, cells, np.full_like(labels, -1)
    found = fit_over_places(["a", "b"], [places[0], unlabeled])
    assert found.value == fit_temperature([places[0]]).value
    assert found.places == ()
    assert "places" not in found.to_dict()


def test_places_survive_a_round_trip(places):
    found = fit_over_places(NAMES, places)
    again = Temperature.from_json(json.dumps(found.to_dict(), allow_nan=False))
    assert again.places == found.places
    assert [place.name for place in again.places] == NAMES


@pytest.mark.parametrize("count", [3, 6])
def test_each_cloud_is_counted_once_however_many_there_are(places, count, monkeypatch):
    clouds = [tuple(values[:400] for values in one) for one in places * 2][:count]
    pairs, counted = [], []
    count_pairs, reliability = module.count_pairs, module.reliability

    def of_pairs(clouds):
        pairs.append(len(clouds))
        return count_pairs(clouds)

    def of_reliability(probabilities, cells, labels):
        counted.append(probabilities.tobytes())
        return reliability(probabilities, cells, labels)

    monkeypatch.setattr(module, "count_pairs", of_pairs)
    monkeypatch.setattr(module, "reliability", of_reliability)
    found = fit_over_places("abcdef"[:count], clouds)
    assert pairs == [1] * count
    fitted = {place.temperature_without for place in found.places}
    assert len(counted) <= count * len({*fitted, found.value, 1.0, "of all"})


def test_the_fit_without_a_place_is_that_of_the_others():
    clouds = [overconfident(n, n=200, temperature=0.4 + n / 8) for n in range(4)]
    found = fit_over_places("abcd", clouds)
    for left, place in enumerate(found.places):
        others = [cloud for number, cloud in enumerate(clouds) if number != left]
        expected = fit_temperature(others).value
        assert place.temperature_without == pytest.approx(expected, abs=1e-4)
