import pytest

from tests.spec.spec_texts import GOOD, errors_of, make_spec, read
from vl3d_lite.spec.schema.clouds import FeatureSpec, feature_columns


def test_names_columns_by_feature_and_radius():
    features = [
        FeatureSpec(name="height"),
        FeatureSpec(name="planarity", radii=[0.5, 2]),
        FeatureSpec(name="density", radius=1.25),
    ]
    expected = ["height", "planarity_0.5", "planarity_2", "density_1.25"]
    assert feature_columns(features) == expected


@pytest.mark.parametrize(
    ("fields", "reach"),
    [
        ({"radius": 20}, 20.0),
        ({"shape": "box", "size": [8, 6, 2]}, 3.0),
        ({"shape": "nearest"}, None),
    ],
)
def test_reach_is_half_of_the_shortest_horizontal_extent(fields, reach):
    assert make_spec(fields={"grid_size": 0.5, **fields}).fields.reach == reach


def test_farthest_point_sampling_has_no_grid_parents():
    built = make_spec(fields={"radius": 20, "grid_size": 0.5, "sampling": "farthest"})
    assert built.fields.interlevel_neighbors == "nearest"
    assert make_spec().fields.interlevel_neighbors == "parents"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("X", "remove it"), ("Y", "remove it"), ("Z", "use `height_above_ground`")],
)
def test_stored_coordinates_are_no_features(folder, name, remedy):
    text = GOOD.replace("intensity", name)
    (error,) = errors_of(text, check_files=False)
    assert f"`features[1].name`: `{name}` is the integer that the file stores" in error
    assert remedy in error


def test_stored_coordinates_are_no_source_weights(folder):
    text = GOOD.replace("model:", "model:\n  source_weights: Z")
    errors = errors_of(text, check_files=False)
    assert any("`Z` is the integer that the file stores" in error for error in errors)


def test_nan_may_be_declared_missing_where_a_dimension_is_read(folder):
    text = GOOD.replace("intensity", "{name: intensity, nan: missing}")
    assert read(text, check_files=False).spec.features[1].nan == "missing"
    assert read(GOOD, check_files=False).spec.features[1].nan == "error"
    text = GOOD.replace("height", "{name: height, nan: missing}")
    (error,) = errors_of(text, check_files=False)
    assert "`height` is computed from the coordinates and is never NaN" in error


def test_noise_and_withheld_points_are_excluded_by_default(folder):
    excluded = read(GOOD, check_files=False).spec.excluded_points
    assert (excluded.codes, excluded.flags) == ([7, 18], ["withheld"])
    text = GOOD + "excluded_points: {codes: 7, flags: []}\n"
    excluded = read(text, check_files=False).spec.excluded_points
    assert (excluded.codes, excluded.flags) == ([7], [])
