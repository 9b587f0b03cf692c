"""Scores as text: columns, undefined scores, rotation shares."""

import numpy as np

from vl3d_lite.evaluation.evaluation import evaluate
from vl3d_lite.evaluation.rotations import RotationReport
from vl3d_lite.report.score_tables import rotation_table, score_table

NAMES = ("ground", "roof, flat", "tree")


def make_cloud(seed, n=300):
    rng = np.random.default_rng(seed)
    reference = rng.integers(-1, 3, n)
    prediction = rng.integers(0, 3, n)
    return reference, prediction, rng.random(n)


def test_the_table_aligns_its_columns():
    evaluation = evaluate([("a", *make_cloud(1))], NAMES)
    lines = score_table(evaluation).splitlines()
    header = lines[0]
    for column in ("IoU", "P", "R", "F1"):
        end = header.index(column) + len(column)
        for line in lines[1:6]:
            assert line[end - 2].isdigit(), f"{column} ends at {end} in {line!r}"
            assert line[end : end + 1] in ("", " ")


def test_the_table_states_the_scores():
    reference, prediction = np.array([0, 0, 2, -1]), np.array([0, 2, 2, 0])
    table = score_table(evaluate([("a", reference, prediction)], NAMES))
    rows = {line.split("  ")[0]: line.split() for line in table.splitlines() if line}
    assert rows["tree"] == ["tree", "1", "2", "0.500", "0.500", "1.000", "0.667"]
    assert rows["roof, flat"][2:] == ["0", "0", "-", "-", "-", "-"]
    assert rows["mean"] == ["mean", "0.500", "0.750", "0.750", "0.667"]
    assert "mIoU 0.500   OA 0.667   mean accuracy 0.750" in table
    assert "calibration" not in table
    assert table.endswith("1 cloud, 3 points, 1 ignored\n")


def test_rotation_shares_end_with_the_means_of_group_and_others():
    rows = [
        ("90 degrees", True, 1.0, 0.5),
        ("180 degrees", True, 0.5, 0.25),
        ("17 degrees", False, 0.75, 0.125),
    ]
    table = rotation_table(RotationReport("town.laz", 8, "C4", rows))
    assert [line.split() for line in table.splitlines()] == [
        ["rotation", "with", "C4", "without"],
        ["90", "degrees", "(C4)", "100.00%", "50.00%"],
        ["180", "degrees", "(C4)", "50.00%", "25.00%"],
        ["17", "degrees", "75.00%", "12.50%"],
        ["mean", "of", "C4", "75.00%", "37.50%"],
        ["mean", "of", "the", "others", "75.00%", "12.50%"],
    ]
