"""Slope of the terrain, and height of what stands on it."""

import numpy as np
import pytest

from vl3d_lite.geometry.terrain import ground_slope, tall_height


def plane(slope, turn=0.0):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 100, (2, 40_000))
    return np.stack([x, y, slope * (x * np.cos(turn) + y * np.sin(turn))], axis=1)


@pytest.mark.parametrize("degrees", [5, 30])
def test_a_slope_along_both_axes_has_its_slope_along_each(degrees):
    xyz = plane(np.sqrt(2) * np.tan(np.radians(degrees)), turn=np.pi / 4)
    assert ground_slope(xyz, 5.0) == pytest.approx(degrees, abs=1)


def test_houses_hardly_change_the_slope():
    xyz = plane(0.0)
    xyz[(xyz[:, 0] < 20) & (xyz[:, 1] < 20), 2] += 8
    assert ground_slope(xyz, 5.0) == 0


def test_a_single_square_has_no_slope():
    assert ground_slope(np.zeros((3, 3)), 5.0) == 0


def test_a_row_that_ends_is_no_neighbor_of_the_next_one():
    # Two rows: the last square of the first and the first of the second.
    xyz = np.array([[0.5, 9.5, 0.0], [1.5, 0.5, 50.0]])
    assert ground_slope(xyz, 1.0) == 0


def test_the_height_of_objects_is_over_the_lowest_point_nearby():
    xyz = plane(0.0)
    xyz[:2000, 2] += 12
    assert tall_height(xyz, 20.0) == 12
    assert tall_height(xyz, 20.0, share=0.9) == 0
