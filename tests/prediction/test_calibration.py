"""Temperature scaling against sums in loops."""

import json
import math

import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.prediction import calibration, likelihood
from vl3d_lite.prediction.calibration import (
    BINS,
    ReliabilityCounts,
    Temperature,
    fit_temperature,
    temper,
)


def overconfident(seed, n=4000, n_classes=3, temperature=0.5):
    """Overconfident probabilities: the labels are drawn from tempered ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, n_classes))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(n_classes, p=row) for row in true])
    sharp = np.exp(logits / temperature)
    return sharp / sharp.sum(axis=1, keepdims=True), np.arange(n), labels


def loss_by_loops(probabilities, cells, labels, temperature):
    total, count = 0.0, 0
    for cell, label in zip(cells, labels, strict=True):
        if label < 0:
            continue
        powers = [float(p) ** (1 / temperature) for p in probabilities[cell]]
        total -= math.log(powers[label] / sum(powers))
        count += 1
    return total / count


@pytest.mark.parametrize("temperature", [0.3, 0.8, 2.5])
def test_tempering_is_a_power_that_sums_to_one(temperature):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    expected = probabilities ** (1 / temperature)
    expected /= expected.sum(axis=1, keepdims=True)
    result = temper(probabilities.astype(np.float32), temperature)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_temperature_of_one_changes_nothing():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    assert temper(probabilities, 1.0) is probabilities


def test_tempering_and_fit_do_not_depend_on_the_chunks(monkeypatch):
    probabilities, cells, labels = overconfident(3, n=120)
    found = fit_temperature([(probabilities, cells, labels)])
    tempered = temper(probabilities, 0.7)
    for module in (calibration, likelihood):
        monkeypatch.setattr(module, "CHUNK", 7)
    np.testing.assert_array_equal(temper(probabilities, 0.7), tempered)
    assert fit_temperature([(probabilities, cells, labels)]).value == found.value


def test_small_integer_types_of_cells_do_not_overflow():
    probabilities, cells, labels = overconfident(3, n=120)
    wide = fit_temperature([(probabilities, cells, labels)])
    narrow = (probabilities, cells.astype(np.uint8), labels.astype(np.int8))
    assert fit_temperature([narrow]).value == wide.value


def test_certain_probabilities_stay_finite():
    probabilities = np.array([[1, 0, 0], [0.5, 0.5, 0]], np.float32)
    result = temper(probabilities, 0.1)
    np.testing.assert_allclose(result, probabilities, atol=1e-6)


def test_the_order_of_classes_does_not_change():
    probabilities = np.random.default_rng(1).dirichlet(np.ones(5), 500)
    result = temper(probabilities, 0.4)
    np.testing.assert_array_equal(result.argmax(1), probabilities.argmax(1))


def test_the_fit_finds_the_temperature_that_made_the_probabilities():
    found = fit_temperature([overconfident(0), overconfident(1)])
    assert found.value == pytest.approx(2.0, rel=0.05)
    assert found.before.expected_error > 0.08
    assert found.after.expected_error < 0.02


def test_no_other_temperature_makes_the_labels_more_likely():
    probabilities, _, labels = overconfident(2, n=400)
    # Wrong cells hold more points, which a mean over cells would not notice.
    cells = np.repeat(np.arange(400), np.where(probabilities.argmax(1) == labels, 2, 9))
    labels = labels[cells]
    labels[::7] = -1
    best = fit_temperature([(probabilities, cells, labels)]).value
    losses = {
        value: loss_by_loops(probabilities, cells, labels, value)
        for value in (best / 1.02, best, best * 1.02)
    }
    assert min(losses, key=losses.get) == best


def test_every_point_counts_not_every_cell():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    cells = np.array([0, 1, 1, 1, 1, 1])
    labels = np.array([0, 0, 0, 0, 1, -1])
    found = fit_temperature([(probabilities, cells, labels)])
    assert found.before.count.sum() == 5
    assert found.before.correct.sum() == 4
    # |1 - 0.9| of one point, and |3 - 4 * 0.6| of four.
    assert found.before.expected_error == pytest.approx((0.1 + 0.6) / 5)


def test_a_more_likely_temperature_that_calibrates_worse_is_not_kept():
    # One bin whose mean confidence is exact, and in which the more confident half is
    # correct less often: flatter probabilities are more likely, and keep the mean.
    sure = np.repeat([0.61, 0.66], 100)
    labels = np.repeat([0, 1, 0, 1], [66, 34, 61, 39])
    probabilities = np.column_stack([sure, 1 - sure])
    cells = np.arange(200)
    assert loss_by_loops(probabilities, cells, labels, 1.1) < loss_by_loops(
        probabilities, cells, labels, 1.0
    )
    found = fit_temperature([(probabilities, cells, labels)])
    assert found.before.expected_error == pytest.approx(0, abs=1e-9)
    assert found.value == 1
    assert found.after.expected_error == found.before.expected_error


def test_without_labels_the_temperature_is_one():
    assert fit_temperature([]).value == 1
    probabilities, cells, labels = overconfident(0, n=20)
    found = fit_temperature([(probabilities, cells, np.full_like(labels, -1))])
    assert found.value == 1
    assert found.to_dict()["points"] == 0
    assert found.to_dict()["before"]["expected_error"] is None


def test_a_temperature_survives_a_round_trip():
    found = fit_temperature([overconfident(0)])
    text = json.dumps(found.to_dict(), allow_nan=False)
    again = Temperature.from_json(text)
    assert again.value == found.value
    assert again.to_dict() == found.to_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("{}", "must be JSON"),
        ('{"temperature": "warm"}', "must be JSON"),
    ],
)
def test_a_damaged_file_is_an_error(text, message):
    with pytest.raises(DataError, match=message):
        Temperature.from_json(text)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_must_be_positive(value):
    content = {**Temperature().to_dict(), "temperature": value}
    with pytest.raises(DataError, match="must be JSON"):
        Temperature.from_json(json.dumps(content))


@pytest.fixture
def cloud():
    rng = np.random.default_rng(3)
    reference = rng.integers(-1, 4, 700)
    chance = rng.integers(0, 4, 700)
    prediction = np.where(rng.random(700) < 0.6, np.maximum(reference, 0), chance)
    return reference, prediction


def calibration_by_loops(reference, prediction, confidence):
    bins = {}
    for r, p, c in zip(reference, prediction, confidence, strict=True):
        if r == -1:
            continue
        index = next(b for b in range(BINS) if c <= (b + 1) / BINS)
        bins.setdefault(index, []).append((r == p, c))
    n = sum(map(len, bins.values()))
    error = 0.0
    for members in bins.values():
        accuracy = sum(right for right, _ in members) / len(members)
        mean = sum(c for _, c in members) / len(members)
        error += len(members) / n * abs(accuracy - mean)
    return {b: len(members) for b, members in bins.items()}, error


def test_calibration_matches_its_definition(cloud):
    confidence = np.random.default_rng(4).random(700)
    confidence[:3] = 0.0, 1.0, 0.5
    calibration = ReliabilityCounts.measure(*cloud, confidence)
    counts, error = calibration_by_loops(*cloud, confidence)
    assert dict(enumerate(calibration.count.tolist())) == counts
    assert calibration.expected_error == pytest.approx(error, rel=1e-12)


def test_a_confidence_on_the_edge_belongs_to_the_lower_bin():
    labels = np.zeros(4, int)
    calibration = ReliabilityCounts.measure(
        labels, labels, np.array([0, 1 / BINS, 2 / BINS, 1])
    )
    assert calibration.count.tolist() == [2, 1, *[0] * (BINS - 3), 1]
    np.testing.assert_allclose(calibration.confidence[0], 0.5 / BINS)
    assert np.isnan(calibration.accuracy[5])
    assert calibration.accuracy[1] == 1


def test_float32_rounding_above_one_is_accepted():
    labels = np.zeros(1, int)
    calibration = ReliabilityCounts.measure(
        labels, labels, np.array([1.0000002], np.float32)
    )
    assert calibration.total.sum() == 1


@pytest.mark.parametrize("value", [np.nan, 1.1, -0.2, np.inf])
def test_an_invalid_probability_is_an_error(value):
    labels = np.zeros(2, int)
    with pytest.raises(DataError, match=r"confidence must be a probability.*\d|nan"):
        ReliabilityCounts.measure(labels, labels, np.array([0.5, value]))


def test_a_missing_confidence_is_an_error():
    labels = np.zeros(2, int)
    with pytest.raises(DataError, match="one value for each of 2 points"):
        ReliabilityCounts.measure(labels, labels, np.array([0.5]))


def test_the_error_of_no_points_is_nan():
    assert np.isnan(ReliabilityCounts().expected_error)


@pytest.mark.parametrize(
    "content", [{}, {"count": 3}, {**Temperature().to_dict()["before"], "count": [1]}]
)
def test_damaged_reliability_counts_are_one_message(content):
    with pytest.raises(DataError, match="counts of a record are damaged"):
        ReliabilityCounts.from_dict(content)
