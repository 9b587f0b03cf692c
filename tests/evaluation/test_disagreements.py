"""Places of errors, against flood filling in loops."""

import csv
import io

import numpy as np
import pytest

from tests.field_clouds import make_spec
from vl3d_lite.evaluation.disagreements import (
    confident_disagreements,
    disagreements_csv,
    find_disagreements,
    summarize_disagreements,
)

NAMES = ("ground", "tree", "roof")
ORIGIN = np.array([450000.0, 5410000.0, 100.0])


def find(xyz, reference, prediction, confidence=None, **changes):
    settings = {"distance": 1.0, "confident": 0.9, "points": 0, "always": 0} | changes
    return find_disagreements(
        "town.laz",
        xyz,
        reference,
        prediction,
        confidence,
        NAMES,
        origin=ORIGIN,
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


def test_places_are_the_components_of_touching_cells():
    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 12, (120, 3))
    places = find(xyz, np.zeros(120, int), np.ones(120, int))
    label = components_by_flooding(xyz, 1.0)
    expected = sorted((label.count(number) for number in set(label)), reverse=True)
    assert [place.points for place in places] == expected
    assert len(expected) > 10
    assert expected[0] > 2


def test_points_within_the_distance_are_one_place_and_far_ones_are_not():
    for gap, count in ((0.99, 1), (2 * np.sqrt(3) + 0.01, 2)):
        xyz = np.array([[0.0, 0, 0], [0.5, 0.5, 0.5], [0.5 + gap, 0.5, 0.5]])
        assert len(find(xyz, np.zeros(3, int), np.ones(3, int))) == count


def test_a_place_has_one_pair_of_classes():
    xyz = np.zeros((6, 3))
    reference = np.array([0, 0, 0, 1, 1, 2])
    prediction = np.array([1, 1, 2, 0, 0, 2])
    found = {
        (place.reference, place.prediction): place.points
        for place in find(xyz, reference, prediction)
    }
    assert found == {
        ("ground", "tree"): 2,
        ("ground", "roof"): 1,
        ("tree", "ground"): 2,
    }


def test_right_and_ignored_points_make_no_place():
    xyz = np.zeros((3, 3))
    assert find(xyz, np.array([-1, 0, 1]), np.array([1, 0, 1]), always=10) == []


def test_a_place_tells_where_it_is_in_the_clouds_coordinates():
    xyz = np.array([[1.0, 2, 3], [1.5, 2, 3], [2.5, 2.25, 3.5], [50, 50, 50]])
    place = find(xyz, np.zeros(4, int), np.array([1, 1, 1, 0]))[0]
    assert (place.x, place.y, place.z) == (450001.5, 5410002.0, 103.0)
    assert (place.x_min, place.y_min, place.z_min) == (450001.0, 5410002.0, 103.0)
    assert (place.x_max, place.y_max, place.z_max) == (450002.5, 5410002.25, 103.5)


def test_confident_points_are_counted():
    xyz = np.zeros((4, 3))
    confidence = np.array([0.5, 0.9, 0.95, 1.0], np.float32)
    place = find(xyz, np.zeros(4, int), np.array([1, 1, 1, 0]), confidence)[0]
    assert place.confident_points == 2
    assert place.mean_confidence == pytest.approx((0.5 + 0.9 + 0.95) / 3)
    assert find(xyz, np.zeros(4, int), np.ones(4, int))[0].confident_points == 0


def test_small_places_are_listed_only_to_fill_the_first_ten():
    sizes = (9, 6, 3, 2, 1)
    xyz = np.repeat(np.arange(5)[:, None] * [10.0, 0, 0], sizes, axis=0)
    zeros, ones = np.zeros(len(xyz), int), np.ones(len(xyz), int)

    def found(points, always):
        places = find(xyz, zeros, ones, points=points, always=always)
        return [place.points for place in places]

    assert found(points=2, always=0) == [9, 6, 3]
    assert found(points=2, always=4) == [9, 6, 3, 2]
    assert found(points=100, always=1) == [9]


def test_the_largest_place_comes_first_whatever_its_classes():
    sizes = (2, 5, 3)
    xyz = np.repeat(np.arange(3)[:, None] * [10.0, 0, 0], sizes, axis=0)
    prediction = np.repeat([1, 2, 1], sizes)
    places = find(xyz, np.zeros(10, int), prediction)
    found = [(place.prediction, place.points) for place in places]
    assert found == [("roof", 5), ("tree", 3), ("tree", 2)]


def test_confident_disagreements_have_more_confident_points_than_asked_for():
    sizes = (9, 6, 5, 3, 2)  # of them confident: 3, 6, 2, 3, 2
    xyz = np.repeat(np.arange(5)[:, None] * [10.0, 0, 0], sizes, axis=0)
    sure = [number in (0, 1, 2) for number in range(9)] + [True] * 6
    sure += [True, True, False, False, False] + [True] * 5
    places = find(
        xyz,
        np.zeros(25, int),
        np.ones(25, int),
        np.where(sure, 0.95, 0.5),
        points=2,
        always=10,
    )
    spec = make_spec(
        evaluation={"min_points": 2, "min_confidence": 0.9, "link_distance": 3.0}
    )
    confident = confident_disagreements(places, spec)
    assert [(place.points, place.confident_points) for place in confident] == [
        (6, 6),
        (9, 3),
        (3, 3),
    ]
    assert summarize_disagreements(places, spec) == {
        "more_than_points": 2,
        "distance": 1.5,
        "confident_from": 0.9,
        "places": 4,
        "points": 23,
        "confident_disagreements": 3,
        "confident_points": 12,
    }


def test_the_table_holds_every_field():
    xyz = np.zeros((2, 3))
    text = disagreements_csv(find(xyz, np.zeros(2, int), np.ones(2, int)))
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["cloud"] == "town.laz"
    assert (row["reference"], row["prediction"]) == ("ground", "tree")
    assert (row["points"], row["mean_confidence"]) == ("2", "")
    assert float(row["y_max"]) == 5410000.0
    assert len(disagreements_csv([]).splitlines()) == 1
