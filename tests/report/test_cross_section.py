"""Slices of clouds: which points, seen how."""

import numpy as np
import pytest

from vl3d_lite.report.cross_section import CrossSection


def cloud(n=20_000, size=(80, 50), seed=3):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.random((n, 2)) * size, rng.random(n) * 12])


@pytest.mark.parametrize(("size", "along"), [((80, 50), 0), ((50, 80), 1)])
def test_a_slice_holds_the_points_near_its_plane(size, along):
    xyz = cloud(size=size)
    cut = CrossSection.through(xyz)
    assert cut.along == along
    expected = [
        i
        for i, point in enumerate(xyz)
        if abs(point[along] - cut.middle[along]) <= cut.length / 2
        and abs(point[1 - along] - cut.middle[1 - along]) <= cut.thickness / 2
        and abs(point[2] - cut.middle[2]) <= cut.length / 2
    ]
    assert cut.points.tolist() == expected
    assert abs(cut.middle[1 - along] - 25) < 2


def test_length_and_thickness_follow_the_spacing_of_the_points():
    spacing = np.sqrt(80 * 50 / 20_000)
    cut = CrossSection.through(cloud())
    assert cut.thickness == pytest.approx(6 * spacing, rel=0.01)
    assert cut.length == pytest.approx(80, rel=0.01)
    long = CrossSection.through(cloud(size=(8000, 10)))
    spacing = np.sqrt(8000 * 10 / 20_000)
    assert long.length == pytest.approx(300 * spacing, rel=0.01)
    # A dense scan shows 30 m, not a meter.
    dense = CrossSection.through(cloud(size=(40, 0.1)))
    assert dense.length == pytest.approx(30)
    assert dense.thickness == pytest.approx(30 / 50)


def test_up_is_up_and_the_nearer_point_hides_the_farther_one():
    xyz = np.array([[0, 0, 0], [10, 0, 5], [10, 1, 5], [20, 0, 0]], float)
    cut = CrossSection.at(
        xyz, np.array([10.0, 0, 2]), 0, 30, 4, side=21, per_pixel=0.01
    )
    picture = cut.view.highest(cut.points, -1)
    assert picture.shape[1] == 21
    assert picture[0, 10] == 1  # at y 0, nearer than y 1 to one who looks north
    assert picture[-1, 0] == 0
    assert picture[-1, -1] == 3


def test_odd_clouds_have_a_cut():
    assert len(CrossSection.through(np.zeros((1, 3))).points) == 1
    assert len(CrossSection.through(np.zeros((7, 3))).points) == 7
    line = np.column_stack([np.arange(50.0), np.zeros((50, 2))])
    assert len(CrossSection.through(line).points) > 20
    # A ring has nothing in its middle, and a bird is no reason to see nothing else.
    angle = np.linspace(0, 6.28, 5000)
    ring = np.column_stack([50 * np.cos(angle), 50 * np.sin(angle), 0 * angle])
    cut = CrossSection.through(np.vstack([ring, [0, 0, 900]]))
    assert len(cut.points) > 10
    assert (cut.points < 5000).all()
