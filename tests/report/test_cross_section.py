"""Cross-sections of clouds: their points and pixels."""

import numpy as np
import pytest

from vl3d_lite.report.cross_section import CrossSection


def cloud(n=20_000, size=(80, 50), seed=3):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.random((n, 2)) * size, rng.random(n) * 12])


@pytest.mark.parametrize(("size", "along"), [((80, 50), 0), ((50, 80), 1)])
def test_a_section_contains_the_points_near_its_plane(size, along):
    xyz = cloud(size=size)
    section = CrossSection.through(xyz)
    assert section.along == along
    expected = [
        i
        for i, point in enumerate(xyz)
        if abs(point[along] - section.middle[along]) <= section.length / 2
        and abs(point[1 - along] - section.middle[1 - along]) <= section.thickness / 2
        and abs(point[2] - section.middle[2]) <= section.length / 2
    ]
    assert section.points.tolist() == expected
    assert abs(section.middle[1 - along] - 25) < 2


def test_length_and_thickness_scale_with_the_point_spacing():
    spacing = np.sqrt(80 * 50 / 20_000)
    section = CrossSection.through(cloud())
    assert section.thickness == pytest.approx(6 * spacing, rel=0.01)
    assert section.length == pytest.approx(80, rel=0.01)
    long = CrossSection.through(cloud(size=(8000, 10)))
    spacing = np.sqrt(8000 * 10 / 20_000)
    assert long.length == pytest.approx(300 * spacing, rel=0.01)
    # A dense scan shows 30 m, not a meter.
    dense = CrossSection.through(cloud(size=(40, 0.1)))
    assert dense.length == pytest.approx(30)
    assert dense.thickness == pytest.approx(30 / 50)


def test_up_is_up_and_nearer_points_hide_farther_ones():
    xyz = np.array([[0, 0, 0], [10, 0, 5], [10, 1, 5], [20, 0, 0]], float)
    section = CrossSection.at(
        xyz, np.array([10.0, 0, 2]), 0, 30, 4, side=21, per_pixel=0.01
    )
    picture = section.view.highest(section.points, -1)
    assert picture.shape[1] == 21
    assert picture[0, 10] == 1  # at y 0, nearer than y 1 to one who looks north
    assert picture[-1, 0] == 0
    assert picture[-1, -1] == 3


def test_degenerate_clouds_have_a_section():
    assert len(CrossSection.through(np.zeros((1, 3))).points) == 1
    assert len(CrossSection.through(np.zeros((7, 3))).points) == 7
    line = np.column_stack([np.arange(50.0), np.zeros((50, 2))])
    assert len(CrossSection.through(line).points) > 20
    # A ring has nothing in its middle, and a bird is no reason to see nothing else.
    angle = np.linspace(0, 6.28, 5000)
    ring = np.column_stack([50 * np.cos(angle), 50 * np.sin(angle), 0 * angle])
    section = CrossSection.through(np.vstack([ring, [0, 0, 900]]))
    assert len(section.points) > 10
    assert (section.points < 5000).all()
