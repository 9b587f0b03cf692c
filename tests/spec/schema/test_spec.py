import pytest
from pydantic import ValidationError

from tests.spec.spec_texts import make_spec
from vl3d_lite.spec.schema.clouds import FeatureSpec


def test_short_forms_mean_what_they_stand_for():
    built = make_spec(training={"schedule": "cosine"})
    assert built.class_codes == {"ground": [2], "other": [3, 4], "roof": [6]}
    assert [entry.code for entry in built.classes.values()] == [2, 3, 6]
    assert built.features == [FeatureSpec(name="height")]
    assert built.training.schedule.name == "cosine"


def test_spacing_doubles_from_stage_to_stage():
    assert make_spec().spacings == [0.5, 1.0]


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
        make_spec(**changes)
    assert message in str(caught.value)


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
def test_rejected_points_get_a_code_that_is_no_class(classes, prediction, code):
    built = make_spec(classes=classes, prediction=prediction)
    assert built.reject_code == code
