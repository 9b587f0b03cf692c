import pytest
from pydantic import ValidationError

from vl3d_lite.spec.schema.clouds import FeatureSpec, feature_columns
from vl3d_lite.spec.schema.spec import Spec


def spec(**changes):
    return Spec.model_validate(
        {
            "classes": {"ground": 2, "other": [3, 4], "roof": {"codes": 6}}
            | {"other": {"codes": [3, 4], "output_code": 3}},
            "features": ["height"],
            "fields": {"radius": 20, "grid_size": 0.5},
            "model": {"stages": [{"points": 64, "channels": 16}] * 2},
            **changes,
        }
    )


def test_short_forms_mean_what_they_stand_for():
    built = spec(training={"schedule": "cosine"})
    assert built.class_codes == {"ground": [2], "other": [3, 4], "roof": [6]}
    assert [entry.code for entry in built.classes.values()] == [2, 3, 6]
    assert built.features == [FeatureSpec(name="height")]
    assert built.training.schedule.name == "cosine"


def test_names_columns_by_feature_and_radius():
    features = [
        FeatureSpec(name="height"),
        FeatureSpec(name="planarity", radii=[0.5, 2]),
        FeatureSpec(name="density", radius=1.25),
    ]
    expected = ["height", "planarity_0.5", "planarity_2", "density_1.25"]
    assert feature_columns(features) == expected


def test_spacing_doubles_from_stage_to_stage():
    assert spec().spacings == [0.5, 1.0]


@pytest.mark.parametrize(
    ("fields", "reach"),
    [
        ({"radius": 20}, 20.0),
        ({"shape": "box", "size": [8, 6, 2]}, 3.0),
        ({"shape": "nearest"}, None),
    ],
)
def test_reach_is_half_of_the_shortest_horizontal_extent(fields, reach):
    assert spec(fields={"grid_size": 0.5, **fields}).fields.reach == reach


def test_farthest_point_sampling_has_no_grid_parents():
    built = spec(fields={"radius": 20, "grid_size": 0.5, "sampling": "farthest"})
    assert built.fields.interlevel_neighbors == "nearest"
    assert spec().fields.interlevel_neighbors == "parents"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": {"a": 1, "b": 1}}, "code 1 of class `b` is already claimed"),
        ({"classes": {"a": [1, 2], "b": 3}}, "needs `output_code`"),
        ({"features": ["height", "height"]}, "`height` is listed twice"),
        ({"features": ["planarity"]}, "`planarity` needs a radius"),
        ({"training": {"class_weights": [1]}}, "one entry for each of the 3 classes"),
        ({"fields": {"radius": float("inf"), "grid_size": 1}}, "finite"),
        ({"fields": {"radius": 3, "grid_size": 1, "x": 1}}, "fields.x"),
        ({"model": {"stages": [{"points": 64, "channels": 12}]}}, "multiple of `gva"),
        ({"model": {"stages": [{"points": 9, "channels": 8}]}}, "at most 9 neighbors"),
        (
            {"classes": {"a": 1, "b": 2}, "prediction": {"reject_code": 2}},
            "Received: 2, a code of class `b`",
        ),
        (
            {"classes": {"a": 1, "b": 0}, "prediction": {"min_confidence": 0.6}},
            "codes 1 and 0 are codes of classes",
        ),
        ({"prediction": {"min_confidence": 1.5}}, "less than or equal to 1"),
        ({"training": {"augmentation": {"slope": 0.3}}}, "`grids` is 1"),
        ({"training": {"augmentation": {"thinning": 0.3}}}, "`thinning` changes each"),
    ],
)
def test_refuses_what_does_not_go_together(changes, message):
    with pytest.raises(ValidationError) as caught:
        spec(**changes)
    assert message in str(caught.value)


GQA_STAGES = [{"points": 64, "channels": 8, "blocks": ["gqa"]}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_query_heads": 6, "num_key_value_heads": 4}, "multiple of `num_key_val"),
        ({"num_query_heads": 0}, "greater than or equal to 1"),
        ({"num_key_value_heads": 0}, "greater than or equal to 1"),
        ({"head_dim": 0}, "greater than or equal to 1"),
        ({"flash_attention": True, "dropout": 0.1}, "flash attention has no dropout"),
        ({"kernel_initializer": "glorot"}, "glorot_uniform"),
        ({"kernel_regularizer": "l3"}, "l1_l2"),
        ({"bias_constraint": {"name": "max_norm", "limit": 0}}, "greater than 0"),
    ],
)
def test_refuses_global_attention_that_cannot_be_built(changes, message):
    spec(model={"stages": GQA_STAGES})
    with pytest.raises(ValidationError) as caught:
        spec(model={"stages": GQA_STAGES, "gqa": changes})
    assert message in str(caught.value)


def test_global_attention_is_for_stages_of_few_points():
    stage = {"points": 4096, "channels": 8, "blocks": ["gqa"]}
    with pytest.raises(
        ValidationError, match=r"at most 2048 points\. Received: 4096.*256 MiB"
    ):
        spec(model={"stages": [stage]})
    spec(model={"stages": [{**stage, "points": 2048}]})


def test_channels_are_bound_only_by_blocks_that_group_them():
    stage = {"points": 64, "channels": 12, "blocks": ["kpconvd"]}
    assert spec(model={"stages": [stage]}).model.stages[0].channels == 12


@pytest.mark.parametrize(
    ("classes", "prediction", "code"),
    [
        ({"a": 2, "b": 6}, {}, 1),
        ({"a": 1, "b": 6}, {}, 0),
        ({"a": {"codes": [3, 4], "output_code": 1}, "b": 6}, {}, 0),
        ({"a": 1, "b": 0}, {}, None),
        ({"a": 1, "b": 0}, {"min_confidence": 0.5, "reject_code": 7}, 7),
    ],
)
def test_unsure_points_get_a_code_that_is_no_class(classes, prediction, code):
    built = spec(classes=classes, prediction=prediction)
    assert built.reject_code == code
