"""Points of two clouds are matched by their coordinates alone."""

import numpy as np

from vl3d_lite.evaluation.matching import match_points


def test_every_point_finds_its_row_in_another_order():
    rng = np.random.default_rng(0)
    source = np.unique(rng.integers(0, 40, (500, 3)), axis=0)
    order = rng.permutation(len(source))
    np.testing.assert_array_equal(
        source[order][match_points(source, source[order])], source
    )


def test_points_that_share_their_coordinates_have_no_certain_row():
    source = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 0, 0], [1, 0, 0]])
    assert match_points(source, source[::-1]).tolist() == [4, -1, -1, 1, -1]
    assert match_points(source, source).tolist() == [0, 1, 2, 3, 4]


def test_clouds_of_other_points_do_not_match():
    source = np.arange(12).reshape(4, 3)
    moved = source.copy()
    moved[2, 2] += 1
    assert match_points(source, moved) is None
    assert match_points(source, source[:3]) is None
    assert match_points(source[[0, 1, 1]], source[[0, 0, 1]]) is None
