import numpy as np
import pytest

from vl3d_lite.geometry import height
from vl3d_lite.geometry.height import height_above_minimum


def plane(extent=60.0, step=0.5, slope=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(0, extent, step), np.arange(0, extent, step))
    xyz = np.stack([x.ravel(), y.ravel(), slope * x.ravel()], axis=1)
    xyz[:, :2] += rng.uniform(0, step, (len(xyz), 2))
    xyz[:, 2] += rng.uniform(0, 0.01, len(xyz))
    return xyz


def height_by_loops(xyz, radius, grid_size):
    """The four steps of the docstring, a cell at a time."""
    edge = max(grid_size, radius / 10)
    reach = max(round(radius / edge), 2)
    half = max(int(reach / np.sqrt(2)) - 1, 0)
    lowest = {}
    for x, y, z in xyz:
        cell = (int(np.floor(x / edge)), int(np.floor(y / edge)))
        lowest[cell] = min(z, lowest.get(cell, np.inf))
    filled = {}
    for i, j in lowest:
        others = [
            lowest[i + di, j + dj]
            for di in range(-2, 3)
            for dj in range(-2, 3)
            if (di, dj) != (0, 0) and (i + di, j + dj) in lowest
        ]
        filled[i, j] = max([lowest[i, j], *([min(others)] if others else [])])

    def minimum(i, j):
        near = [z for (a, b), z in filled.items() if np.hypot(a - i, b - j) <= reach]
        return min(near, default=None)

    def ground(i, j):
        span = range(-half, half + 1)
        values = [minimum(i + di, j + dj) for di in span for dj in span]
        return np.mean([value for value in values if value is not None])

    result = []
    for x, y, z in xyz:
        u, v = x / edge - 0.5, y / edge - 0.5
        i, j = int(np.floor(u)), int(np.floor(v))
        du, dv = u - i, v - j
        below = ground(i, j) * (1 - du) + ground(i + 1, j) * du
        above = ground(i, j + 1) * (1 - du) + ground(i + 1, j + 1) * du
        result.append(z - (below * (1 - dv) + above * dv))
    return np.array(result)


@pytest.mark.parametrize(("radius", "grid_size"), [(4.0, 0.1), (3.0, 1.0), (0.5, 1.0)])
def test_matches_the_steps(radius, grid_size):
    rng = np.random.default_rng(1)
    xyz = rng.uniform(0, [9, 6, 3], (40, 3))
    result = height_above_minimum(xyz, radius, grid_size)
    expected = height_by_loops(xyz, radius, grid_size)
    np.testing.assert_allclose(result, expected, atol=1e-9)


def test_blocks_threads_and_gaps_change_nothing(monkeypatch):
    near, far = plane(20), plane(20, seed=2) + np.array([90_000.0, 40_000.0, 3.0])
    xyz = np.vstack([near, far])
    expected = [height_above_minimum(part, 5.0, 0.5) for part in (near, far)]
    for block, threads in ((7, 1), (16, 2), (512, 2)):
        monkeypatch.setattr(height, "BLOCK", block)
        result = height_above_minimum(xyz, 5.0, 0.5, threads)
        np.testing.assert_allclose(result, np.concatenate(expected), atol=1e-9)


def test_a_roof_stands_above_the_ground():
    ground = plane()
    roof = plane(12, seed=1) + np.array([20.0, 20.0, 6.0])
    inside = ((ground[:, :2] > 20) & (ground[:, :2] < 32)).all(axis=1)
    result = height_above_minimum(np.vstack([ground[~inside], roof]), 10.0, 0.5)
    np.testing.assert_allclose(result[: -len(roof)], 0, atol=0.05)
    np.testing.assert_allclose(result[-len(roof) :], 6, atol=0.05)


def test_one_low_outlier_does_no_harm():
    ground = plane()
    for depth in (5.0, 300.0):
        xyz = np.vstack([ground, [30.0, 30.0, -depth]])
        result = height_above_minimum(xyz, 10.0, 0.5)
        np.testing.assert_allclose(result[:-1], 0, atol=0.05)
        assert result[-1] < -depth + 0.1


def test_has_no_stair_steps_on_a_slope():
    xyz = plane(slope=0.3)
    result = height_above_minimum(xyz, 10.0, 0.5)
    middle = ((xyz[:, :2] > 20) & (xyz[:, :2] < 40)).all(axis=1)
    # 10 m downhill everywhere; steps of 1 m cells would spread it by 0.3 m
    assert np.ptp(result[middle]) < 0.2
    assert result[middle].std() < 0.06
    assert 2.7 < result[middle].mean() < 3.3


def test_shifting_by_whole_raster_cells_changes_nothing():
    xyz = plane(25)
    shift = np.array([7000.0, -300.0, 50.0])
    shifted = height_above_minimum(xyz + shift, 10.0, 0.5)
    np.testing.assert_allclose(shifted, height_above_minimum(xyz, 10.0, 0.5), atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_few_points_are_enough(n):
    xyz = np.zeros((n, 3))
    np.testing.assert_array_equal(height_above_minimum(xyz, 10.0, 0.5), np.zeros(n))
