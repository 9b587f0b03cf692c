import subprocess
import sys
from pathlib import Path

import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.spec.reader import dump_spec, read_spec
from vl3d_lite.spec.schema.spec import Spec

GOOD = """\
# a comment
seed: 7
classes:
  ground: 2
  vegetation: {codes: [3, 4, 5], output_code: 5}
  building: 6
clouds:
  train: [town.laz]
features: [height, intensity, {name: planarity, radii: [1, 2.5]}]
fields: {shape: cylinder, radius: 20, grid_size: 0.5}
model:
  stages:
    - {points: 4096, channels: 32}
    - {points: 1024, channels: 64}
training: {epochs: 20, learning_rate: 1e-3}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("town.laz", "village.las"):
        (tmp_path / name).touch()
    return tmp_path


def read(text, *overrides, **options):
    Path("a.yaml").write_text(text, encoding="utf-8")
    return read_spec("a.yaml", overrides, **options)


def errors_of(text, *overrides, **options):
    with pytest.raises(SpecError) as caught:
        read(text, *overrides, **options)
    assert caught.value.exit_code == 2
    return str(caught.value).split("\n")


# What is replaced, by what, the position of the error, a part of its message.
BAD = {
    "unknown key": (
        "epochs: 20",
        "epochz: 20",
        "15:12",
        "unknown key `training.epochz`; did you mean `epochs`?",
    ),
    "unknown key of the top": ("seed", "sead", "2:1", "did you mean `seed`?"),
    "key of another section": (
        "grid_size: 0.5",
        "grid_size: 0.5, epochs: 3",
        "10:55",
        "did you mean `training.epochs`?",
    ),
    "key of the spec in a section": (
        "grid_size: 0.5",
        "grid_size: 0.5, seed: 3",
        "10:55",
        "unknown key `fields.seed`; `seed` belongs to the top level of the spec",
    ),
    "key like no other": (
        "seed: 7",
        "zzzz: 7",
        "2:1",
        "unknown key `zzzz`. Keys of the spec: seed, classes, clouds",
    ),
    "key like one of another section": (
        "grid_size: 0.5",
        "grid_size: 0.5, pionts: 3",
        "10:55",
        "unknown key `fields.pionts`. Keys of `fields`: shape, radius, size, ",
    ),
    "duplicate key": (
        "radius: 20,",
        "radius: 20, radius: 9,",
        "10:39",
        "`fields.radius` is given twice, first in line 10",
    ),
    "renamed key": (
        ", output_code: 5",
        ", write: 5",
        "5:34",
        "`classes.vegetation.write` has been renamed; use "
        "`classes.vegetation.output_code`",
    ),
    "renamed value": (
        "model:\n",
        "model:\n  kpconvx: {order: official}\n",
        "12:20",
        "`model.kpconvx.order` must be one of: vl3d, apple. Received: official, which "
        "has been renamed; use `apple`",
    ),
    "unknown block": (
        "channels: 64",
        "channels: 64, blocks: [kpconv, gva]",
        "14:45",
        "`model.stages[1].blocks[0]` must be one of: kpconvx, kpconvd, gva, envelope, "
        "gqa. Received: kpconv; did you mean `kpconvx`?",
    ),
    "duplicate class": ("  building: 6", "  ground: 6\n  building: 6", "6:3", "twice"),
    "text for a number": (
        "radius: 20",
        "radius: ten",
        "10:35",
        "`fields.radius` must be a number. Received: ten",
    ),
    "number in quotes": (
        "radius: 20",
        "radius: '20'",
        "10:35",
        'must be a number. Received: "20" in quotes',
    ),
    "fraction for a whole number": (
        "epochs: 20",
        "epochs: 2.5",
        "15:20",
        "`training.epochs` must be a whole number. Received: 2.5",
    ),
    "list for a number": ("seed: 7", "seed: [7]", "2:7", "Received: a list"),
    "mapping for a number": ("seed: 7", "seed: {a: 7}", "2:7", "Received: a mapping"),
    "nothing for a number": ("seed: 7", "seed:", "2:6", "Received: nothing"),
    "number for a list": (
        "train: [town.laz]",
        "train: town.laz",
        "8:10",
        "`clouds.train` must be a list (text each). Received: town.laz",
    ),
    "list for a mapping": (
        "training: {epochs: 20, learning_rate: 1e-3}",
        "training: [1]",
        "15:11",
        "`training` must be a mapping. Received: a list",
    ),
    "too many digits": ("seed: 7", f"seed: {'9' * 5000}", "2:7", "a whole number"),
    "not finite": ("radius: 20", "radius: .inf", "10:35", "must be a number"),
    "overflowing": ("radius: 20", "radius: 1e999", "10:35", "must be a number"),
    "below the range": (
        "epochs: 20",
        "epochs: 0",
        "15:20",
        "`training.epochs` must be at least 1. Received: 0",
    ),
    "at an open end": ("radius: 20", "radius: 0.0", "10:35", "must be above 0"),
    "above the range": (
        "output_code: 5",
        "output_code: 256",
        "5:47",
        "must be at most 255",
    ),
    "item out of range": (
        "[3, 4, 5]",
        "[3, 4, 500]",
        "5:30",
        "`classes.vegetation.codes[2]` must be at most 255",
    ),
    "short form out of range": (
        "building: 6",
        "building: -6",
        "6:13",
        "`classes.building.codes[0]` must be at least 0. Received: -6",
    ),
    "empty list": ("[height, intensity,", "[] #", "9:11", "must be not empty"),
    "no such choice": (
        "cylinder",
        "cylindr",
        "10:17",
        "must be one of: cylinder, sphere, box, nearest. Received: cylindr; "
        "did you mean `cylinder`?",
    ),
    "no such short form": (
        "epochs: 20",
        "schedule: cosin",
        "15:22",
        "`training.schedule.name` must be one of: onecycle, cosine",
    ),
    "no such alternative": (
        "epochs: 20",
        "class_weights: automatic",
        "15:27",
        "must be one of: auto, none, or a list (a number each). Received: automatic",
    ),
    "missing key": (
        ", grid_size: 0.5",
        "",
        "10:1",
        "`fields.grid_size` is missing: a number. Edge length in meters",
    ),
    "missing key of an item": (
        "points: 1024, ",
        "",
        "14:7",
        "`model.stages[1].points` is missing: a whole number. Points of a field",
    ),
    "missing section": (
        "features:",
        "# features:",
        "2:1",
        "`features` is missing: a list (a mapping each). Input features of the network",
    ),
    "missing list of a section": (
        "  stages:\n    - {points: 4096, channels: 32}\n"
        "    - {points: 1024, channels: 64}",
        "  dropout: 0.1",
        "11:1",
        "`model.stages` is missing",
    ),
    "wrong list of a section": (
        "stages:\n    - {points: 4096, channels: 32}\n"
        "    - {points: 1024, channels: 64}",
        "stages: 3",
        "12:11",
        "`model.stages` must be a list (a mapping each). Received: 3",
    ),
    "unequal lists": (
        "model:\n",
        "model:\n  kpconvx: {shell_radii: [0, 1], shell_points: [1, 7, 9]}\n",
        "12:48",
        "must be equally long. Received: 2 and 3 entries",
    ),
    "a list unequal to its default": (
        "model:\n",
        "model:\n  kpconvx: {shell_radii: [0, 1]}\n",
        "12:26",
        "must be equally long. Received: 2 and 3 entries",
    ),
    "weights unequal to classes": (
        "epochs: 20",
        "class_weights: [1, 2]",
        "15:27",
        "must have one entry for each of the 3 classes. Received: 2",
    ),
    "weights that learn nothing": (
        "epochs: 20",
        "class_weights: [0, 0, 0]",
        "15:27",
        "must not all be 0, since the loss would be 0",
    ),
    "code claimed twice": (
        "building: 6",
        "building: [6, 4]",
        "6:17",
        "code 4 of class `building` is already claimed by class `vegetation`",
    ),
    "several codes, none to write": (
        ", output_code: 5",
        "",
        "5:23",
        "a class of several codes needs `output_code`",
    ),
    "written as another class": (
        "output_code: 5",
        "output_code: 2",
        "5:47",
        "class `ground`",
    ),
    "groups that do not divide": (
        "channels: 64",
        "channels: 60",
        "14:32",
        "`model.stages[1].channels`: must be a multiple of `gva.groups` = 8. "
        "Received: 60",
    ),
    "more neighbors than points": (
        "points: 1024, channels: 64",
        "points: 128, channels: 64, neighbors: 250",
        "14:46",
        "`model.stages[1].neighbors`: a point of 128 has at most 128 neighbors, "
        "itself included. Received: 250",
    ),
    "default neighbors, few points": (
        "points: 1024",
        "points: 8",
        "14:16",
        "a point of 8 has at most 8 neighbors, itself included. Received: 16",
    ),
    "class without a name": ("building: 6", '"": 6', "6:7", "a class needs a name"),
    "class too long for a dimension": (
        "building: 6",
        f"{'b' * 31}: 6\nprediction: {{write: [probabilities]}}",
        "6:36",
        "must have at most 32 ASCII characters in LAS. Received: 33",
    ),
    "class that is no ASCII": (
        "building: 6",
        "bâtiment: 6\nprediction: {write: [probabilities]}",
        "6:13",
        "`p_bâtiment`",
    ),
    "attention over too many points": (
        "points: 1024",
        "blocks: [gqa], points: 3000",
        "14:16",
        "`model.stages[1].blocks`: `gqa` scores all pairs of a stage's points",
    ),
    "growing stages": ("points: 1024", "points: 5000", "14:16", "at most the 4096"),
    "feature without radius": (
        "intensity",
        "density",
        "9:20",
        "`density` needs a radius in meters",
    ),
    "radius without use": (
        "name: planarity",
        "name: planarty",
        "9:55",
        "did you mean `planarity`?",
    ),
    "feature listed twice": ("intensity", "height", "9:20", "listed twice"),
    "radius and radii": ("radii:", "radius: 1, radii:", "9:67", "not both"),
    "shape without size": ("cylinder, radius: 20", "box", "10:17", "a box needs"),
    "field below a cell": ("radius: 20", "radius: 0.1", "10:35", "at least one cell"),
    "missing file": (
        "[town.laz]",
        "[town.laz, city.laz]",
        "8:21",
        "`clouds.train[1]`: ",
    ),
    "broken syntax": (
        "epochs: 20, ",
        "epochs: 20, }",
        "15:25",
        "not valid YAML: while parsing a block mapping: expected <block end>",
    ),
    "missing quote": ("seed: 7", "seed: '7", "16:1", "not valid YAML"),
    "text with a colon": ("seed: 7", "seed: a: 7", "2:8", "lack quotes?"),
    "tab": ("  ground: 2", "\tground: 2", "4:1", "a tab cannot indent YAML"),
    "unknown alias": ("seed: 7", "seed: *s", "2:7", "undefined alias"),
    "tag": ("seed: 7", "seed: !!python/name:os.system", "2:7", "no YAML tags"),
    "key that is no name": ("seed: 7", "[1, 2]: 7", "2:1", "must be a plain name"),
    "two documents": ("model:", "---\nmodel:", "11:1", "expected a single document"),
    "merge without mapping": ("seed: 7", "<<: 7", "2:5", "`<<` must be followed"),
    "extends of nothing": ("seed: 7", "extends:", "2:9", "must be the path of a spec"),
    "extends of a missing file": (
        "seed: 7",
        "extends: b.yaml",
        "2:10",
        "`extends`: b.yaml cannot be read: No such file",
    ),
    "extends of itself": (
        "seed: 7",
        "extends: ./a.yaml",
        "2:10",
        "goes in a circle: a.yaml -> a.yaml",
    ),
}


@pytest.mark.parametrize(("old", "new", "place", "says"), BAD.values(), ids=list(BAD))
def test_reports_position_and_remedy(folder, old, new, place, says):
    assert GOOD.count(old) >= 1
    lines = errors_of(GOOD.replace(old, new, 1))
    hits = [line for line in lines if line.startswith(f"a.yaml:{place}: ")]
    assert any(says in line for line in hits), "\n".join(lines)


# YAML 1.1 reads these otherwise
TRAPS = {
    "exponent without a point": ("1e-3", "1e-3", "training.learning_rate", 0.001),
    "name that looks false": ("building: 6", "no: 6", "classes.no.codes", [6]),
    "name that looks a number": ("building: 6", "12: 6", "classes.12.codes", [6]),
    "choice that looks true": ("epochs: 20", "jit: on", "training.jit", "on"),
    "choice that looks null": (
        "epochs: 20",
        "class_weights: none",
        "training.class_weights",
        "none",
    ),
    "leading zero": ("epochs: 20", "epochs: 010", "training.epochs", 10),
    "whole number for a number": ("0.5}", "1}", "fields.grid_size", 1.0),
    "name with a date": ("intensity", "2024-01-01", "features.1.name", "2024-01-01"),
    "null takes back a default": (
        "epochs: 20",
        "gradient_clipping: ~",
        "training.gradient_clipping",
        None,
    ),
    "empty section": ("seed: 7", "seed: 7\nexport:", "export.kernels", True),
    "boolean": ("epochs: 20", "tensorboard: True", "training.tensorboard", True),
    "byte order mark": ("# a comment", "\ufeff#", "seed", 7),
    "windows line ends": ("\n", "\r\n", "seed", 7),
    "one code in a mapping": (
        "building: 6",
        "building: {codes: 6}",
        "classes.building.codes",
        [6],
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "key", "value"), TRAPS.values(), ids=list(TRAPS)
)
def test_gives_values_the_type_of_the_schema(folder, old, new, key, value):
    found = read(GOOD.replace(old, new)).spec
    for part in key.split("."):
        if isinstance(found, dict):
            found = found[part]
        else:
            found = found[int(part)] if part.isdigit() else getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["12:30", "1_000", "0x10", "0o7", "1e2", "yes", "+"])
def test_takes_nothing_odd_for_a_whole_number(folder, text):
    (line,) = errors_of(GOOD.replace("epochs: 20", f"epochs: {text}"))
    assert line.endswith(f"must be a whole number. Received: {text}")


@pytest.mark.parametrize("text", ["yes", "no", "on", "0", "'true'"])
def test_takes_nothing_but_true_and_false_for_a_boolean(folder, text):
    (line,) = errors_of(GOOD.replace("epochs: 20", f"tensorboard: {text}"))
    assert "must be true or false. Received: " in line


def test_reports_all_errors_at_once_in_their_order(folder):
    text = (
        GOOD.replace("seed: 7", "seed: x")
        .replace("building: 6", "building: [6, 4]")
        .replace("radius: 20", "radius: ten")
        .replace("points: 4096", "points: few")
        .replace("channels: 64", "channels: 60")
        .replace("epochs: 20", "class_weights: [1]")
        .replace("town.laz", "city.laz")
    )
    places = [line.split(": ")[0] for line in errors_of(text)]
    assert places == [
        "a.yaml:2:7",
        "a.yaml:6:13",
        "a.yaml:6:17",
        "a.yaml:8:11",
        "a.yaml:10:35",
        "a.yaml:13:16",
        "a.yaml:14:32",
        "a.yaml:14:32",
        "a.yaml:15:27",
    ]


@pytest.mark.parametrize("blocks", ["kpconv", "kpconvx, foo", "gva, foo"])
def test_an_unknown_block_hides_no_other_error(folder, blocks):
    text = GOOD.replace("channels: 64", f"channels: 60, blocks: [{blocks}]")
    lines = errors_of(text)
    assert any("`model.stages[1].blocks[" in line for line in lines)
    assert any("must be a multiple of" in line for line in lines), lines


def test_an_unknown_block_may_be_the_one_that_source_weights_need(folder):
    text = GOOD.replace("model:\n", "model:\n  source_weights: trust\n")
    (line,) = errors_of(text)
    assert "`source_weights` would have no effect" in line
    text = text.replace("channels: 64", "channels: 64, blocks: [gva, foo]")
    (line,) = errors_of(text)
    assert "Received: foo" in line


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        (b"", "1:1", "the spec is empty. It needs classes"),
        (b"# only a comment\n", "1:1", "the spec is empty"),
        (b"just text", "1:1", "must be a mapping such as `seed: 7`. Received: just"),
        (b"- a\n- b\n", "1:1", "Received: a list"),
        (
            b"seed: 7\nx: \xff\xfe\n",
            "2:4",
            "must be text in UTF-8. Received: byte 0xff",
        ),
        (b"LASF\x00\x00\x01", "1:5", "must be printable text. Received: character 0x0"),
        (b"a: b\n" * 100_000, "1:1", "must have at most 100,000 bytes"),
        (b"[" * 5000, "1:41", "nested at most 40 levels"),
        (b"seed: " + b"[" * 60 + b"]" * 60, "1:46", "nested at most 40 levels"),
        (b"seed: &a [*a, *a]\n", "1:7", "nested at most 40 levels"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else None,
)
def test_refuses_files_that_are_not_specs(folder, content, place, says):
    Path("a.yaml").write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_spec("a.yaml")
    lines = str(caught.value).split("\n")
    assert any(x.startswith(f"a.yaml:{place}: ") and says in x for x in lines), lines


def test_refuses_an_alias_bomb_at_once(folder):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    lines = errors_of("\n".join(levels))
    assert any("at most 20,000 values" in line for line in lines)


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_names_a_file_that_cannot_be_read(folder, name):
    with pytest.raises(SpecError, match="the spec cannot be read"):
        read_spec(name)


def test_expands_aliases_and_merge_keys(folder):
    text = GOOD.replace(
        "- {points: 4096", "- &one {neighbors: 8, points: 4096"
    ).replace("- {points: 1024, channels: 64}", "- {<<: *one, points: 512}\n    - *one")
    line = errors_of(text)[0]
    assert "`model.stages[2].points`: must be at most the 512 points" in line
    stages = read(text.replace("\n    - *one", "")).spec.model.stages
    assert [s.points for s in stages] == [4096, 512]
    assert [s.channels for s in stages] == [32, 32]
    assert [s.neighbors for s in stages] == [8, 8]


class TestExtends:
    def test_merges_mappings_and_replaces_lists(self, folder):
        Path("base.yaml").write_text(GOOD)
        loaded = read(
            "extends: base.yaml\nfields: {radius: 9}\nfeatures: [height]\n"
            "classes: {water: 9}\ntraining: {schedule: {warmup: 0.5}}\n"
        )
        spec = loaded.spec
        assert (spec.fields.radius, spec.fields.grid_size) == (9.0, 0.5)
        assert [feature.name for feature in spec.features] == ["height"]
        assert spec.class_names == ["ground", "vegetation", "building", "water"]
        assert spec.training.schedule.warmup == 0.5
        assert spec.training.epochs == 20

    def test_expands_a_short_form_that_is_refined(self, folder):
        base = GOOD.replace("epochs: 20", "schedule: cosine")
        Path("base.yaml").write_text(base)
        spec = read("extends: base.yaml\ntraining: {schedule: {warmup: 0.5}}").spec
        assert spec.training.schedule.name == "cosine"

    def test_null_takes_an_extended_value_back(self, folder):
        Path("base.yaml").write_text(GOOD)
        fields = "fields: {shape: box, size: [9, 9], radius: null}"
        spec = read(f"extends: base.yaml\n{fields}").spec
        assert (spec.fields.reach, spec.fields.grid_size) == (4.5, 0.5)

    def test_names_the_file_of_the_error(self, folder):
        Path("sub").mkdir()
        Path("sub/base.yaml").write_text(GOOD.replace("radius: 20", "radius: ten"))
        lines = errors_of("extends: sub/base.yaml\nseed: x\n")
        assert lines[0].startswith("a.yaml:2:7: `seed`")
        assert lines[1].startswith("sub/base.yaml:8:11: `clouds.train[0]`")
        assert lines[2].startswith("sub/base.yaml:10:35: `fields.radius`")
        assert len(lines) == 3

    def test_paths_are_relative_to_the_file_that_names_them(self, folder):
        Path("sub").mkdir()
        Path("sub/base.yaml").write_text(GOOD)
        Path("sub/town.laz").touch()
        loaded = read("extends: sub/base.yaml\nclouds: {predict: [town.laz]}\n")
        assert loaded.clouds["train"] == [folder / "sub/town.laz"]
        assert loaded.clouds["predict"] == [folder / "town.laz"]

    def test_follows_a_chain(self, folder):
        Path("base.yaml").write_text(GOOD)
        Path("middle.yaml").write_text("extends: base.yaml\nseed: 8\n")
        assert read("extends: middle.yaml").spec.seed == 8

    def test_finds_a_circle_of_two(self, folder):
        Path("b.yaml").write_text("extends: a.yaml\n")
        (line,) = errors_of("extends: b.yaml\n")
        assert line.startswith("b.yaml:1:10: `extends` goes in a circle")

    def test_a_missing_base_hides_no_other_error(self, folder):
        lines = errors_of("extends: none.yaml\nsead: 7\ntraining: {epochs: 0}\n")
        assert [line.split(": ")[0] for line in lines] == [
            "a.yaml:1:10",
            "a.yaml:2:1",
            "a.yaml:3:20",
        ]


class TestOverrides:
    def test_take_their_type_from_the_schema(self, folder):
        spec = read(
            GOOD,
            "training.learning_rate=1e-4",
            "model.stages.1.channels=128",
            "features=[height, {name: density, radius: 2}]",
            "classes.ground.output_code=9",
            "fields.shape=nearest",
            "training.schedule.warmup=0",
            "training.gradient_clipping=",
            "seed=1",
            "seed=2",
        ).spec
        assert spec.training.learning_rate == 1e-4
        assert [stage.channels for stage in spec.model.stages] == [32, 128]
        assert spec.features[1].radius == 2.0
        assert (spec.classes["ground"].codes, spec.classes["ground"].output_code) == (
            [2],
            9,
        )
        assert spec.fields.shape == "nearest"
        assert spec.training.schedule.warmup == 0.0
        assert spec.training.gradient_clipping is None
        assert spec.seed == 2

    @pytest.mark.parametrize(
        ("override", "says"),
        [
            ("trainig.epochs=3", "unknown key `trainig`; did you mean `training`?"),
            (
                "training.epoch=3",
                "unknown key `training.epoch`; did you mean `epochs`?",
            ),
            ("training.epochs=x", "must be a whole number. Received: x"),
            ("training.epochs", "must be KEY=VALUE, such as training.epochs=5"),
            ("training..epochs=3", "must be KEY=VALUE"),
            ("model.stages.2.points=3", "`model.stages` has 2 entries, counted from 0"),
            ("model.stages.x.points=3", "Received: x"),
            ("seed.x=3", "`seed` is 7 and has no key `x`"),
            ("features=[", "not valid YAML"),
            ("clouds.predict=[none.laz]", "no .las or .laz file"),
            ("model.stages.1.channels=60", "must be a multiple of `gva.groups`"),
        ],
    )
    def test_are_named_by_their_errors_of(self, folder, override, says):
        line = errors_of(GOOD, override)[0]
        assert line.startswith(f"--set {override.partition('=')[0]}: ")
        assert says in line

    def test_their_errors_come_last(self, folder):
        lines = errors_of(GOOD.replace("20}", "0}"), "seed=x", "sead=1")
        assert [line.split(": ")[0] for line in lines] == ["--set seed", "--set sead"]
        lines = errors_of(GOOD.replace("epochs: 20", "epochs: 0"), "seed=x")
        assert lines[0].startswith("a.yaml:15:20")

    def test_their_paths_are_relative_to_the_current_directory(self, folder):
        Path("sub").mkdir()
        Path("sub/b.yaml").write_text(GOOD)
        loaded = read_spec("sub/b.yaml", ["clouds.train=[village.las]"])
        assert loaded.clouds["train"] == [folder / "village.las"]
        assert loaded.base == folder / "sub"


def test_a_command_can_require_clouds(folder):
    assert read(GOOD, needs=["train"]).clouds["train"] == [folder / "town.laz"]
    (line,) = errors_of(GOOD, needs=["train", "predict"])
    assert line.startswith("a.yaml:7:1: `clouds.predict` must name at least one")


def test_files_are_looked_for_only_on_request(folder):
    loaded = read(GOOD.replace("town.laz", "city.laz"), check_files=False)
    assert loaded.clouds == {"train": [], "validation": [], "predict": []}
    assert loaded.spec.clouds.train == [str(folder / "city.laz")]


def test_globs_and_folders_are_expanded_once_and_sorted(folder):
    loaded = read(GOOD.replace("town.laz", "'*.la?', ., village.las"))
    assert loaded.clouds["train"] == [folder / "town.laz", folder / "village.las"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.gradient_clipping=null", "training.learning_rate=1e-7"],
        ["fields.sampling=farthest", "training.class_weights=[1, 2, 3]"],
        ["classes.no=[8, 9]", "classes.no.output_code=9", "seed=4294967295"],
        ["fields={shape: box, size: [3, 4], grid_size: 1}", "features=['~', 'on']"],
    ],
)
def test_reads_back_what_it_dumps(folder, overrides):
    first = read(GOOD, *overrides)
    second = read(dump_spec(first.spec))
    assert second.spec == first.spec
    assert second.clouds == first.clouds


def test_dumps_paths_relative_to_a_folder(folder):
    spec = read(GOOD).spec
    text = dump_spec(spec, relative_to=folder / "runs" / "one")
    assert "../../town.laz" in text
    assert str(folder) not in text
    target = folder / "runs" / "one"
    target.mkdir(parents=True)
    (target / "spec.yaml").write_text(text)
    assert read_spec(target / "spec.yaml").spec == spec


def test_reading_changes_no_default(folder):
    before = Spec.model_json_schema()
    read(GOOD.replace("[town.laz]", "[town.laz, village.las]"))
    assert read(GOOD.replace("  train: [town.laz]", "")).spec.clouds.train == []
    assert Spec.model_json_schema() == before


def test_never_imports_a_framework(folder):
    Path("a.yaml").write_text(GOOD)
    code = (
        "import sys; from vl3d_lite.spec.reader import read_spec; read_spec('a.yaml');"
        "import vl3d_lite.dataset.features;"
        "print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    )
    root = str(Path(__file__).parents[2])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": root, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"


def test_every_shipped_spec_is_valid():
    configs = sorted((Path(__file__).parents[2] / "configs").glob("**/*.yaml"))
    for config in configs:
        read_spec(config, check_files=False)


def test_the_run_of_the_initial_weights_is_relative_to_the_spec(folder):
    Path("runs/first").mkdir(parents=True)
    text = GOOD.replace("learning_rate: 1e-3", "initial_weights: runs/first")
    assert "initial_weights" in text
    spec = read(text).spec
    assert spec.training.initial_weights == str(Path("runs/first").absolute())
    gone = text.replace("runs/first", "runs/second")
    with pytest.raises(
        SpecError, match=r"initial_weights` must be a run folder.*runs/sec"
    ):
        read(gone)
    assert read(gone, check_files=False).spec.training.initial_weights.endswith(
        "second"
    )
