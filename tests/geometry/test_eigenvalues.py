import numpy as np
import pytest

from vl3d_lite.geometry import eigenvalues as shape
from vl3d_lite.geometry.eigenvalues import density, eigenvalue_features


def shape_by_loops(xyz, radius, limit=32):
    """Every feature from `numpy.linalg.eigh`, a point at a time."""
    rows = []
    for point in xyz:
        distance = np.linalg.norm(xyz - point, axis=1)
        order = np.argsort(distance)[:limit]
        near = xyz[order[distance[order] < radius]]
        if len(near) < 3:
            rows.append([0.0] * 4)
            continue
        centered = near - near.mean(axis=0)
        values, vectors = np.linalg.eigh(centered.T @ centered / len(near))
        l3, l2, l1 = values
        normal = vectors[:, 0]
        rows.append(
            [(l1 - l2) / l1, (l2 - l3) / l1, 1 - abs(normal[2]), l3 / values.sum()]
        )
    return np.array(rows).T


@pytest.mark.parametrize("radius", [0.3, 0.8, 2.0])
def test_matches_the_definitions(radius):
    xyz = np.random.default_rng(0).uniform(0, [4, 3, 1], (300, 3))
    found = eigenvalue_features(xyz, radius, grid_size=1.0)
    expected = shape_by_loops(xyz, radius)
    for name, values in zip(shape.SHAPES, expected, strict=True):
        np.testing.assert_allclose(found[name], values, atol=2e-4, err_msg=name)


def test_chunks_and_threads_change_nothing(monkeypatch):
    xyz = np.random.default_rng(1).uniform(0, 4, (300, 3))
    whole = eigenvalue_features(xyz, 1.0, 0.5)
    monkeypatch.setattr(shape, "CHUNK", 37)
    parts = eigenvalue_features(xyz, 1.0, 0.5, threads=2)
    for name in shape.SHAPES:
        np.testing.assert_array_equal(parts[name], whole[name])


def _grid(*axes):
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(float)


STEPS = np.arange(0, 6.5, 0.5)
TILT = np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
IDEAL = {  # points, linearity, planarity, verticality, curvature at the middle
    "floor": (_grid(STEPS, STEPS, [1.0]), 0, 1, 0, 0),
    "wall": (_grid([2.0], STEPS, STEPS), 0, 1, 1, 0),
    "slope": (_grid(STEPS, STEPS, [0.0]) @ TILT, None, None, 1 - np.sqrt(0.5), 0),
    "wire": (_grid(STEPS, [0.0], [9.0]), 1, 0, 1 - np.sqrt(0.5), 0),
    "stay": (STEPS[:, None] * [[0.1, 0.2, 0.3]], 1, 0, 1 - np.sqrt(5 / 28), 0),
    "pole": (_grid([0.0], [0.0], STEPS), 1, 0, 1, 0),
    "volume": (_grid(STEPS, STEPS, STEPS), 0, 0, None, 1 / 3),
}


@pytest.mark.parametrize("name", list(IDEAL))
def test_ideal_shapes_have_their_ideal_values(name):
    xyz, *expected = IDEAL[name]
    middle = np.argmin(np.linalg.norm(xyz - np.median(xyz, axis=0), axis=1))
    found = eigenvalue_features(xyz, 0.9, grid_size=0.5)
    for key, value in zip(shape.SHAPES, expected, strict=True):
        if value is not None:
            assert found[key][middle] == pytest.approx(value, abs=1e-3), key


@pytest.mark.parametrize("offset", [0.0, 5e4])
def test_few_or_coinciding_points_are_zero(offset):
    two = np.array([[0.0, 0, 0], [0.1, 0, 0]])
    same = np.full((20, 3), 3.3)
    for xyz in (two, same, two[:1], two[:0]):
        found = eigenvalue_features(xyz + offset, 1.0, 0.5)
        for values in found.values():
            np.testing.assert_array_equal(values, np.zeros(len(xyz)))


def test_a_wide_radius_sees_beyond_the_nearest_cells():
    rng = np.random.default_rng(2)
    # a strip 2 m wide: a plane within 1 m, a line within 12 m
    xyz = np.c_[rng.uniform(0, 60, 6000), rng.uniform(0, 2, 6000), np.zeros(6000)]
    middle = (xyz[:, 0] > 20) & (xyz[:, 0] < 40)
    near = eigenvalue_features(xyz, 1.0, 0.2)["linearity"][middle].mean()
    far = eigenvalue_features(xyz, 12.0, 0.2)["linearity"][middle].mean()
    assert near < 0.5
    assert far > 0.9


def test_density_matches_the_formula():
    xyz = np.random.default_rng(3).uniform(0, 3, (200, 3))
    for radius, grid_size in ((1.0, 0.3), (0.2, 0.5)):
        expected = [
            np.log(
                np.sum(np.linalg.norm(xyz - point, axis=1) <= radius)
                / max(1, np.pi * radius**2 / grid_size**2)
            )
            for point in xyz
        ]
        np.testing.assert_allclose(density(xyz, radius, grid_size), expected)


def test_density_of_a_full_surface_is_zero():
    xyz = _grid(np.arange(0, 20, 0.25), np.arange(0, 20, 0.25), [0.0])
    inside = ((xyz[:, :2] > 5) & (xyz[:, :2] < 15)).all(axis=1)
    np.testing.assert_allclose(density(xyz, 3.0, 0.25)[inside], 0, atol=0.03)
