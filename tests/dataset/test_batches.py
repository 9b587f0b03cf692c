import threading

import numpy as np
import pytest

from tests.field_clouds import CYLINDER, make_cloud, make_spec, prepared
from vl3d_lite.dataset.batches import (
    FeatureScaling,
    SweepBatches,
    TrainingBatches,
    batch_spec,
)
from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.errors import DataError

PLAIN = {"rotation": False, "flip": False, "scale": 0}
TRAINING = {"batch_size": 3, "steps_per_epoch": 4}


def make_batches(threads=1, clouds=None, fields=None, augmentation=PLAIN, **options):
    spec = make_spec(
        fields, training={**TRAINING, "augmentation": augmentation}, **options
    )
    clouds = clouds or [prepared(spec), prepared(spec, seed=1)]
    scaling = FeatureScaling.fit(clouds)
    return TrainingBatches(clouds, spec, scaling, threads=threads)


def assert_same_batches(one, two):
    one, two = list(one), list(two)
    assert len(one) == len(two) > 0
    for (a, labels_a), (b, labels_b) in zip(one, two, strict=True):
        np.testing.assert_array_equal(labels_a, labels_b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def differ(one, two):
    return any(not np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        (CYLINDER, {}),
        ({**CYLINDER, "interlevel_neighbors": "nearest"}, {}),
        ({**CYLINDER, "sampling": "farthest"}, {}),
        (CYLINDER, {"upsampling": "interpolated"}),
        ({"shape": "sphere", "radius": 2, "grid_size": 0.5}, {}),
    ],
    ids=["parents", "nearest", "farthest", "interpolated", "sphere"],
)
def test_batches_have_the_stated_shapes_and_point_inside_their_field(fields, model):
    spec = make_spec(fields, model=model, training=TRAINING)
    cloud = prepared(spec, n=2500)
    batches = TrainingBatches([cloud], spec, FeatureScaling.fit([cloud]))
    expected = batch_spec(spec, 2)
    for inputs, labels in batches.epoch(0):
        assert labels.shape == (3, 400)
        assert labels.dtype == np.int32
        assert list(inputs) == list(expected)
        for name, (shape, dtype) in expected.items():
            assert inputs[name].shape == (3, *shape)
            assert inputs[name].dtype == dtype
        for b in range(3):
            real = [
                int(np.sum(inputs[f"neighbors_{n}"][b, :, 0] >= 0)) for n in (0, 1, 2)
            ]
            assert real[0] > real[1] > real[2] > 0
            assert np.all(labels[b, real[0] :] == -1)
            assert np.all(inputs["features"][b, real[0] :] == 0)
            for n in range(3):
                rows = inputs[f"neighbors_{n}"][b]
                assert rows[: real[n], 0].tolist() == list(range(real[n]))
                assert np.all(rows[real[n] :] == -1)
                assert rows.max() < real[n]
                assert np.all(inputs[f"xyz_{n}"][b, real[n] :] == 0)
            for n in range(2):
                down, up = inputs[f"down_{n}"][b], inputs[f"up_{n}"][b]
                assert down.max() < real[n]
                assert up.max() < real[n + 1]
                assert np.all(
                    (down >= 0).any(axis=1) == (np.arange(len(down)) < real[n + 1])
                )
                assert np.all((up >= 0).any(axis=1) == (np.arange(len(up)) < real[n]))


def test_a_shifted_cloud_gives_identical_batches():
    spec = make_spec(training=TRAINING)
    near = prepare_cloud(make_cloud(), spec)
    far = prepare_cloud(make_cloud(origin=(700_000.0, 6_600_000.0, 0.0)), spec)
    batches = [TrainingBatches([c], spec, FeatureScaling.fit([c])) for c in (near, far)]
    assert_same_batches(batches[0].epoch(2), batches[1].epoch(2))
    sweeps = [SweepBatches(c, spec, FeatureScaling.fit([c])) for c in (near, far)]
    assert_same_batches(*sweeps)


@pytest.mark.parametrize("way", ["balanced", "grid"])
def test_threads_and_the_first_step_change_no_batch(way):
    fields = {**CYLINDER, "training_centers": way}
    augmentation = {"jitter": 0.1, "point_dropout": 0.3, "feature_dropout": 0.2}
    one = make_batches(1, fields=fields, augmentation=augmentation)
    many = make_batches(3, fields=fields, augmentation=augmentation)
    whole = list(one.epoch(1))
    assert_same_batches(whole, many.epoch(1))
    assert_same_batches(whole[3:], many.epoch(1, start_step=3))
    assert list(one.epoch(1, start_step=4)) == []
    assert differ(whole[0][0], next(iter(one.epoch(2)))[0])
    assert differ(whole[0][0], whole[1][0])


def test_labels_and_features_are_those_of_the_cells():
    spec = make_spec(training={**TRAINING, "augmentation": PLAIN})
    cloud = prepared(spec)
    scaling = FeatureScaling.fit([cloud])
    batches = TrainingBatches([cloud], spec, scaling)
    draw = batches.centers.epoch(0, 12)
    extractor = FieldExtractor(cloud, spec)
    seen = set()
    for step, (inputs, labels) in enumerate(batches.epoch(0)):
        for slot in range(3):
            rng = np.random.default_rng([spec.seed, 0, step, slot])
            field = extractor.extract(draw(step * 3 + slot, rng)[1])
            n = len(field.indices)
            np.testing.assert_array_equal(labels[slot, :n], cloud.labels[field.indices])
            raw = cloud.features[field.indices, 0].astype(float)
            np.testing.assert_allclose(
                inputs["features"][slot, :n, 0],
                (raw - scaling.mean[0]) / scaling.std[0],
                atol=1e-5,
            )
            np.testing.assert_allclose(
                inputs["features"][slot, :n, 1],
                (field.xyz[0][:, 2] - scaling.mean[1]) / scaling.std[1],
                atol=1e-5,
            )
            seen |= set(labels[slot].tolist())
    assert seen == {-1, 0, 1, 2}


def test_the_vertical_feature_follows_the_augmentation():
    batches = make_batches(augmentation={**PLAIN, "scale": 0.3})
    scaling = FeatureScaling.fit([source.prepared for source in batches.sources])
    inputs, _ = next(batches.epoch(0))
    real = inputs["neighbors_0"][..., 0] >= 0
    np.testing.assert_allclose(
        inputs["features"][real][:, 1],
        (inputs["xyz_0"][real][:, 2] - scaling.mean[1]) / scaling.std[1],
        atol=1e-5,
    )
    plain, _ = next(make_batches().epoch(0))
    assert not np.array_equal(plain["features"], inputs["features"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "names"),
    [
        ({"rotation": True}, {"xyz_0", "xyz_1", "xyz_2"}),
        ({"jitter": 0.2}, {"xyz_0", "xyz_1", "xyz_2", "features"}),
        ({"point_dropout": 0.5}, {"neighbors_0", "neighbors_1", "neighbors_2"}),
        ({"feature_dropout": 0.9}, {"features"}),
        ({"intensity_shift": 1.0}, {"features"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_augmentation_changes_only_its_own_inputs(option, names):
    plain, labels = next(make_batches().epoch(0))
    changed, same_labels = next(make_batches(augmentation={**PLAIN, **option}).epoch(0))
    np.testing.assert_array_equal(labels, same_labels)
    different = {n for n in plain if not np.array_equal(plain[n], changed[n])}
    assert different == names


@pytest.mark.parametrize("grids", [1, 3])
def test_steps_cover_the_cells_of_all_clouds_by_default(grids):
    training = {"batch_size": 2, "augmentation": {"grids": grids}}
    spec = make_spec(training=training)
    clouds = [prepared(spec), prepared(spec, seed=1)] * grids
    batches = TrainingBatches(clouds, spec, FeatureScaling.fit(clouds))
    cells = sum(len(cloud.xyz) for cloud in clouds) / grids
    assert 800 * (batches.steps_per_epoch - 1) < cells <= 800 * batches.steps_per_epoch


def test_clouds_without_labels_cannot_train():
    spec = make_spec()
    cloud = make_cloud()
    cloud.labels[:] = -1
    ready = prepare_cloud(cloud, spec)
    with pytest.raises(DataError, match="no training cloud has a point of a class"):
        TrainingBatches([ready], spec, FeatureScaling.fit([ready]))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_sweep_gives_every_cell_its_votes_and_pads_the_last_batch(threads):
    spec = make_spec()
    cloud = prepared(spec)
    sweep = SweepBatches(
        cloud,
        spec,
        FeatureScaling.fit([cloud]),
        votes=2,
        batch_size=4,
        threads=threads,
    )
    counts = np.zeros(len(cloud.xyz), int)
    fields, batches = 0, 0
    for inputs, indices in sweep:
        batches += 1
        assert indices.shape == (4, 400)
        for slot in range(4):
            rows = indices[slot][indices[slot] >= 0]
            fields += len(rows) > 0
            counts[rows] += 1
            np.testing.assert_array_equal(
                inputs["neighbors_0"][slot, :, 0] >= 0, indices[slot] >= 0
            )
            gaps = np.diff(inputs["xyz_0"][slot, : len(rows)], axis=0)
            np.testing.assert_allclose(
                gaps, np.diff(cloud.xyz[rows], axis=0), atol=1e-5
            )
    assert counts.min() >= 2
    assert batches == len(sweep) == -(-fields // 4)
    assert fields == len(sweep.sweep)


def test_votes_and_batch_size_come_from_the_spec():
    spec = make_spec(
        training={"batch_size": 5}, prediction={"votes": 3, "batch_size": None}
    )
    cloud = prepared(spec)
    sweep = SweepBatches(cloud, spec, FeatureScaling.fit([cloud]))
    assert sweep.batch_size == 5
    assert sweep.sweep.counts.min() >= 3


def test_a_cloud_of_other_features_is_refused():
    spec = make_spec()
    cloud = prepared(spec)
    scaling = FeatureScaling(["height", "vertical"], np.zeros(2), np.ones(2))
    with pytest.raises(DataError, match=r"town.laz: features must be height, vertical"):
        SweepBatches(cloud, spec, scaling)


def test_closing_early_ends_the_threads():
    before = threading.active_count()
    items = make_batches(3).epoch(0)
    next(items)
    assert threading.active_count() > before
    items.close()
    assert threading.active_count() == before
