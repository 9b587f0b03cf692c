import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.spec.keys import all_keys
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.spec.renamed import RENAMED_KEYS, RENAMED_VALUES, renamed_key

SPEC = """\
classes: {ground: 2, tree: {codes: [3, 5], output_code: 5}}
features: [height]
fields: {radius: 20, grid_size: 0.5}
model:
  stages: [{points: 64, channels: 16, blocks: [envelope]}]
  source_weights: trust
"""


def spec_with(tmp_path, old, value):
    """A spec with one key of an earlier version; its line and column."""
    *sections, key = old.replace("*", "tree").split(".")
    lines = ["extends: base.yaml"]
    for depth, name in enumerate(sections):
        lines.append(f"{'  ' * depth}{name}:")
    lines.append(f"{'  ' * len(sections)}{key}: {value}")
    (tmp_path / "base.yaml").write_text(SPEC)
    path = tmp_path / "old.yaml"
    path.write_text("\n".join(lines))
    return path, f"{len(lines)}:{2 * len(sections) + 1}"


def new_path(old):
    return f"{old.rpartition('.')[0]}.{RENAMED_KEYS[old]}"


def test_the_table_holds_every_key_that_version_0_2_renamed():
    assert RENAMED_KEYS == {
        "classes.*.write": "output_code",
        "fields.transfer": "interlevel_neighbors",
        "model.source_weights.mute": "zero_weight_values",
        "model.decoder.copies": "multiplicity",
        "training.start_from": "initial_weights",
        "prediction.keep": "keep_codes",
        "prediction.unsure": "min_confidence",
        "prediction.unsure_code": "reject_code",
        "evaluation.confident": "min_confidence",
        "evaluation.points": "min_points",
        "evaluation.distance": "link_distance",
    }
    assert RENAMED_VALUES == {
        "model.kpconvx.order": {"seed": "vl3d", "official": "apple"}
    }


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_an_old_key_is_an_error_that_names_the_new_key(tmp_path, old):
    path, position = spec_with(tmp_path, old, 1)
    with pytest.raises(SpecError) as caught:
        read_spec(path)
    now = new_path(old).replace("*", "tree")
    assert str(caught.value) == (
        f"{path}:{position}: `{old.replace('*', 'tree')}` has been renamed; use `{now}`"
    )


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_an_old_key_of_an_override_names_the_new_key(tmp_path, old):
    (tmp_path / "a.yaml").write_text(SPEC)
    key = old.replace("*", "tree")
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path / "a.yaml", [f"{key}=1"])
    now = new_path(old).replace("*", "tree")
    expected = f"--set {key}: `{key}` has been renamed; use `{now}`"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        (key, old, new)
        for key, values in RENAMED_VALUES.items()
        for old, new in values.items()
    ],
)
def test_an_old_value_is_an_error_that_names_the_new_value(tmp_path, key, old, new):
    path, _ = spec_with(tmp_path, key, old)
    message = f"Received: {old}, which has been renamed; use `{new}`$"
    with pytest.raises(SpecError, match=message):
        read_spec(path)
    (tmp_path / "a.yaml").write_text(SPEC)
    with pytest.raises(SpecError, match=message):
        read_spec(tmp_path / "a.yaml", [f"{key}={old}"])
    read_spec(tmp_path / "a.yaml", [f"{key}={new}"])


@pytest.mark.parametrize("old", RENAMED_KEYS)
def test_the_table_leads_from_no_key_to_a_key(old):
    keys = all_keys()
    assert old.replace("*", "<name>") not in keys
    assert new_path(old).replace("*", "<name>") in keys


def test_a_class_may_have_the_name_of_an_old_key():
    assert renamed_key(("classes", "write")) is None
    assert renamed_key(("prediction", "write")) is None
