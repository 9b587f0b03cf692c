import numpy as np
import pytest

from vl3d_lite.geometry.hierarchy import build_hierarchy, children_of
from vl3d_lite.geometry.subsampling import grid_cells, run_means


def cells(n=600, size=8.0):
    local = np.random.default_rng(7).uniform(0, size, (n, 3)) * [1, 1, 0.3]
    found = grid_cells(local, 0.5)
    return run_means(local[found.order], found.starts), found.keys


def corners(xyz, edge):
    return [tuple(corner) for corner in np.floor(xyz / edge).astype(int).tolist()]


def test_levels_are_means_of_nested_grid_cells():
    xyz, keys = cells()
    levels = build_hierarchy(xyz, keys, [4, 4, 4, 4]).levels
    for number in range(3):
        fine, coarse = levels[number], levels[number + 1]
        edge = 0.5 * 2 ** (number + 1)
        groups = {}
        for row, corner in enumerate(corners(fine.xyz, edge)):
            groups.setdefault(corner, []).append(row)
        assert len(groups) == len(coarse.xyz)
        for row, corner in enumerate(corners(coarse.xyz, edge)):
            children = groups[corner]
            mean = sum(fine.xyz[child] for child in children) / len(children)
            np.testing.assert_allclose(coarse.xyz[row], mean, atol=1e-12)
            assert fine.down[row, : len(children)].tolist() == children
            assert np.all(fine.down[row, len(children) :] == -1)
            assert fine.up[children].tolist() == [[row]] * len(children)
    assert levels[3].down is None
    assert levels[3].up is None


@pytest.mark.parametrize(("interpolate", "up"), [(False, 1), (True, 3)])
def test_interlevel_neighbors_by_distance_are_the_nearest(interpolate, up):
    xyz, keys = cells()
    levels = build_hierarchy(
        xyz, keys, [5, 4, 4], interlevel_neighbors="nearest", interpolate=interpolate
    ).levels
    for fine, coarse, k in zip(levels, levels[1:], [5, 4], strict=False):
        for source, queries, rows, count in (
            (fine.xyz, coarse.xyz, fine.down, k),
            (coarse.xyz, fine.xyz, fine.up, up),
        ):
            gaps = np.linalg.norm(source - queries[:, None], axis=2)
            assert rows.shape == (len(queries), count)
            np.testing.assert_allclose(
                np.take_along_axis(gaps, rows.astype(int), axis=1),
                np.sort(gaps, axis=1)[:, :count],
            )


def test_interpolation_beside_parents_names_three():
    xyz, keys = cells()
    level = build_hierarchy(xyz, keys, [4, 4], interpolate=True).levels[0]
    assert level.up.shape[1] == 3
    assert level.down.shape[1] == 8


def test_neighbors_beyond_their_radius_are_missing():
    xyz, keys = cells()
    levels = build_hierarchy(xyz, keys, [12, 12], radii=[0.7, None]).levels
    for level, radius in zip(levels, [0.7, np.inf], strict=True):
        gaps = np.linalg.norm(level.xyz[level.neighbors] - level.xyz[:, None], axis=2)
        assert np.all(gaps[level.neighbors >= 0] < radius)
    assert (levels[0].neighbors < 0).any()
    assert not (levels[1].neighbors < 0).any()


@pytest.mark.parametrize("interlevel_neighbors", ["parents", "nearest"])
def test_one_point_goes_through_all_levels(interlevel_neighbors):
    levels = build_hierarchy(
        np.ones((1, 3)),
        np.zeros(1, np.uint64),
        [3, 2],
        interlevel_neighbors=interlevel_neighbors,
    ).levels
    assert levels[0].neighbors.tolist() == [[0, -1, -1]]
    assert levels[0].up[:, 0].tolist() == [0]
    assert levels[0].down[:, 0].tolist() == [0]
    assert np.all(levels[0].down[:, 1:] == -1)
    assert levels[1].neighbors.tolist() == [[0, -1]]


def test_progress_ends_with_all_points_of_all_levels():
    xyz, keys = cells()
    reports = []
    levels = build_hierarchy(
        xyz, keys, [4, 4], progress=lambda *report: reports.append(report)
    ).levels
    total = sum(len(level.xyz) for level in levels)
    assert reports == [(len(xyz), total), (total, total)]


def test_children_stand_left_aligned():
    children = children_of(np.array([0, 0, 0, 1, 2, 2], np.int32), 3)
    assert children.shape == (3, 8)
    assert children[:, :4].tolist() == [[0, 1, 2, -1], [3, -1, -1, -1], [4, 5, -1, -1]]
