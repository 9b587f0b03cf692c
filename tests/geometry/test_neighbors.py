import numpy as np
import pytest

from vl3d_lite.errors import ResourceError
from vl3d_lite.geometry import neighbors as module
from vl3d_lite.geometry.neighbors import make_tree, nearest, neighbors_within


def distances_by_loops(xyz, queries, k, radius):
    """Ascending distances of the k nearest; inf where there is none."""
    result = np.full((len(queries), k), np.inf)
    for i, query in enumerate(queries):
        found = sorted(float(np.sqrt(np.sum((p - query) ** 2))) for p in xyz)
        found = [d for d in found if radius is None or d < radius][:k]
        result[i, : len(found)] = found
    return result


def distances_of(rows, xyz, queries):
    found = np.linalg.norm(xyz[rows] - queries[:, None], axis=2)
    return np.where(rows < 0, np.inf, found)


@pytest.fixture
def xyz():
    return np.random.default_rng(5).uniform(0, 10, (120, 3))


@pytest.mark.parametrize("radius", [None, 1.5, 4.0])
@pytest.mark.parametrize("k", [1, 5, 150])
def test_neighbors_are_as_near_as_brute_force_finds_them(xyz, k, radius):
    rows = neighbors_within(xyz, k, radius=radius)
    assert rows.dtype == np.int32
    np.testing.assert_allclose(
        distances_of(rows, xyz, xyz),
        distances_by_loops(xyz, xyz, k, radius),
        atol=1e-12,
    )
    assert rows[:, 0].tolist() == list(range(120))


def test_nearest_of_other_points_match_brute_force(xyz):
    queries = np.random.default_rng(6).uniform(-2, 12, (40, 3))
    rows = nearest(make_tree(xyz), queries, 3, radius=2.0)
    np.testing.assert_allclose(
        distances_of(rows, xyz, queries),
        distances_by_loops(xyz, queries, 3, 2.0),
        atol=1e-12,
    )


@pytest.mark.parametrize("k", [1, 4, 16])
def test_a_point_lists_itself_first_and_once_among_equals(k):
    rows = neighbors_within(np.repeat(np.eye(3), 10, axis=0), k)
    assert rows[:, 0].tolist() == list(range(30))
    for row in rows:
        present = row[row >= 0]
        assert len(set(present.tolist())) == len(present)


def test_a_lonely_point_has_only_itself():
    assert neighbors_within(np.zeros((1, 3)), 4).tolist() == [[0, -1, -1, -1]]


def test_no_points_have_no_neighbors():
    assert neighbors_within(np.zeros((0, 3)), 4).shape == (0, 4)


def test_threads_and_chunks_change_nothing(xyz, monkeypatch):
    whole = neighbors_within(xyz, 8)
    done = []
    monkeypatch.setattr(module, "CHUNK", 50)
    parts = neighbors_within(xyz, 8, threads=2, progress=done.append)
    np.testing.assert_array_equal(parts, whole)
    assert done == [50, 50, 20]


@pytest.mark.slow
def test_open3d_finds_neighbors_as_near(xyz, monkeypatch):
    try:
        module.load_open3d()
    except ResourceError as error:
        pytest.skip(str(error))
    called = []
    by_open3d = module._by_open3d
    monkeypatch.setattr(
        module, "_by_open3d", lambda *args: called.append(1) or by_open3d(*args)
    )
    monkeypatch.setattr(module, "MANY", 0)
    far = xyz + 4000  # float32 alone would lose 0.2 mm there
    rows = neighbors_within(far, 64, radius=4.0)
    assert called == [1]
    assert rows.dtype == np.int32
    np.testing.assert_allclose(
        distances_of(rows, far, far),
        distances_by_loops(far, far, 64, 4.0),
        atol=1e-5,
    )
    assert rows[:, 0].tolist() == list(range(120))


@pytest.mark.parametrize(
    ("k", "radius", "suits"),
    [(64, 4.0, True), (64, None, False), (16, 2.0, False), (64, 9.0, False)],
    ids=["capped", "without a radius", "few neighbors", "wide radius"],
)
def test_open3d_serves_only_capped_searches_of_many(xyz, monkeypatch, k, radius, suits):
    searched = []
    monkeypatch.setattr(module, "_by_open3d", lambda *_: searched.append(True))
    neighbors_within(xyz, k, radius=radius)
    assert not searched
    monkeypatch.setattr(module, "MANY", 64 * 120)
    neighbors_within(xyz, k, radius=radius)
    assert bool(searched) == suits


def test_without_open3d_scipy_searches(xyz, monkeypatch):
    def fail():
        raise ResourceError("not installed")

    expected = neighbors_within(xyz, 64, radius=4.0)
    monkeypatch.setattr(module, "MANY", 0)
    monkeypatch.setattr(module, "load_open3d", fail)
    np.testing.assert_array_equal(neighbors_within(xyz, 64, radius=4.0), expected)
