"""Rows of metrics.csv."""

import csv

import numpy as np

from vl3d_lite.evaluation.evaluation import evaluate
from vl3d_lite.evaluation.tables import ALL_CLASSES, ALL_CLOUDS

NAMES = ("ground", "roof, flat", "tree")


def make_cloud(seed, n=300):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-1, 3, n)
    prediction = rng.integers(0, 3, n)
    return reference, prediction, rng.random(n)


def test_the_csv_has_a_row_per_cloud_and_class(tmp_path):
    a, b = make_cloud(1), make_cloud(2)
    evaluation = evaluate([("a", *a), ("b", *b)], NAMES)
    evaluation.write_csv(tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = {(row["cloud"], row["class"]): row for row in csv.DictReader(stream)}
    assert set(rows) == {
        (cloud, name)
        for cloud in (ALL_CLOUDS, "a", "b")
        for name in (*NAMES, ALL_CLASSES)
    }
    expected = evaluation.clouds["b"].scores
    assert float(rows["b", "roof, flat"]["iou"]) == expected.iou[1]
    assert int(rows["b", "tree"]["points"]) == expected.support[2]
    assert float(rows["b", ALL_CLASSES]["iou"]) == expected.mean_iou
    assert float(rows["b", ALL_CLASSES]["kappa"]) == expected.kappa
    assert float(rows[ALL_CLOUDS, ALL_CLASSES]["mcc"]) == evaluation.scores.mcc
    assert rows["b", "tree"]["kappa"] == ""


def test_undefined_scores_are_empty_in_the_csv(tmp_path):
    evaluate([("a", np.array([0]), np.array([0]))], NAMES).write_csv(tmp_path / "m.csv")
    text = (tmp_path / "m.csv").read_text(encoding="utf-8")
    assert "nan" not in text.lower()
    assert "a,tree,0,0,,,,,,,,\n" in text
