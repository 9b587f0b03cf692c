import pytest

from tests.spec.spec_texts import GOOD, errors_of, read

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
        "`clouds.train` must be a list (text, or a mapping each). Received: town.laz",
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
        "one of: auto, none, or a mapping, or a list (a number each). Received: "
        "automatic",
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
    "weight of an unknown class": (
        "epochs: 20",
        "class_weights: {ground: 2, buildin: 5}",
        "15:48",
        "the spec has no class `buildin`; did you mean `building`?",
    ),
    "named weights that learn nothing": (
        "epochs: 20",
        "class_weights: {ground: 0, vegetation: 0, building: 0}",
        "15:27",
        "must not all be 0, since the loss would be 0",
    ),
    "negative weight of a class": (
        "epochs: 20",
        "class_weights: {ground: -1}",
        "15:36",
        "`training.class_weights.ground` must be at least 0. Received: -1",
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
        "must have at most 32 characters in LAS. Received: 33",
    ),
    "class that is no ASCII": (
        "building: 6",
        "bâtiment: 6\nprediction: {write: [probabilities]}",
        "6:13",
        "must consist of ASCII characters in LAS. Received: â; rename",
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
    "unknown alias": ("seed: 7", "seed: *s", "2:7", "must be in quotes"),
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


@pytest.mark.parametrize(("old", "new", "place", "text"), BAD.values(), ids=list(BAD))
def test_reports_position_and_remedy(folder, old, new, place, text):
    assert GOOD.count(old) >= 1
    lines = errors_of(GOOD.replace(old, new, 1))
    hits = [line for line in lines if line.startswith(f"a.yaml:{place}: ")]
    assert any(text in line for line in hits), "\n".join(lines)


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
    assert "`model.source_weights`: has no effect: it applies to" in line
    text = text.replace("channels: 64", "channels: 64, blocks: [gva, foo]")
    (line,) = errors_of(text)
    assert "Received: foo" in line
