import json

import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.evaluation import Evaluation, ScoredCloud, evaluate
from vl3d_lite.prediction.calibration import ReliabilityCounts
from vl3d_lite.report.score_tables import score_table

NAMES = ("ground", "roof, flat", "tree")


def make_cloud(seed, n=300):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-1, 3, n)
    prediction = rng.integers(0, 3, n)
    return reference, prediction, rng.random(n)


def test_pooled_scores_are_those_of_all_points_together():
    a, b = make_cloud(1), make_cloud(2, 50)
    pooled = evaluate([("a", *a), ("b", *b)], NAMES).pooled
    joined = [np.concatenate(pair) for pair in zip(a, b, strict=True)]
    one = evaluate([("both", *joined)], NAMES).clouds["both"]
    np.testing.assert_array_equal(pooled.confusion, one.confusion)
    np.testing.assert_array_equal(pooled.calibration.count, one.calibration.count)
    np.testing.assert_array_equal(pooled.calibration.correct, one.calibration.correct)
    np.testing.assert_allclose(pooled.calibration.total, one.calibration.total)
    assert pooled.ignored == one.ignored == (joined[0] == -1).sum()


def test_evaluations_of_workers_add_up_in_any_split():
    clouds = {name: make_cloud(seed) for seed, name in enumerate("abc")}
    whole = evaluate([(name, *arrays) for name, arrays in clouds.items()], NAMES)
    first = [("a", *clouds["a"]), ("b", *(x[:100] for x in clouds["b"]))]
    second = [("b", *(x[100:] for x in clouds["b"])), ("c", *clouds["c"])]
    merged = evaluate(first, NAMES) + evaluate(second, NAMES)
    assert list(merged.clouds) == ["a", "b", "c"]
    for name in "abc":
        np.testing.assert_array_equal(
            merged.clouds[name].confusion, whole.clouds[name].confusion
        )
    assert merged.to_dict()["pooled"]["points"] == whole.to_dict()["pooled"]["points"]
    assert merged.to_dict()["pooled"]["calibration"]["expected_error"] == pytest.approx(
        whole.to_dict()["pooled"]["calibration"]["expected_error"]
    )


def test_adding_evaluations_changes_neither_operand():
    a, b = evaluate([("a", *make_cloud(1))], NAMES), Evaluation(NAMES)
    before = a.to_dict()
    assert (a + a).pooled.scores.points == 2 * a.pooled.scores.points
    assert (b + a).to_dict() == a.to_dict() == before
    assert b.clouds == {}


def test_evaluations_of_different_classes_cannot_be_added():
    with pytest.raises(DataError, match="different classes"):
        Evaluation(("a", "b")) + Evaluation(("b", "a"))


def test_a_repeated_class_name_is_an_error():
    with pytest.raises(DataError, match="must differ"):
        Evaluation(("a", "a"))


def test_an_error_names_the_cloud():
    good, bad = np.array([0, 1]), np.array([0, 3])
    with pytest.raises(DataError, match=r"^town\.las: prediction must hold"):
        evaluate([("yard.las", good, good), ("town.las", good, bad)], NAMES)


def test_metrics_are_strict_json_with_null_for_undefined_scores():
    reference, prediction = np.array([0, 0, 2, -1]), np.array([0, 2, 2, 0])
    evaluation = evaluate([("a", reference, prediction)], NAMES)
    metrics = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert metrics == evaluation.to_dict()
    assert metrics["class_names"] == list(NAMES)
    assert metrics["clouds"]["a"] == metrics["pooled"]
    pooled = metrics["pooled"]
    assert pooled["points"] == 3
    assert pooled["ignored"] == 1
    assert pooled["confusion"] == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert pooled["mean_iou"] == 0.5
    assert pooled["macro"]["recall"] == 0.75
    assert pooled["weighted"]["recall"] == pytest.approx(2 / 3)
    assert pooled["per_class"]["roof, flat"]["iou"] is None
    assert pooled["per_class"]["tree"] == {
        "support": 1,
        "predicted": 2,
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "iou": 0.5,
    }
    assert pooled["calibration"] is None


def test_metrics_of_no_cloud_are_strict_json():
    metrics = Evaluation(NAMES).to_dict()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["pooled"]["mcc"] is None
    assert "0 clouds, 0 points" in score_table(Evaluation(NAMES))


def test_metrics_hold_the_reliability_bins():
    labels = np.array([0, 0, 1])
    confidence = np.array([0.9, 0.91, 0.3])
    evaluation = evaluate([("a", labels, np.zeros(3, int), confidence)], NAMES)
    calibration = evaluation.to_dict()["pooled"]["calibration"]
    assert calibration["expected_error"] == pytest.approx((0.19 + 0.3) / 3)
    filled = {
        i: bin_["count"] for i, bin_ in enumerate(calibration["bins"]) if bin_["count"]
    }
    assert filled == {4: 1, 13: 2}
    assert calibration["bins"][0]["accuracy"] is None
    assert calibration["bins"][-1]["upper"] == 1


def test_metrics_contain_the_error_before_calibration():
    labels = np.array([0, 0, 1, -1])
    after = np.array([0.9, 0.91, 0.3, 0.2])
    before = ReliabilityCounts.measure(labels, np.zeros(4, int), np.full(4, 0.5))
    cloud = ScoredCloud("a", labels, np.zeros(4, int), after, before)
    evaluation = evaluate([cloud], NAMES)
    calibration = evaluation.to_dict()["pooled"]["calibration"]
    assert calibration["uncalibrated_error"] == pytest.approx(2 / 3 - 0.5)
    assert "uncalibrated 0.167" in score_table(evaluation)


def test_the_uncalibrated_error_is_null_unless_all_points_have_it():
    labels = np.array([0, 0, 1, -1])
    after = np.full(4, 0.9)
    before = ReliabilityCounts.measure(labels, np.zeros(4, int), np.full(4, 0.5))
    clouds = [
        ScoredCloud("a", labels, np.zeros(4, int), after, before),
        ScoredCloud("b", labels, np.zeros(4, int), after),
    ]
    metrics = evaluate(clouds, NAMES).to_dict()
    assert metrics["pooled"]["calibration"]["uncalibrated_error"] is None
    assert metrics["clouds"]["a"]["calibration"]["uncalibrated_error"] > 0


def test_rejected_points_count_by_their_class_and_not_among_accepted_points():
    reference = np.array([0, 0, 1, 2, -1])
    prediction = np.array([0, 1, 1, 0, 0])
    accepted = np.array([True, False, True, False, True])
    evaluation = evaluate(
        [ScoredCloud("a", reference, prediction, accepted=accepted)], NAMES
    )
    pooled = evaluation.to_dict()["pooled"]
    assert pooled["points"] == 4
    assert pooled["overall_accuracy"] == 0.5
    assert pooled["accepted"]["points"] == 2
    assert pooled["accepted"]["coverage"] == 0.5
    assert pooled["accepted"]["overall_accuracy"] == 1
    assert pooled["accepted"]["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert "accepted points only (50.0 %)   mIoU 1.000   OA 1.000" in score_table(
        evaluation
    )


def test_a_cloud_without_a_threshold_has_accepted_all_of_its_points():
    reference, prediction = np.array([0, 1]), np.array([0, 0])
    clouds = [
        ScoredCloud("a", reference, prediction, accepted=np.array([True, False])),
        ScoredCloud("b", reference, prediction),
    ]
    evaluation = evaluate(clouds, NAMES)
    assert evaluation.to_dict()["pooled"]["accepted"]["points"] == 3
    assert evaluation.to_dict()["clouds"]["b"]["accepted"] is None
    alone = evaluate(clouds[1:], NAMES)
    assert alone.to_dict()["pooled"]["accepted"] is None
    assert "accepted points" not in score_table(alone)


def test_clouds_without_confidence_do_not_affect_calibration():
    a, b = make_cloud(1), make_cloud(2)
    mixed = evaluate([("a", *a), ("b", *b[:2]), ("c", *b[:2], None)], NAMES)
    alone = evaluate([("a", *a)], NAMES)
    assert (
        mixed.to_dict()["pooled"]["calibration"]
        == alone.to_dict()["pooled"]["calibration"]
    )
