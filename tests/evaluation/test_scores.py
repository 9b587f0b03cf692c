import math

import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.scores import Scores, confusion_matrix


@pytest.fixture
def cloud():
    rng = np.random.default_rng(3)
    reference = rng.integers(-1, 4, 700)
    chance = rng.integers(0, 4, 700)
    prediction = np.where(rng.random(700) < 0.6, np.maximum(reference, 0), chance)
    return reference, prediction


def confusion_by_loops(reference, prediction, n):
    matrix = [[0] * n for _ in range(n)]
    for r, p in zip(reference, prediction, strict=True):
        if r != -1:
            matrix[r][p] += 1
    return matrix


def scores_by_loops(reference, prediction, n):
    """Per-class scores from sets of true and false positives, over points."""
    scores = {"precision": [], "recall": [], "f1": [], "iou": []}
    pairs = [(r, p) for r, p in zip(reference, prediction, strict=True) if r != -1]
    for k in range(n):
        tp = sum(r == k and p == k for r, p in pairs)
        fp = sum(r != k and p == k for r, p in pairs)
        fn = sum(r == k and p != k for r, p in pairs)
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        scores["precision"].append(precision)
        scores["recall"].append(recall)
        scores["f1"].append(2 * precision * recall / (precision + recall))
        scores["iou"].append(tp / (tp + fp + fn))
    return scores


def mcc_by_covariance(reference, prediction, n):
    """Gorodkin's definition: correlation of one-hot assignments, over points."""
    pairs = [(r, p) for r, p in zip(reference, prediction, strict=True) if r != -1]
    x = np.array([[float(p == k) for k in range(n)] for _, p in pairs])
    y = np.array([[float(r == k) for k in range(n)] for r, _ in pairs])

    def covariance(a, b):
        return sum(
            np.mean((a[:, k] - a[:, k].mean()) * (b[:, k] - b[:, k].mean()))
            for k in range(n)
        )

    return covariance(x, y) / math.sqrt(covariance(x, x) * covariance(y, y))


def kappa_by_loops(reference, prediction, n):
    pairs = [(r, p) for r, p in zip(reference, prediction, strict=True) if r != -1]
    agreement = sum(r == p for r, p in pairs) / len(pairs)
    chance = (
        sum(
            sum(r == k for r, _ in pairs) * sum(p == k for _, p in pairs)
            for k in range(n)
        )
        / len(pairs) ** 2
    )
    return (agreement - chance) / (1 - chance)


def test_the_confusion_matrix_counts_pairs_and_excludes_ignored_points(cloud):
    matrix = confusion_matrix(*cloud, 4)
    np.testing.assert_array_equal(matrix, confusion_by_loops(*cloud, 4))
    assert matrix.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.int32], ids=str)
def test_small_and_unsigned_integers_are_counted_correctly(dtype):
    reference = np.array([19, 0, 19, 7], dtype)
    prediction = np.array([19, 7, 0, 7], dtype)
    matrix = confusion_matrix(reference, prediction, 20)
    np.testing.assert_array_equal(matrix, confusion_by_loops(reference, prediction, 20))


@pytest.mark.parametrize(
    ("reference", "prediction", "message"),
    [
        ([0, 1], [0, 2], "prediction must hold class indices from 0 to 1"),
        ([0, -1], [0, -1], "prediction must hold class indices from 0 to 1"),
        ([0, 2], [0, 1], "reference must hold class indices from -1 to 1"),
        ([0, -2], [0, 1], "reference must hold class indices from -1 to 1"),
        ([0, 1, 1], [0, 1], "Received: 3 and 2 points"),
        ([0, 1], [0.0, 1.0], "prediction must be a vector of integers"),
        ([[0, 1]], [0, 1], "reference must be a vector of integers"),
    ],
)
def test_an_invalid_class_index_is_an_error(reference, prediction, message):
    with pytest.raises(DataError, match=message):
        confusion_matrix(np.array(reference), np.array(prediction), 2)


@pytest.mark.parametrize("metric", ["precision", "recall", "f1", "iou"])
def test_per_class_scores_match_counts_of_true_and_false(cloud, metric):
    scores = Scores(confusion_matrix(*cloud, 4))
    expected = scores_by_loops(*cloud, 4)[metric]
    np.testing.assert_allclose(getattr(scores, metric), expected, rtol=1e-12)
    assert scores.macro(metric) == pytest.approx(sum(expected) / 4, rel=1e-12)
    support = [int((cloud[0] == k).sum()) for k in range(4)]
    weighted = sum(s * x for s, x in zip(support, expected, strict=True)) / sum(support)
    assert scores.weighted(metric) == pytest.approx(weighted, rel=1e-12)


def test_overall_scores_match_their_definitions(cloud):
    scores = Scores(confusion_matrix(*cloud, 4))
    assert scores.mcc == pytest.approx(mcc_by_covariance(*cloud, 4), rel=1e-12)
    assert scores.kappa == pytest.approx(kappa_by_loops(*cloud, 4), rel=1e-12)
    labeled = cloud[0] >= 0
    share = np.mean(cloud[0][labeled] == cloud[1][labeled])
    assert scores.overall_accuracy == pytest.approx(share)
    assert scores.points == labeled.sum()


def test_a_matrix_small_enough_to_score_by_hand():
    scores = Scores(np.array([[6, 2], [1, 1]]))
    np.testing.assert_allclose(scores.precision, [6 / 7, 1 / 3])
    np.testing.assert_allclose(scores.recall, [6 / 8, 1 / 2])
    np.testing.assert_allclose(scores.f1, [12 / 15, 2 / 5])
    np.testing.assert_allclose(scores.iou, [6 / 9, 1 / 4])
    np.testing.assert_array_equal(scores.support, [8, 2])
    np.testing.assert_array_equal(scores.predicted, [7, 3])
    assert scores.overall_accuracy == pytest.approx(0.7)
    assert scores.mean_accuracy == pytest.approx((6 / 8 + 1 / 2) / 2)
    assert scores.mean_iou == pytest.approx((6 / 9 + 1 / 4) / 2)
    # Of two classes: (TP TN - FP FN) / sqrt of the product of the margins.
    assert scores.mcc == pytest.approx((6 * 1 - 1 * 2) / math.sqrt(8 * 2 * 7 * 3))
    assert scores.kappa == pytest.approx((0.7 - 0.62) / (1 - 0.62))


def test_a_class_that_never_occurs_is_excluded_from_every_mean():
    without = Scores(np.array([[6, 2], [1, 1]]))
    with_absent = Scores(np.array([[6, 0, 2], [0, 0, 0], [1, 0, 1]]))
    for metric in ("precision", "recall", "f1", "iou"):
        assert np.isnan(getattr(with_absent, metric)[1])
        assert with_absent.macro(metric) == without.macro(metric)
        assert with_absent.weighted(metric) == without.weighted(metric)
    assert with_absent.mean_accuracy == without.mean_accuracy
    assert with_absent.mcc == pytest.approx(without.mcc)


def test_a_class_that_is_only_predicted_lowers_mean_iou_but_not_mean_accuracy():
    scores = Scores(np.array([[9, 1], [0, 0]]))
    np.testing.assert_allclose(scores.iou, [0.9, 0])
    np.testing.assert_allclose(scores.recall, [0.9, 0])
    assert scores.mean_iou == pytest.approx(0.45)
    assert scores.mean_accuracy == pytest.approx(0.9)


def test_classes_without_reference_points_are_unknown():
    scores = Scores(np.array([[8, 1, 1], [2, 8, 0], [0, 0, 0]]))
    np.testing.assert_allclose(scores.known_iou, [8 / 12, 8 / 11, np.nan])
    assert scores.known_mean_iou == pytest.approx((8 / 12 + 8 / 11) / 2)
    assert scores.mean_iou == pytest.approx((8 / 12 + 8 / 11 + 0) / 3)


def test_a_reference_of_one_class_gives_no_mean_of_known_classes():
    perfect = Scores(np.array([[8, 0], [0, 0]]))
    assert perfect.mean_iou == 1
    assert math.isnan(perfect.known_mean_iou)


def test_a_class_that_is_never_predicted_scores_zero():
    scores = Scores(np.array([[9, 0], [1, 0]]))
    assert scores.precision[1] == scores.recall[1] == scores.f1[1] == scores.iou[1] == 0


def test_scores_without_a_denominator_are_nan():
    empty = Scores(np.zeros((3, 3), np.int64))
    single = Scores(np.diag([5, 0, 0]))
    for score in (empty.overall_accuracy, empty.mean_iou, empty.mcc, empty.kappa):
        assert np.isnan(score)
    assert np.isnan(empty.weighted("f1"))
    assert np.isnan(empty.mean_accuracy)
    assert single.overall_accuracy == single.mean_iou == 1
    assert np.isnan(single.mcc)
    assert np.isnan(single.kappa)


def test_ten_billion_points_do_not_overflow():
    small = Scores(np.array([[6, 2], [1, 1]]))
    large = Scores(np.array([[6, 2], [1, 1]]) * 10**10)
    assert large.mcc == pytest.approx(small.mcc)
    assert large.kappa == pytest.approx(small.kappa)
