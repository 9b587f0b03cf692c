import numpy as np
import pytest

from tests.dataset.test_extractor import SHAPES
from tests.field_clouds import CYLINDER, make_spec, prepared
from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.centers import lattice_centers
from vl3d_lite.dataset.extractor import FieldExtractor, field_shape
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.dataset.sweep import cover


def counts_by_loops(sweep, n):
    counts = [0] * n
    for rows in sweep.rows:
        for row in rows.tolist():
            counts[row] += 1
    return counts


@pytest.mark.parametrize("points", [(400, 120), (90, 60)], ids=["roomy", "crop"])
@pytest.mark.parametrize("way", ["grid", "farthest"])
@pytest.mark.parametrize("name", SHAPES)
def test_every_cell_has_its_votes(name, way, points):
    spec = make_spec({**SHAPES[name], "prediction_centers": way}, points)
    cloud = prepared(spec)
    sweep = cover(cloud, spec, votes=2)
    counts = counts_by_loops(sweep, len(cloud.xyz))
    assert counts == sweep.counts.tolist()
    assert min(counts) >= 2
    for center, rows in zip(sweep.centers, sweep.rows, strict=True):
        assert 1 <= len(rows) <= points[0]
        np.testing.assert_array_equal(rows, FieldExtractor(cloud, spec).select(center))


def test_holes_of_a_wide_lattice_are_filled():
    spec = make_spec({**CYLINDER, "overlap": 0.0})
    cloud = prepared(spec)
    shape = field_shape(spec.fields)
    centers = lattice_centers(cloud.xyz, shape, 0.0, np.zeros(3))
    gaps = np.linalg.norm(cloud.xyz[:, None, :2] - centers[:, :2], axis=2)
    assert gaps.min(axis=1).max() > 4.1
    assert cover(cloud, spec, votes=2).counts.min() >= 2


def test_every_cell_has_its_votes_though_fields_are_thinned():
    spec = make_spec({**CYLINDER, "sampling": "farthest"}, (100, 30))
    cloud = prepared(spec)
    sweep = cover(cloud, spec, votes=1)
    assert min(counts_by_loops(sweep, len(cloud.xyz))) >= 1
    assert max(len(rows) for rows in sweep.rows) == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("cylinder", 1.7), ("2D box", 1.9), ("sphere", 2.1)]
)
def test_a_large_cloud_is_covered_by_few_fields(name, most):
    spec = make_spec(SHAPES[name], (2000, 500))
    cloud = prepared(spec, n=30_000, extent=80)
    sweep = cover(cloud, spec, votes=1)
    assert sweep.counts.mean() < most


def test_no_field_of_a_sweep_can_be_left_out():
    spec = make_spec(points=(2000, 500))
    sweep = cover(prepared(spec), spec, votes=2)
    lattice = [rows for rows in sweep.rows if sweep.counts[rows].min() > 2]
    assert lattice == []


def test_the_seed_moves_the_sweep_and_repeats_it():
    spec = make_spec()
    cloud = prepared(spec)
    one, again = (cover(cloud, spec, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.centers, again.centers)
    other = cover(cloud, spec, seed=4)
    assert not np.array_equal(one.centers, other.centers)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "local",
    [
        np.full((1, 3), 2.0),
        np.linspace([0, 0, 0], [50, 0, 0], 200),
        np.linspace([2, 2, 0], [2, 2, 60], 400),
    ],
    ids=["one point", "a line", "a plumb line"],
)
def test_degenerate_clouds_are_covered(local, name):
    spec = make_spec(SHAPES[name], (200, 50), features=["vertical"])
    cloud = prepare_cloud(PointCloud(local, np.zeros(3)), spec)
    sweep = cover(cloud, spec, votes=2)
    assert sweep.counts.min() >= 2


def test_points_that_no_field_has_room_for_end_the_search():
    spec = make_spec(points=(30, 10), features=["vertical"])
    column = np.linspace([2, 2, 0], [2, 2, 60], 400)  # one x and y, 121 cells
    cloud = prepare_cloud(PointCloud(column, np.zeros(3)), spec)
    sweep = cover(cloud, spec)
    assert sweep.counts.min() == 0
    assert sweep.counts.max() >= 1
