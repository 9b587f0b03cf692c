import laspy
import pytest

from vl3d_lite.spec.dimensions import doubtful_dimensions
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.spec.schema.clouds import LAS_DIMENSIONS

SPEC = """\
classes: {ground: 2, tree: 5}
features: [height, FEATURE]
fields: {radius: 20, grid_size: 0.5}
model: {stages: [{points: 64, channels: 16, blocks: [envelope]}]}
"""


def test_knows_the_dimensions_of_every_point_format():
    expected = {
        name
        for number in range(11)
        for name in laspy.PointFormat(number).dimension_names
    }
    assert set(LAS_DIMENSIONS) == expected


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("heigth", "height"),
        ("intensty", "intensity"),
        ("retrun_number", "return_number"),
        ("gren", "green"),
    ],
)
def test_a_near_miss_of_a_feature_is_a_warning_with_its_position(tmp_path, name, match):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", name))
    (warning,) = read_spec(path).warnings
    assert warning.startswith(f"{path}:2:20: `features[1]`: `{name}` is neither")
    assert f"did you mean `{match}`?" in warning


@pytest.mark.parametrize("name", ["trust", "Planarity", "Amplitude", "nir", "ndvi"])
def test_other_names_are_extra_dimensions(tmp_path, name):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", name))
    spec = read_spec(path, [f"model.source_weights={name}"]).spec
    assert list(doubtful_dimensions(spec)) == []


def test_a_near_miss_of_source_weights_is_a_warning(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", "intensity"))
    setting = "model.source_weights=intensiti"
    (warning,) = read_spec(path, [setting]).warnings
    assert warning.startswith("--set model.source_weights: `model.source_weights.dim")
    assert "did you mean `intensity`?" in warning
