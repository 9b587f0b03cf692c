import pytest

from tests.spec.spec_texts import make_spec
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
