import numpy as np
import pytest

from vl3d_lite.geometry import height
from vl3d_lite.geometry.height import height_above_minimum, height_above_opening


def plane(extent=60.0, step=0.5, slope=0.0, seed=0):
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(0, extent, step), np.arange(0, extent, step))
    xyz = np.stack([x.ravel(), y.ravel(), slope * x.ravel()], axis=1)
    xyz[:, :2] += rng.uniform(0, step, (len(xyz), 2))
    xyz[:, 2] += rng.uniform(0, 0.01, len(xyz))
    return xyz


class LoopRaster:
    """The steps of the docstrings, a cell at a time."""

    def __init__(self, xyz, edge, reach):
        self.xyz, self.edge, self.reach = xyz, edge, reach
        lowest = {}
        for x, y, z in xyz:
            cell = (int(np.floor(x / edge)), int(np.floor(y / edge)))
            lowest[cell] = min(z, lowest.get(cell, np.inf))
        self.filled = {}
        for i, j in lowest:
            others = [
                lowest[i + di, j + dj]
                for di in range(-2, 3)
                for dj in range(-2, 3)
                if (di, dj) != (0, 0) and (i + di, j + dj) in lowest
            ]
            self.filled[i, j] = max([lowest[i, j], *([min(others)] if others else [])])

    def near(self, i, j):
        return [c for c in self.filled if np.hypot(c[0] - i, c[1] - j) <= self.reach]

    def minimum(self, i, j):
        return min((self.filled[cell] for cell in self.near(i, j)), default=None)

    def heights_above(self, ground):
        result = []
        for x, y, z in self.xyz:
            u, v = x / self.edge - 0.5, y / self.edge - 0.5
            i, j = int(np.floor(u)), int(np.floor(v))
            du, dv = u - i, v - j
            below = ground(i, j) * (1 - du) + ground(i + 1, j) * du
            above = ground(i, j + 1) * (1 - du) + ground(i + 1, j + 1) * du
            result.append(z - (below * (1 - dv) + above * dv))
        return np.array(result)


def above_minimum_by_loops(xyz, radius, grid_size):
    edge = max(grid_size, radius / 10)
    reach = max(round(radius / edge), 2)
    half = max(int(reach / np.sqrt(2)) - 1, 0)
    raster = LoopRaster(xyz, edge, reach)

    def ground(i, j):
        span = range(-half, half + 1)
        values = [raster.minimum(i + di, j + dj) for di in span for dj in span]
        return np.mean([value for value in values if value is not None])

    return raster.heights_above(ground)


def above_opening_by_loops(xyz, radius, grid_size):
    edge = max(grid_size, radius / 20)
    raster = LoopRaster(xyz, edge, max(round(radius / edge), 2))

    def ground(i, j):
        return max(raster.minimum(*cell) for cell in raster.near(i, j))

    return raster.heights_above(ground)


LOOPS = {
    height_above_minimum: above_minimum_by_loops,
    height_above_opening: above_opening_by_loops,
}
BOTH = pytest.mark.parametrize("height_above", LOOPS)


@pytest.mark.slow
@pytest.mark.parametrize(("radius", "grid_size"), [(4.0, 0.1), (3.0, 1.0), (0.5, 1.0)])
@BOTH
def test_matches_the_steps(height_above, radius, grid_size):
    rng = np.random.default_rng(1)
    xyz = rng.uniform(0, [9, 6, 3], (40, 3))
    result = height_above(xyz, radius, grid_size)
    expected = LOOPS[height_above](xyz, radius, grid_size)
    np.testing.assert_allclose(result, expected, atol=1e-9)


@pytest.mark.slow
@BOTH
def test_blocks_threads_and_gaps_change_nothing(height_above, monkeypatch):
    near, far = plane(20), plane(20, seed=2) + np.array([90_000.0, 40_000.0, 3.0])
    xyz = np.vstack([near, far])
    expected = [height_above(part, 5.0, 0.5) for part in (near, far)]
    for block, threads in ((7, 1), (16, 2), (512, 2)):
        monkeypatch.setattr(height, "BLOCK", block)
        result = height_above(xyz, 5.0, 0.5, threads)
        np.testing.assert_allclose(result, np.concatenate(expected), atol=1e-9)


@BOTH
@pytest.mark.parametrize("scattered", [False, True], ids=["one far", "all apart"])
def test_cells_without_points_cost_nothing(height_above, scattered, monkeypatch):
    xyz = np.random.default_rng(3).uniform(0, [40, 40, 5], (60, 3))
    expected = height_above(xyz, 10.0, 0.5)
    if scattered:  # two in each block, none within reach of another one
        xyz = np.repeat(xyz[:20], 2, axis=0)
        xyz[:, 0] += np.arange(40) * 250.0
        expected = np.zeros(40)
    else:
        xyz, expected = np.vstack([xyz, [5e7, 5e7, 0]]), np.append(expected, 0)
    cells, fill_pits = [], height._fill_pits

    def counted(raster):
        cells.append(raster.size)
        return fill_pits(raster)

    monkeypatch.setattr(height, "_fill_pits", counted)
    np.testing.assert_allclose(height_above(xyz, 10.0, 0.5), expected, atol=1e-9)
    assert max(cells) < 180**2
    assert len(cells) <= len(xyz)


@BOTH
def test_a_roof_stands_above_the_ground(height_above):
    ground = plane()
    roof = plane(12, seed=1) + np.array([20.0, 20.0, 6.0])
    inside = ((ground[:, :2] > 20) & (ground[:, :2] < 32)).all(axis=1)
    result = height_above(np.vstack([ground[~inside], roof]), 10.0, 0.5)
    np.testing.assert_allclose(result[: -len(roof)], 0, atol=0.05)
    np.testing.assert_allclose(result[-len(roof) :], 6, atol=0.05)


@BOTH
def test_one_low_outlier_does_no_harm(height_above):
    ground = plane()
    for depth in (5.0, 300.0):
        xyz = np.vstack([ground, [30.0, 30.0, -depth]])
        result = height_above(xyz, 10.0, 0.5)
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


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.3, 1.0])
def test_a_slope_is_flat_above_its_opening_and_a_house_on_it_stands_out(slope):
    hill = plane(slope=slope)
    house = ((hill[:, :2] > 25) & (hill[:, :2] < 35)).all(axis=1)
    hill[house, 2] = 35 * slope + 6
    result = height_above_opening(hill, 10.0, 0.5)
    inner = ((hill[:, :2] > 12) & (hill[:, :2] < 48)).all(axis=1)
    assert np.abs(result[inner & ~house]).max() < slope * 1.5
    assert result[house].min() > 5.5
    lifted = height_above_minimum(hill, 10.0, 0.5)
    assert lifted[inner & ~house].min() > slope * 7


def test_what_is_wider_than_the_opening_counts_as_ground():
    hall = plane() + np.array([0.0, 0.0, 8.0])
    yard = (hall[:, :2] < 24).any(axis=1)
    hall[yard, 2] -= 8
    inner = (hall[:, :2] > 28) & (hall[:, :2] < 58)  # a disk does not fill corners
    roof = inner.all(axis=1)
    np.testing.assert_allclose(height_above_opening(hall, 8.0, 0.5)[roof], 0, atol=0.05)
    assert height_above_opening(hall, 40.0, 0.5)[roof].min() > 7.9


@pytest.mark.slow
@BOTH
def test_shifting_by_whole_raster_cells_changes_nothing(height_above):
    xyz = plane(25)
    shift = np.array([7000.0, -300.0, 50.0])
    shifted = height_above(xyz + shift, 10.0, 0.5)
    np.testing.assert_allclose(shifted, height_above(xyz, 10.0, 0.5), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("n", [0, 1, 2])
@BOTH
def test_a_few_points_are_enough(height_above, n):
    xyz = np.zeros((n, 3))
    np.testing.assert_array_equal(height_above(xyz, 10.0, 0.5), np.zeros(n))
