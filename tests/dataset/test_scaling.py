import json

import numpy as np
import pytest

from tests.field_clouds import make_spec, prepared
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import DataError


def test_scaling_brings_features_to_mean_0_and_deviation_1():
    spec = make_spec()
    clouds = [prepared(spec), prepared(spec, n=500, seed=1)]
    scaling = FeatureScaling.fit(clouds)
    pooled = np.concatenate([cloud.features.astype(float) for cloud in clouds])
    np.testing.assert_allclose(scaling.mean, pooled.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(scaling.std, pooled.std(axis=0), rtol=1e-6)
    scaled = scaling.apply(pooled.astype(np.float32))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


def test_a_constant_feature_becomes_zero():
    spec = make_spec()
    cloud = prepared(spec)
    cloud.features[:, 0] = 65_535
    scaling = FeatureScaling.fit([cloud])
    assert scaling.std[0] == 1
    assert np.abs(scaling.apply(cloud.features)[:, 0]).max() == 0


def test_constant_features_are_found_where_they_varied_in_training():
    spec = make_spec()
    scaling = FeatureScaling.fit([prepared(spec)])
    cloud = prepared(spec, seed=1)
    assert scaling.constants(cloud) == {}
    cloud.features[:, 0] = 7
    assert scaling.constants(cloud) == {"intensity": 7.0}
    assert FeatureScaling.fit([cloud]).constants(cloud) == {}  # nothing to miss
    few = prepared(spec, n=20)
    few.features[:, 0] = 7
    assert scaling.constants(few) == {}


def test_missing_features_take_the_mean_of_the_training():
    spec = make_spec()
    scaling = FeatureScaling.fit([prepared(spec)])
    cloud = prepared(spec, seed=1)
    before = cloud.features.copy()
    scaling.impute(cloud, ["intensity"])
    np.testing.assert_allclose(scaling.apply(cloud.features)[:, 0], 0, atol=1e-4)
    np.testing.assert_array_equal(cloud.features[:, 1:], before[:, 1:])
    scaling.impute(cloud, [])
    np.testing.assert_array_equal(cloud.features[:, 1:], before[:, 1:])


def test_missing_values_have_no_part_in_the_scaling_and_become_its_mean():
    spec = make_spec()
    clouds = [prepared(spec), prepared(spec, n=500, seed=1)]
    missing = np.random.default_rng(0).random(len(clouds[0].features)) < 0.3
    clouds[0].features[missing, 0] = np.nan
    scaling = FeatureScaling.fit(clouds)
    values = np.concatenate([cloud.features[:, 0].astype(float) for cloud in clouds])
    present = values[~np.isnan(values)]
    np.testing.assert_allclose(scaling.mean[0], present.mean(), rtol=1e-6)
    np.testing.assert_allclose(scaling.std[0], present.std(), rtol=1e-6)
    scaled = scaling.apply(clouds[0].features)
    assert np.isfinite(scaled).all()
    assert (scaled[missing, 0] == 0).all()
    assert scaling.constants(clouds[0]) == {}
    clouds[0].features[~missing, 0] = 7
    assert scaling.constants(clouds[0]) == {"intensity": 7.0}


def test_a_feature_without_any_value_is_refused_in_training():
    cloud = prepared(make_spec())
    cloud.features[:, 0] = np.nan
    with pytest.raises(DataError, match="`intensity` has no value in any training"):
        FeatureScaling.fit([cloud])


def test_scaling_survives_json():
    cloud = prepared(make_spec())
    scaling = FeatureScaling.fit([cloud])
    again = FeatureScaling.from_json(scaling.to_json())
    assert again.names == ["intensity", "vertical"]
    np.testing.assert_array_equal(again.mean, scaling.mean)
    np.testing.assert_array_equal(again.std, scaling.std)
    assert json.loads(scaling.to_json())["intensity"]["std"] == scaling.std[0]


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[1, 2]", "{}", '{"height": 3}', '{"height": {"mean": 1}}', '"x"'),
        *('{"h": {"mean": NaN, "std": 1}}', '{"h": {"mean": 0, "std": 0}}'),
        *('{"h": {"mean": 0, "std": 1e-60}}', '{"h": {"mean": 1e60, "std": 1}}'),
    ],
)
def test_other_json_is_no_scaling(text):
    with pytest.raises(DataError, match="feature scaling must be JSON"):
        FeatureScaling.from_json(text)
