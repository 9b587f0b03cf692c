"""Pictures of places: what lies in them, and where."""

import numpy as np

from vl3d_lite.evaluation.disagreements import find_disagreements
from vl3d_lite.report.disagreement_view import draw_place

NAMES, COLORS = ("ground", "roof"), ("#c8a165", "#e66100")
ORIGIN = np.array([700000.0, 6600000.0, 0.0])


def house():
    """Ground 40 m wide; a roof 10 m long in x, its northern half taken for ground."""
    steps = np.arange(0, 40, 0.25)
    x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    roof = (abs(x - 20) < 5) & (abs(y - 20) < 3)
    xyz = np.column_stack([x, y, np.where(roof, 5.0, 0.0)])
    reference = roof.astype(int)
    prediction = np.where(roof & (y > 20), 0, reference)
    return xyz, reference, prediction


def drawn(xyz, reference, prediction):
    settings = {"origin": ORIGIN, "distance": 0.5}
    (place,) = find_disagreements(
        "town.laz",
        xyz,
        reference,
        prediction,
        None,
        NAMES,
        confident=0.9,
        points=0,
        always=0,
        **settings,
    )
    return draw_place(place, xyz, reference, prediction, NAMES, COLORS, **settings)


def test_a_place_is_seen_from_above_and_in_a_cut_along_its_longer_side():
    errors, before, after = drawn(*house())
    assert [errors.title, before.title, after.title] == [
        "Errors",
        "Reference, cut along x",
        "Prediction, cut along x",
    ]
    assert "ground" in before.legend.values()
    assert "roof" in before.legend.values()
    xyz, reference, prediction = house()
    *_, along_y = drawn(xyz[:, [1, 0, 2]], reference, prediction)
    assert along_y.title == "Prediction, cut along y"


def test_a_cut_shows_what_was_taken_for_what():
    _, before, after = drawn(*house())
    ground, roof = 2, 3  # 0 is empty, 1 ignored
    upper = slice(0, len(before.indices) // 2)
    assert (before.indices[upper] == roof).sum() > 10
    assert (before.indices[upper] == ground).sum() == 0
    assert (after.indices[upper] == ground).sum() > 10


def test_only_the_surroundings_are_drawn():
    xyz, reference, prediction = house()
    far = np.array([[5000.0, 5000.0, 0.0]])
    more = np.concatenate([xyz, far]), np.append(reference, 0), np.append(prediction, 0)
    for one, other in zip(drawn(*house()), drawn(*more), strict=True):
        np.testing.assert_array_equal(one.indices, other.indices)


def test_a_place_of_one_point_has_pictures():
    zeros = np.zeros(1, int)
    pictures = drawn(np.zeros((1, 3)), zeros, zeros + 1)
    assert [picture.indices.size for picture in pictures] == [1, 1, 1]
