"""Pictures of disagreements."""

import numpy as np

from vl3d_lite.clouds.units import Frame
from vl3d_lite.evaluation.disagreements import find_disagreements
from vl3d_lite.report.disagreement_view import draw_disagreement

NAMES, COLORS = ("ground", "roof"), ("#c8a165", "#e66100")
ORIGIN = np.array([700000.0, 6600000.0, 0.0])


def house():
    """Ground of 40 m and a roof of 10 m along x, half of it predicted as ground."""
    steps = np.arange(0, 40, 0.25)
    x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    roof = (abs(x - 20) < 5) & (abs(y - 20) < 3)
    xyz = np.column_stack([x, y, np.where(roof, 5.0, 0.0)])
    reference = roof.astype(int)
    prediction = np.where(roof & (y > 20), 0, reference)
    return xyz, reference, prediction


def drawn(xyz, reference, prediction):
    settings = {"frame": Frame(ORIGIN, np.ones(3)), "link_distance": 0.5}
    (disagreement,) = find_disagreements(
        "town.laz",
        xyz,
        reference,
        prediction,
        None,
        NAMES,
        min_confidence=0.9,
        min_points=0,
        top=0,
        **settings,
    )
    return draw_disagreement(
        disagreement, xyz, reference, prediction, NAMES, COLORS, **settings
    )


def test_the_cross_section_runs_along_the_longer_side():
    errors, before, after = drawn(*house())
    assert [errors.title, before.title, after.title] == [
        "Errors",
        "Reference, cross-section along x",
        "Prediction, cross-section along x",
    ]
    assert "ground" in before.legend.values()
    assert "roof" in before.legend.values()
    xyz, reference, prediction = house()
    *_, along_y = drawn(xyz[:, [1, 0, 2]], reference, prediction)
    assert along_y.title == "Prediction, cross-section along y"


def test_the_cross_section_shows_reference_and_prediction():
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


def test_a_disagreement_of_one_point_has_pictures():
    zeros = np.zeros(1, int)
    pictures = drawn(np.zeros((1, 3)), zeros, zeros + 1)
    assert [picture.indices.size for picture in pictures] == [1, 1, 1]
