"""Accuracy and coverage by confidence threshold, by counting."""

import numpy as np
import pytest

from vl3d_lite.evaluation.coverage import STEPS, THRESHOLDS, ThresholdCounts


def cloud(seed, n=3000):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-1, 3, n)
    prediction = rng.integers(0, 3, n)
    # Float32 as files have it, in tenths of a step so that thresholds are met.
    confidence = (rng.integers(0, 10001, n) / 10000).astype(np.float32)
    return reference, prediction, confidence


def test_rows_equal_explicit_counts():
    reference, prediction, confidence = cloud(0)
    rows = ThresholdCounts.measure(reference, prediction, confidence).rows()
    assert [row["confidence"] for row in rows] == list(THRESHOLDS)
    for row in rows:
        left = right = labeled = 0
        for truth, answer, sure in zip(reference, prediction, confidence, strict=True):
            labeled += truth >= 0
            if truth >= 0 and round(float(sure), 4) >= row["confidence"]:
                left += 1
                right += truth == answer
        assert row["coverage"] == left / labeled
        assert row["accuracy"] == right / left


def test_a_confidence_equal_to_the_threshold_passes_it():
    for threshold in THRESHOLDS:
        confidence = np.array([threshold], np.float32)
        curve = ThresholdCounts.measure(
            np.zeros(1, int), np.zeros(1, int), confidence
        ).curve()
        assert curve[0][round(threshold * STEPS)] == 1


def test_the_accuracy_is_none_where_no_point_is_left():
    zeros = np.zeros(2, int)
    rows = ThresholdCounts.measure(zeros, zeros, np.array([0.3, 0.4])).rows()
    assert rows[0] == {"confidence": 0.5, "coverage": 0.0, "accuracy": None}


def test_counts_of_clouds_are_additive():
    one, other = cloud(1), cloud(2)
    both = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
    added = ThresholdCounts.measure(*one) + ThresholdCounts.measure(*other)
    np.testing.assert_array_equal(added.count, ThresholdCounts.measure(*both).count)
    np.testing.assert_array_equal(added.correct, ThresholdCounts.measure(*both).correct)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.00001])
def test_both_ends_of_the_confidence_scale_are_counted(value):
    zeros = np.zeros(1, int)
    measured = ThresholdCounts.measure(zeros, zeros, np.array([value]))
    assert measured.count.sum() == measured.correct.sum() == 1
