import numpy as np
import pytest

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.features import (
    COMPUTED,
    compute_features,
    relative_intensity,
    required_dimensions,
    return_ratio,
)
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.clouds import COMPUTED_FEATURES, FeatureSpec


def features(*specs):
    return [
        FeatureSpec.model_validate(spec if isinstance(spec, dict) else {"name": spec})
        for spec in specs
    ]


EVERY = features(
    "height",
    {"name": "height_above_ground", "radii": [5, 12]},
    "intensity",
    "return_ratio",
    "relative_intensity",
    "vertical",
    {"name": "density", "radius": 1},
    {"name": "planarity", "radii": [1, 3]},
    {"name": "linearity", "radius": 1},
    {"name": "verticality", "radius": 1},
    {"name": "curvature", "radius": 1},
)
NAMES = [
    "height",
    "height_above_ground_5",
    "height_above_ground_12",
    "intensity",
    "return_ratio",
    "relative_intensity",
    "vertical",
    "density_1",
    "planarity_1",
    "planarity_3",
    "linearity_1",
    "verticality_1",
    "curvature_1",
]


def cloud(n, seed=0, **attributes):
    rng = np.random.default_rng(seed)
    known = {
        "intensity": rng.integers(1, 5000, n).astype(np.uint16),
        "return_number": rng.integers(1, 3, n).astype(np.uint8),
        "number_of_returns": np.full(n, 2, np.uint8),
    }
    return PointCloud(
        rng.uniform(0, 12, (n, 3)), np.zeros(3), known | attributes, name="town.laz"
    )


@pytest.mark.parametrize("n", [0, 1, 2, 500])
def test_every_feature_has_its_column_and_is_finite(n):
    matrix, names = compute_features(cloud(n), EVERY, 0.5)
    assert names == NAMES
    assert matrix.shape == (n, len(NAMES))
    assert matrix.dtype == np.float32
    assert np.isfinite(matrix).all()


@pytest.mark.slow
def test_degenerate_clouds_have_finite_features():
    same = cloud(40)
    same.local[:] = [3.0, 4.0, 5.0]
    line = cloud(40)
    line.local[:, :2] = 0.0
    for points in (same, line):
        assert np.isfinite(compute_features(points, EVERY, 0.5)[0]).all()


def test_dimensions_are_passed_on_as_they_are():
    points = cloud(300, amplitude=np.linspace(-3, 3, 300))
    matrix, names = compute_features(points, features("amplitude", "intensity"), 0.5)
    assert names == ["amplitude", "intensity"]
    np.testing.assert_array_equal(
        matrix[:, 0], points.attributes["amplitude"].astype(np.float32)
    )
    np.testing.assert_array_equal(matrix[:, 1], points.attributes["intensity"])


@pytest.mark.slow
def test_threads_change_nothing():
    one, _ = compute_features(cloud(800), EVERY, 0.5, threads=1)
    two, _ = compute_features(cloud(800), EVERY, 0.5, threads=2)
    np.testing.assert_array_equal(one, two)


def test_vertical_waits_for_the_field():
    matrix, _ = compute_features(cloud(20), features("vertical"), 0.5)
    np.testing.assert_array_equal(matrix, np.zeros((20, 1)))


def test_names_the_dimensions_that_must_be_read():
    assert required_dimensions(EVERY) == [
        "intensity",
        "return_number",
        "number_of_returns",
    ]
    assert required_dimensions(features("height", "red", "vertical")) == ["red"]


def test_return_ratio_survives_files_without_returns():
    ratio = return_ratio(np.array([1, 2, 3, 0, 1, 0]), np.array([1, 4, 2, 0, 0, 4]))
    np.testing.assert_allclose(ratio, [1, 0.5, 1, 1, 1, 0.25])


def test_files_without_returns_count_one_of_one_everywhere():
    named = features("return_ratio", "number_of_returns", "return_number")
    zeros, ones = np.zeros(20, np.uint8), np.ones(20, np.uint8)
    unknown, single = (
        compute_features(cloud(20, return_number=v, number_of_returns=v), named, 0.5)[0]
        for v in (zeros, ones)
    )
    np.testing.assert_array_equal(unknown, np.ones((20, 3)))
    np.testing.assert_array_equal(single, unknown)


def test_relative_intensity_matches_the_formula():
    intensity = np.array([0.0, 10.0, 20.0, 400.0, -5.0])
    expected = [np.log(1 + max(i, 0) / 20.0) - np.log(2) for i in intensity]
    np.testing.assert_allclose(relative_intensity(intensity), expected, atol=1e-12)


def test_relative_intensity_does_not_depend_on_the_gain():
    intensity = np.random.default_rng(3).integers(0, 900, 400).astype(float)
    np.testing.assert_allclose(
        relative_intensity(intensity), relative_intensity(37.0 * intensity), atol=1e-12
    )
    assert relative_intensity(intensity).std() > 0.1


def test_relative_intensity_of_a_cloud_without_intensity_is_zero():
    np.testing.assert_array_equal(relative_intensity(np.zeros(5)), np.zeros(5))


def test_a_missing_dimension_is_named_with_what_there_is():
    with pytest.raises(DataError) as caught:
        compute_features(cloud(5), features("height", "red"), 0.5)
    assert str(caught.value) == (
        "town.laz: no dimension `red`, which features[1] needs. "
        "It has: intensity, return_number, number_of_returns"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_a_value_that_is_not_finite_is_named_with_its_point(bad):
    red = np.ones(9)
    red[[4, 7]] = bad
    with pytest.raises(DataError) as caught:
        compute_features(cloud(9, red=red), features("intensity", "red"), 0.5)
    message = str(caught.value)
    assert message.startswith("town.laz: dimension `red`, which features[1] needs")
    assert f"Received: {bad} at grid cell 4, and 1 more" in message


def test_a_dimension_of_several_numbers_is_refused():
    points = cloud(9, normal=np.ones((9, 3)))
    with pytest.raises(DataError, match="Received: 3 numbers per point"):
        compute_features(points, features("normal"), 0.5)


def test_every_feature_that_the_spec_computes_has_a_function():
    assert set(COMPUTED) == set(COMPUTED_FEATURES)
