import numpy as np
import pytest

from vl3d_lite.geometry.regions import BoxTree, Shape
from vl3d_lite.geometry.subsampling import grid_cells, run_means

SHAPES = {
    "cylinder": Shape(np.array([3.0, 3.0]), round=True),
    "sphere": Shape(np.array([3.0, 3.0, 3.0]), round=True),
    "2D box": Shape(np.array([2.0, 4.0]), round=False),
    "3D box": Shape(np.array([2.0, 4.0, 1.0]), round=False),
}


def inside_by_loops(name, xyz, center):
    rows = []
    for i, (dx, dy, dz) in enumerate(xyz - center):
        inside = {
            "cylinder": dx**2 + dy**2 <= 9,
            "sphere": dx**2 + dy**2 + dz**2 <= 9,
            "2D box": abs(dx) <= 2 and abs(dy) <= 4,
            "3D box": abs(dx) <= 2 and abs(dy) <= 4 and abs(dz) <= 1,
        }[name]
        if inside:
            rows.append(i)
    return rows


@pytest.fixture(scope="module")
def cloud():
    local = np.random.default_rng(8).uniform(0, 30, (8000, 3)) * [1, 1, 0.2]
    found = grid_cells(local, 0.5)
    return run_means(local[found.order], found.starts), found.keys


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_points_inside_are_those_the_loops_find(cloud, name):
    xyz, keys = cloud
    tree, shape = BoxTree(xyz, keys), SHAPES[name]
    assert len(tree.tiers) > 1
    for center in ([15, 15, 3], [0, 0, 0], [29, 14, 6.5], [80, 0, 0]):
        rows, measures = tree.inside(shape, np.array(center), shape.limit)
        assert rows.tolist() == inside_by_loops(name, xyz, center)
        offsets = list((xyz[rows] - center).T[: shape.axes])
        np.testing.assert_array_equal(measures, shape.measure(offsets))


@pytest.mark.parametrize("name", SHAPES)
def test_a_scaled_shape_ends_at_the_measure(name):
    shape = SHAPES[name]
    small = shape.scaled(shape.limit / 4)
    factor = 0.5 if shape.round else 0.25
    np.testing.assert_allclose(small.halves, shape.halves * factor)


def test_a_tree_of_one_point_finds_it():
    tree = BoxTree(np.zeros((1, 3)), np.zeros(1, np.uint64))
    assert tree.inside(SHAPES["sphere"], np.ones(3), 3.0)[0].tolist() == [0]
    assert tree.inside(SHAPES["sphere"], np.ones(3), 2.9)[0].tolist() == []
