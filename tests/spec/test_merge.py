from pathlib import Path

import pytest

from tests.spec.spec_texts import GOOD, errors_of, read
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.training.losses import loss_weights


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

    def test_changes_entries_of_a_list_by_their_number(self, folder):
        Path("base.yaml").write_text(GOOD)
        spec = read(
            "extends: base.yaml\nfeatures: {0: {radius: 5}}\n"
            "model: {stages: {1: {channels: 128}}}\n"
        ).spec
        assert [feature.name for feature in spec.features] == [
            feature.name for feature in read(GOOD).spec.features
        ]
        assert spec.features[0].radius == 5.0
        assert [stage.channels for stage in spec.model.stages] == [32, 128]
        assert [stage.points for stage in spec.model.stages] == [4096, 1024]

    @pytest.mark.parametrize("number", ["2", "-1", "first", "9" * 30])
    def test_names_an_entry_that_the_list_does_not_have(self, folder, number):
        Path("base.yaml").write_text(GOOD)
        stages = f"stages: {{0: {{channels: 64}}, {number}: {{channels: 64}}}}"
        lines = errors_of(f"extends: base.yaml\nmodel: {{{stages}}}\n")
        assert lines[0].startswith("a.yaml:2:37: ")
        assert f"has 2 entries, counted from 0. Received: {number}" in lines[0]

    def test_lays_several_specs_over_each_other_the_last_on_top(self, folder):
        Path("base.yaml").write_text(GOOD)
        Path("wide.yaml").write_text("extends: base.yaml\nfields: {radius: 9}\nseed: 1")
        Path("long.yaml").write_text("training: {epochs: 90}\nseed: 2\n")
        spec = read("extends: [wide.yaml, long.yaml]\n").spec
        assert (spec.fields.radius, spec.training.epochs, spec.seed) == (9.0, 90, 2)
        (line,) = errors_of("extends: [wide.yaml, none.yaml]\n")
        assert line.startswith("a.yaml:1:22: `extends`: none.yaml cannot be read")

    def test_many_specs_that_share_a_base_are_read_once(self, folder):
        Path("b40.yaml").write_text(GOOD)
        for number in range(40):
            following = f"b{number + 1}.yaml"
            Path(f"b{number}.yaml").write_text(f"extends: [{following}, {following}]")
        assert read("extends: b0.yaml\n").spec.seed == 7


class TestListsByClass:
    WEIGHTS = "training: {class_weights: [5, 1, 1]}\n"
    WITH_WEIGHTS = GOOD.replace("epochs: 20", "class_weights: [5, 1, 2]")
    OTHER_ORDER = "classes: {building: 6, ground: 2, vegetation: 5}\n"

    def test_belong_to_the_classes_that_their_own_file_names(self, folder):
        Path("base.yaml").write_text(GOOD)
        spec = read(f"extends: base.yaml\n{self.OTHER_ORDER}{self.WEIGHTS}").spec
        assert spec.training.class_weights == {
            "building": 5.0,
            "ground": 1.0,
            "vegetation": 1.0,
        }
        assert loss_weights(spec, []) == [5.0, 1.0, 1.0]

    def test_of_an_extended_file_stay_with_its_classes(self, folder):
        Path("base.yaml").write_text(self.WITH_WEIGHTS)
        spec = read(f"extends: base.yaml\n{self.OTHER_ORDER}").spec
        assert spec.class_names == ["building", "ground", "vegetation"]
        assert loss_weights(spec, []) == [2.0, 5.0, 1.0]

    def test_show_the_mapping_to_write_where_the_file_names_no_classes(self, folder):
        Path("base.yaml").write_text(GOOD)
        (line,) = errors_of(f"extends: base.yaml\n{self.WEIGHTS}")
        assert line.startswith("a.yaml:2:27: ")
        assert "write `class_weights: {ground: 5, vegetation: 1, building: 1}`" in line

    def test_behave_likewise_on_the_command_line(self, folder):
        (line,) = errors_of(GOOD, "training.class_weights=[5, 1, 1]")
        assert line.startswith("--set training.class_weights: ")
        assert "{ground: 5, vegetation: 1, building: 1}" in line
        classes = "classes={vegetation: 5, building: 6, ground: 2}"
        weights = "training.class_weights=[5, 1, 1]"
        assert loss_weights(read(GOOD, classes, weights).spec, []) == [5.0, 1.0, 1.0]
        spec = read(self.WITH_WEIGHTS, classes).spec
        assert loss_weights(spec, []) == [1.0, 2.0, 5.0]

    def test_classes_not_named_weigh_1(self, folder):
        spec = read(GOOD, "training.class_weights.building=5").spec
        assert loss_weights(spec, []) == [1.0, 1.0, 5.0]


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
        ("override", "text"),
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
    def test_are_named_by_their_errors_of(self, folder, override, text):
        line = errors_of(GOOD, override)[0]
        assert line.startswith(f"--set {override.partition('=')[0]}: ")
        assert text in line

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
