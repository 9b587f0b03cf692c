"""Disagreements, against flood filling in loops."""

import csv
import io

import numpy as np
import pytest

from tests.field_clouds import make_spec
from vl3d_lite.clouds.units import Frame
from vl3d_lite.evaluation.disagreements import (
    confident_disagreements,
    disagreements_csv,
    find_disagreements,
    summarize_disagreements,
)

NAMES = ("ground", "tree", "roof")
ORIGIN = np.array([450000.0, 5410000.0, 100.0])


def find(xyz, reference, prediction, confidence=None, **changes):
    settings = {"link_distance": 1.0, "min_confidence": 0.9, "min_points": 0, "top": 0}
    settings |= changes
    return find_disagreements(
        "town.laz",
        xyz,
        reference,
        prediction,
        confidence,
        NAMES,
        frame=Frame(ORIGIN, np.ones(3)),
        **settings,
    )


def components_by_flooding(xyz, distance):
    """Points whose cells touch are joined, pair by pair, until nothing changes."""
    low = xyz.min(axis=0)
    cells = [tuple(int(v // distance) for v in row - low) for row in xyz]
    label = list(range(len(xyz)))
    changed = True
    while changed:
        changed = False
        for i, one in enumerate(cells):
            for j, other in enumerate(cells):
                touch = all(abs(a - b) <= 1 for a, b in zip(one, other, strict=True))
                if touch and label[i] != label[j]:
                    label[i] = label[j] = min(label[i], label[j])
                    changed = True
    return label


def test_disagreements_are_the_components_of_adjacent_cells():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 12, (120, 3))
    disagreements = find(xyz, np.zeros(120, int), np.ones(120, int))
    label = components_by_flooding(xyz, 1.0)
    expected = sorted((label.count(number) for number in set(label)), reverse=True)
    assert [entry.points for entry in disagreements] == expected
    assert len(expected) > 10
    assert expected[0] > 2


def test_points_are_connected_within_the_distance_and_not_far_beyond_it():
    for gap, count in ((0.99, 1), (2 * np.sqrt(3) + 0.01, 2)):
        xyz = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5], [0.5 + gap, 0.5, 0.5]])
        assert len(find(xyz, np.zeros(3, int), np.ones(3, int))) == count


def test_a_disagreement_has_one_pair_of_classes():
    xyz = np.zeros((6, 3))
    reference = np.array([0, 0, 0, 1, 1, 2])
    prediction = np.array([1, 1, 2, 0, 0, 2])
    found = {
        (entry.reference, entry.prediction): entry.points
        for entry in find(xyz, reference, prediction)
    }
    assert found == {
        ("ground", "tree"): 2,
        ("ground", "roof"): 1,
        ("tree", "ground"): 2,
    }


def test_correct_and_ignored_points_are_no_disagreement():
    xyz = np.zeros((3, 3))
    assert find(xyz, np.array([-1, 0, 1]), np.array([1, 0, 1]), top=10) == []


def test_coordinates_are_in_the_crs_of_the_cloud():
    xyz = np.array([[1.0, 2, 3], [1.5, 2, 3], [2.5, 2.25, 3.5], [50, 50, 50]])
    entry = find(xyz, np.zeros(4, int), np.array([1, 1, 1, 0]))[0]
    assert (entry.x, entry.y, entry.z) == (450001.5, 5410002.0, 103.0)
    assert (entry.x_min, entry.y_min, entry.z_min) == (450001.0, 5410002.0, 103.0)
    assert (entry.x_max, entry.y_max, entry.z_max) == (450002.5, 5410002.25, 103.5)


def test_confident_points_reach_the_minimum_confidence():
    xyz = np.zeros((4, 3))
    confidence = np.array([0.5, 0.9, 0.95, 1.0], np.float32)
    entry = find(xyz, np.zeros(4, int), np.array([1, 1, 1, 0]), confidence)[0]
    assert entry.confident_points == 2
    assert entry.mean_confidence == pytest.approx((0.5 + 0.9 + 0.95) / 3)
    assert find(xyz, np.zeros(4, int), np.ones(4, int))[0].confident_points == 0


def test_small_disagreements_are_listed_only_to_fill_the_top():
    sizes = (9, 6, 3, 2, 1)
    xyz = np.repeat(np.arange(5)[:, None] * [10.0, 0, 0], sizes, axis=0)
    zeros, ones = np.zeros(len(xyz), int), np.ones(len(xyz), int)

    def found(min_points, top):
        disagreements = find(xyz, zeros, ones, min_points=min_points, top=top)
        return [entry.points for entry in disagreements]

    assert found(min_points=2, top=0) == [9, 6, 3]
    assert found(min_points=2, top=4) == [9, 6, 3, 2]
    assert found(min_points=100, top=1) == [9]


def test_the_largest_disagreement_comes_first_regardless_of_its_classes():
    sizes = (2, 5, 3)
    xyz = np.repeat(np.arange(3)[:, None] * [10.0, 0, 0], sizes, axis=0)
    prediction = np.repeat([1, 2, 1], sizes)
    disagreements = find(xyz, np.zeros(10, int), prediction)
    found = [(entry.prediction, entry.points) for entry in disagreements]
    assert found == [("roof", 5), ("tree", 3), ("tree", 2)]


def test_confident_disagreements_exceed_the_minimum_number_of_points():
    sizes = (9, 6, 5, 3, 2)  # of them confident: 3, 6, 2, 3, 2
    xyz = np.repeat(np.arange(5)[:, None] * [10.0, 0, 0], sizes, axis=0)
    sure = [number in (0, 1, 2) for number in range(9)] + [True] * 6
    sure += [True, True, False, False, False] + [True] * 5
    disagreements = find(
        xyz,
        np.zeros(25, int),
        np.ones(25, int),
        np.where(sure, 0.95, 0.5),
        min_points=2,
        top=10,
    )
    spec = make_spec(
        evaluation={"min_points": 2, "min_confidence": 0.9, "link_distance": 3.0}
    )
    confident = confident_disagreements(disagreements, spec)
    assert [(entry.points, entry.confident_points) for entry in confident] == [
        (6, 6),
        (9, 3),
        (3, 3),
    ]
    assert summarize_disagreements(disagreements, spec) == {
        "min_points": 2,
        "link_distance": 1.5,
        "min_confidence": 0.9,
        "count": 4,
        "points": 23,
        "confident_count": 3,
        "confident_points": 12,
    }


def test_the_csv_contains_every_field():
    xyz = np.zeros((2, 3))
    text = disagreements_csv(find(xyz, np.zeros(2, int), np.ones(2, int)))
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["cloud"] == "town.laz"
    assert (row["reference"], row["prediction"]) == ("ground", "tree")
    assert (row["points"], row["mean_confidence"]) == ("2", "")
    assert float(row["y_max"]) == 5410000.0
    assert len(disagreements_csv([]).splitlines()) == 1


def test_coordinates_are_in_the_unit_of_the_file():
    foot = 1200 / 3937
    frame = Frame(np.array([400_000.0, 200_000.0, 30.0]), np.array([foot, foot, 1.0]))
    xyz = np.array([[0.0, 0, 0], [foot, 0, 1], [2 * foot, foot, 2]])
    (entry,) = find_disagreements(
        "feet.laz",
        xyz,
        np.zeros(3, int),
        np.ones(3, int),
        None,
        NAMES,
        frame=frame,
        link_distance=1.0,
        min_confidence=0.9,
        min_points=0,
    )
    x, y = 400_000 / foot, 200_000 / foot
    found = [entry.x_min, entry.y_min, entry.z_min]
    assert found == pytest.approx([x, y, 30], abs=1e-3)
    found = [entry.x_max, entry.y_max, entry.z_max]
    assert found == pytest.approx([x + 2, y + 1, 32], abs=1e-3)
    assert [entry.x, entry.z] == pytest.approx([x + 1, 31], abs=1e-3)
    assert entry.unit == "us-ft, heights in m"
    header, row = disagreements_csv([entry]).splitlines()
    assert header.endswith(",z_max,unit")
    assert row.endswith(',"us-ft, heights in m"')
