"""Coverage against accuracy, by counting."""

import numpy as np
import pytest

from vl3d_lite.evaluation.coverage import STEPS, THRESHOLDS, Coverage


def cloud(seed, n=3000):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-1, 3, n)
    prediction = rng.integers(0, 3, n)
    # Float32 as files have it, in tenths of a step so that thresholds are met.
    confidence = (rng.integers(0, 10001, n) / 10000).astype(np.float32)
    return reference, prediction, confidence


def test_the_table_is_what_counting_gives():
    reference, prediction, confidence = cloud(0)
    table = Coverage.measure(reference, prediction, confidence).table()
    assert [row["confidence"] for row in table] == list(THRESHOLDS)
    for row in table:
        left = right = labelled = 0
        for truth, answer, sure in zip(reference, prediction, confidence, strict=True):
            labelled += truth >= 0
            if truth >= 0 and round(float(sure), 4) >= row["confidence"]:
                left += 1
                right += truth == answer
        assert row["coverage"] == left / labelled
        assert row["accuracy"] == right / left


def test_a_confidence_on_the_threshold_is_sure_enough():
    for threshold in THRESHOLDS:
        confidence = np.array([threshold], np.float32)
        curve = Coverage.measure(np.zeros(1, int), np.zeros(1, int), confidence).curve()
        assert curve[0][round(threshold * STEPS)] == 1


def test_what_nothing_is_left_of_has_no_accuracy():
    zeros = np.zeros(2, int)
    table = Coverage.measure(zeros, zeros, np.array([0.3, 0.4])).table()
    assert table[0] == {"confidence": 0.5, "coverage": 0.0, "accuracy": None}


def test_counts_of_clouds_add_up():
    one, other = cloud(1), cloud(2)
    both = [np.concatenate(pair) for pair in zip(one, other, strict=True)]
    added = Coverage.measure(*one) + Coverage.measure(*other)
    np.testing.assert_array_equal(added.count, Coverage.measure(*both).count)
    np.testing.assert_array_equal(added.correct, Coverage.measure(*both).correct)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.00001])
def test_the_ends_of_the_scale_count(value):
    zeros = np.zeros(1, int)
    measured = Coverage.measure(zeros, zeros, np.array([value]))
    assert measured.count.sum() == measured.correct.sum() == 1
