import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.geometry.subsampling import (
    farthest_points,
    grid_cells,
    morton_keys,
    run_means,
    run_rows,
)


def key_by_loops(cell):
    key = 0
    for bit in range(21):
        for axis in range(3):
            key |= ((cell[axis] >> bit) & 1) << (3 * bit + 2 - axis)
    return key


def farthest_by_loops(xyz, count, first):
    chosen = [first]
    while len(chosen) < count:
        best, best_distance = None, -1.0
        for i in range(len(xyz)):
            if i in chosen:
                continue
            distance = min(float(np.sum((xyz[i] - xyz[j]) ** 2)) for j in chosen)
            if distance > best_distance:
                best, best_distance = i, distance
        chosen.append(best)
    return chosen


def test_keys_interleave_the_bits_of_the_cells():
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 2**21, (50, 3))
    keys = morton_keys((cells + rng.uniform(0.01, 0.99, (50, 3))) * 0.5, 0.5)
    assert keys.dtype == np.uint64
    assert [int(key) for key in keys] == [key_by_loops(c.tolist()) for c in cells]


def test_a_shifted_key_is_the_key_of_a_cell_twice_as_large():
    local = np.random.default_rng(1).uniform(0, 100, (200, 3))
    np.testing.assert_array_equal(morton_keys(local, 0.5) >> 3, morton_keys(local, 1.0))


def test_a_point_on_the_edge_of_a_cell_belongs_to_the_upper_cell():
    edges = np.arange(1, 2000) * 0.1  # 0.3 / 0.1 is 2.9999999999999996
    local = np.stack([edges, np.zeros_like(edges), np.zeros_like(edges)], axis=1)
    expected = [key_by_loops((i, 0, 0)) for i in range(1, 2000)]
    assert morton_keys(local, 0.1).tolist() == expected


def test_coordinates_below_zero_share_no_cell_with_those_above():
    local = np.array([[-0.2, 0, 0], [0.2, 0, 0]])
    assert len(grid_cells(local, 1.0).keys) == 2


def test_a_cloud_of_too_many_cells_is_refused():
    local = np.array([[0, 0, 0], [0, 3000, 0]])
    with pytest.raises(DataError, match=r"3000 m along y.*allow 2097 m"):
        morton_keys(local, 0.001)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_coordinate_that_is_not_finite_is_named(value):
    local = np.zeros((5, 3))
    local[3, 2] = value
    with pytest.raises(DataError, match="z of point 3 is not"):
        morton_keys(local, 1.0)


def test_cells_hold_the_points_of_the_same_integer_cell():
    local = np.random.default_rng(2).uniform(0, 4, (300, 3))
    cells = grid_cells(local, 1.0)
    assert np.all(np.diff(cells.keys.astype(np.int64)) > 0)
    groups = {}
    for i, corner in enumerate(np.floor(local).astype(int).tolist()):
        groups.setdefault(tuple(corner), []).append(i)
    assert len(groups) == len(cells.keys)
    for corner, points in groups.items():
        row = cells.cell_of_point[points[0]]
        assert cells.keys[row] == key_by_loops(corner)
        assert np.all(cells.cell_of_point[points] == row)
        start = cells.starts[row]
        assert cells.order[start : start + len(points)].tolist() == points


def test_means_of_runs_are_taken_in_float64():
    values = np.array([1, 2, 6, 7, 8], np.uint16)
    means = run_means(values, np.array([0, 3]))
    assert means.dtype == np.float64
    assert means.tolist() == [3.0, 7.5]


def test_rows_of_runs_follow_one_another():
    rows = run_rows(np.array([7, 0, 3]), np.array([2, 1, 3]))
    assert rows.tolist() == [7, 8, 0, 3, 4, 5]
    assert len(run_rows(np.zeros(0, int), np.zeros(0, int))) == 0


@pytest.mark.parametrize("count", [1, 7, 30])
def test_farthest_points_match_the_loops(count):
    xyz = np.random.default_rng(3).normal(size=(30, 3))
    expected = farthest_by_loops(xyz, count, first=4)
    assert farthest_points(xyz, count, first=4).tolist() == expected


def test_farthest_points_choose_no_point_twice_among_equals():
    assert sorted(farthest_points(np.ones((6, 3)), 9).tolist()) == list(range(6))


def test_farthest_points_stop_when_all_points_are_near():
    xyz = np.random.default_rng(4).uniform(0, 10, (400, 2))
    chosen = farthest_points(xyz, 400, spacing=2.0)
    gaps = np.linalg.norm(xyz[:, None] - xyz[chosen], axis=2)
    assert gaps.min(axis=1).max() <= 2.0
    assert gaps[:, :-1].min(axis=1).max() > 2.0
    assert len(chosen) < 60
