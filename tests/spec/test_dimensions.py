import laspy
import pytest

from vl3d_lite.errors import SpecError
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
    assert warning.startswith(f"{path}:2:20: `features[1]`: `{name}` is not a")
    assert f"did you mean `{match}`?" in warning


def test_standard_dimensions_are_not_doubtful(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", "nir"))
    spec = read_spec(path, ["model.source_weights=nir"]).spec
    assert list(doubtful_dimensions(spec)) == []


@pytest.mark.parametrize("name", ["trust", "Planarity", "Amplitude", "fooo_bar"])
def test_other_names_must_be_extra_dimensions(tmp_path, name):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", name))
    feature, weights = read_spec(path, [f"model.source_weights={name}"]).warnings
    remedy = "it must be an extra dimension of the clouds"
    assert feature == (
        f"{path}:2:20: `features[1]`: `{name}` is not a computed feature nor a "
        f"standard LAS dimension; {remedy}"
    )
    assert weights.endswith(f"`{name}` is not a standard LAS dimension; {remedy}")


@pytest.mark.parametrize("number", ["4", "-1", "1e-3", "nan"])
def test_a_number_names_no_dimension(tmp_path, number):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", number))
    with pytest.raises(SpecError) as raised:
        read_spec(path)
    assert str(raised.value).startswith(f"{path}:2:20: `features[1]")
    assert str(raised.value).endswith(f"Received: {number}")


def test_a_near_miss_of_source_weights_is_a_warning(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(SPEC.replace("FEATURE", "intensity"))
    setting = "model.source_weights=intensiti"
    (warning,) = read_spec(path, [setting]).warnings
    assert warning.startswith("--set model.source_weights: `model.source_weights.dim")
    assert "did you mean `intensity`?" in warning
