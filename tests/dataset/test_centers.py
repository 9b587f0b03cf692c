import numpy as np
import pytest

from tests.dataset.test_extractor import SHAPES
from tests.field_clouds import CYLINDER, make_cloud, make_spec, prepared
from vl3d_lite.dataset.centers import (
    TrainingCenters,
    farthest_centers,
    lattice_centers,
    typical_shape,
)
from vl3d_lite.dataset.extractor import FieldExtractor, field_shape
from vl3d_lite.dataset.prepared import prepare_cloud


@pytest.mark.parametrize("name", ["cylinder", "sphere", "2D box", "3D box"])
def test_lattice_fields_reach_nearly_all_points(name):
    spec = make_spec(SHAPES[name])
    xyz = prepared(spec).xyz
    shape = field_shape(spec.fields)
    centers = lattice_centers(xyz, shape, 0.5, np.array([0.2, 0.7, 0.4]))
    measures = np.stack(
        [shape.measure(list((xyz - c).T[: shape.axes])) for c in centers]
    )
    assert np.mean(measures.min(axis=0) <= shape.limit) > 0.99


def test_overlap_sets_the_distance_of_neighboring_centers():
    xyz = np.random.default_rng(0).uniform(0, 100, (100_000, 3)) * [1, 1, 0]
    shape = field_shape(make_spec().fields)
    for overlap in (0.1, 0.6):
        centers = lattice_centers(xyz, shape, overlap, np.zeros(3))
        inner = centers[np.all(np.abs(centers[:, :2] - 50) < 30, axis=1)]
        gaps = np.linalg.norm(centers - inner[:, None], axis=2)
        nearest = np.sort(gaps, axis=1)[:, 1:7]
        np.testing.assert_allclose(nearest, 4 * (2 - overlap), rtol=0.05)


def test_farthest_centers_leave_no_point_far():
    spec = make_spec()
    cloud = prepared(spec)
    shape = field_shape(spec.fields)
    rng = np.random.default_rng(0)
    centers = farthest_centers(cloud, shape, spec.fields, rng)
    gaps = np.linalg.norm(cloud.xyz[:, None, :2] - centers[:, :2], axis=2)
    assert gaps.min(axis=1).max() <= 4 * 1.5 / np.sqrt(3) + 1e-9
    assert len(centers) < 60


def test_the_usual_shape_shrinks_where_points_abound():
    cloud = prepared(make_spec())
    shapes = [
        typical_shape(FieldExtractor(cloud, spec), np.random.default_rng(0))
        for spec in (make_spec(points=(900,)), make_spec(points=(80,)))
    ]
    assert shapes[0].halves.tolist() == [4.0, 4.0]
    assert 1.0 < shapes[1].halves[0] < 3.0


def centers_of(way, count, epoch=0, seed=0, clouds=None, **others):
    spec = make_spec({**CYLINDER, "training_centers": way}, seed=seed, **others)
    clouds = clouds or [prepared(spec), prepared(spec, seed=1)]
    drawer = TrainingCenters([FieldExtractor(c, spec) for c in clouds], spec)
    draw = drawer.epoch(epoch, count)
    return clouds, [draw(n, np.random.default_rng([epoch, n])) for n in range(count)]


@pytest.mark.parametrize("way", ["balanced", "random", "grid", "farthest"])
def test_training_fields_come_from_every_cloud_and_change_with_the_epoch(way):
    _, drawn = centers_of(way, 80)
    assert {cloud for cloud, _ in drawn} == {0, 1}
    again = centers_of(way, 80)[1]
    other = centers_of(way, 80, epoch=1)[1]
    places = [np.array([center for _, center in d]) for d in (drawn, again, other)]
    np.testing.assert_array_equal(places[0], places[1])
    assert not np.array_equal(places[0], places[2])


def test_balanced_centers_are_near_every_class_alike():
    spec = make_spec()
    cloud = make_cloud(n=4000, extent=100)
    x, y = cloud.local[:, :2].T
    cloud.labels[:] = np.where(x + y > 190, 2, np.where(x > 95, -1, 0))
    share = np.mean(cloud.labels == 2)
    clouds = [prepare_cloud(cloud, spec)]
    assert share < 0.01
    for way, low, high in (("balanced", 0.35, 0.65), ("random", 0.0, 0.05)):
        drawn = centers_of(way, 300, clouds=clouds)[1]
        near = np.mean([center[:2].sum() > 187 for _, center in drawn])
        assert low <= near <= high


@pytest.mark.parametrize("way", ["balanced", "random"])
def test_drawn_centers_are_within_half_a_radius_of_a_labeled_point(way):
    clouds, drawn = centers_of(way, 60)
    distances = []
    for cloud, center in drawn:
        labeled = clouds[cloud].xyz[clouds[cloud].labels >= 0]
        distances.append(np.linalg.norm(labeled - center, axis=1).min())
        assert np.hypot(*(labeled - center)[:, :2].T).min() <= 2.0
    assert max(distances) > 0.01


@pytest.mark.parametrize("way", ["grid", "farthest"])
def test_spread_centers_cover_the_clouds_before_they_repeat(way):
    clouds, drawn = centers_of(way, 60)
    for number, cloud in enumerate(clouds):
        centers = np.array([center for own, center in drawn if own == number])
        gaps = np.linalg.norm(cloud.xyz[:, None, :2] - centers[:, :2], axis=2)
        assert np.mean(gaps.min(axis=1) <= 4.0) > 0.95
