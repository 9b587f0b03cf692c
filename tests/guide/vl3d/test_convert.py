import json
import re
from pathlib import Path

import pytest
import yaml

from tests.guide.vl3d.vl3d_specs import flat, hierarchical, write
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.guide.vl3d.convert import _classes, convert
from vl3d_lite.spec.reader import read_spec

TRAIN = "sequential_pipeline__1__"
MODEL = f"{TRAIN}model_args__"
BEFORE = f"{MODEL}pre_processing__"
EXTRACTION = f"{MODEL}feature_extraction__"
OPTIMIZER = f"{MODEL}compilation_args__optimizer__"
FLAT = "sequential_pipeline__0__model_args__"


@pytest.fixture
def converted(tmp_path):
    def converted(spec):
        result = convert(write(tmp_path / "vl3d.json", spec))
        (tmp_path / "spec.yaml").write_text(result.text())
        return result

    return converted


def read(tmp_path):
    return read_spec(tmp_path / "spec.yaml", check_files=False).spec


def names(paths):
    return [Path(path).name for path in paths]


def noted(result, beginning):
    return [note for note in result.notes if note.startswith(beginning)]


def test_supported_values_are_kept(converted, tmp_path):
    converted(hierarchical())
    spec = read(tmp_path)
    assert spec.seed == 11
    assert spec.class_codes == {"green": [3, 4, 5], "built": [6], "rest": [2]}
    assert spec.classes["green"].output_code == 3
    assert names(spec.clouds.train) == ["train.laz"]
    assert [feature.name for feature in spec.features] == ["intensity"]
    assert (spec.fields.shape, spec.fields.radius) == ("sphere", 8)
    assert spec.fields.sampling == "farthest"
    assert spec.fields.training_centers == "random"
    assert [stage.model_dump() for stage in spec.model.stages] == [
        {
            "points": 128,
            "channels": 16,
            "neighbors": 12,
            "neighbor_radius": None,
            "blocks": ["kpconvx", "kpconvx"],
        },
        {
            "points": 32,
            "channels": 24,
            "neighbors": 6,
            "neighbor_radius": None,
            "blocks": ["kpconvx"],
        },
    ]
    assert (spec.model.downsampling, spec.model.upsampling) == ("strided", "nearest")
    assert spec.model.kpconvx.shell_points == [1, 14]
    training = spec.training
    assert (training.epochs, training.batch_size) == (20, 8)
    assert (training.optimizer, training.learning_rate) == ("adam", 0.01)
    assert training.class_weights == "none"


def test_the_final_learning_rate_is_that_of_vl3d(converted, tmp_path):
    converted(hierarchical())
    training = read(tmp_path).training
    # 100 fields in batches of 8 are 13 steps; 20 epochs of them halve it twice.
    assert training.steps_per_epoch == 13
    assert training.schedule.name == "exponential"
    assert training.schedule.decay == 0.25


def test_the_grid_size_is_the_horizontal_point_spacing_of_a_field(converted, tmp_path):
    result = converted(hierarchical())
    # A disk of 8 m holds 201 square meters, 1.57 for each of 128 points.
    assert read(tmp_path).fields.grid_size == 1.3
    (note,) = noted(result, "fields.grid_size")
    assert "1.3 m" in note


def test_every_value_is_used_or_listed(converted, tmp_path):
    spec = hierarchical()
    result = converted(spec)
    text = (tmp_path / "spec.yaml").read_text()
    listed = [place for places in result.dropped.values() for place in places]
    assert len(set(listed)) == len(listed)
    for place in listed:
        assert place in text
    for name in (
        "ClassReducer.report_path",
        "out_pcloud",
        "training_type",
        "pre_processing.nthreads",
        "pre_processing._receptive_fields_dir",
        "pre_processing.receptive_fields_dir",
        "pre_processing.neighborhood.separation_factor",
        "feature_extraction.sigma",
        "feature_extraction.kernel_radius",
        "model_handling.checkpoint_path",
        "compilation_args.metrics",
        "PredictivePipelineWriter.out_pipeline",
        "autoval_metrics",
    ):
        assert name in listed
    for name in ("neighborhood.radius", "training_epochs", "class_weight", "sigma_"):
        assert not any(name in place for place in listed)


def test_an_unknown_key_is_listed_as_unknown(converted):
    result = converted(hierarchical(**{f"{MODEL}warp_drive": 9}))
    assert result.dropped["unknown to this converter"] == ["warp_drive"]


def test_no_common_key_lacks_a_reason(converted):
    for spec in (hierarchical(), flat()):
        assert "unknown to this converter" not in converted(spec).dropped


def test_dropped_keys_have_the_right_reason(converted):
    reasons = {
        place: reason
        for reason, places in converted(hierarchical()).dropped.items()
        for place in places
    }
    assert "underscore" in reasons["pre_processing._receptive_fields_dir"]
    assert "null" in reasons["pre_processing.receptive_fields_dir"]
    assert "point spacings" in reasons["feature_extraction.sigma"]
    assert "vl3d-lite predict" in reasons["PredictivePipelineWriter.out_pipeline"]
    assert "--threads" in reasons["pre_processing.nthreads"]


def test_a_class_of_weight_0_is_ignored_with_a_note(converted, tmp_path):
    result = converted(hierarchical())
    assert "nothing" not in read(tmp_path).classes
    (note,) = noted(result, "classes: `nothing`")
    assert "codes 0, 1 are ignored" in note


def test_weights_that_differ_are_kept(converted, tmp_path):
    converted(hierarchical(**{f"{MODEL}model_handling__class_weight": [1, 2, 0.5, 0]}))
    spec = read(tmp_path)
    assert spec.training.class_weights == dict(
        zip(spec.class_names, [1, 2, 0.5], strict=True)
    )


def test_automatic_weights_stay_automatic(converted, tmp_path):
    converted(hierarchical(**{f"{MODEL}model_handling__class_weight": "auto"}))
    spec = read(tmp_path)
    assert spec.training.class_weights == "auto"
    assert "nothing" in spec.classes


def test_the_index_in_vl3d_is_a_comment_on_the_code(converted, tmp_path):
    converted(hierarchical())
    text = (tmp_path / "spec.yaml").read_text()
    assert re.search(r"built: 6 +# VL3D writes 1", text)


def test_without_a_reducer_the_code_is_the_index_of_the_name(converted, tmp_path):
    converted(flat())
    assert read(tmp_path).class_codes == {"wood": [0], "leaf": [1]}


def test_a_name_in_two_groups_belongs_to_the_last(converted, tmp_path):
    groups = [["grass", "bush"], ["house", "tree"], ["soil", "tree"], ["never"]]
    result = converted(
        hierarchical(sequential_pipeline__0__class_groups=groups, in_pcloud="a.las")
    )
    spec = read(tmp_path)
    assert spec.class_codes == {"green": [3, 4], "built": [6], "rest": [2, 5]}
    assert noted(result, "classes: tree: in several groups")
    assert noted(result, "classes: unknown: in no group")


def test_ambiguous_classes_become_a_line_to_complete(converted, tmp_path):
    groups = [["house"], ["soil", "house"], [], ["never"]]
    result = converted(hierarchical(sequential_pipeline__0__class_groups=groups))
    line, why = result.missing["classes"]
    assert yaml.safe_load(line) == {"green": 6, "built": 2}
    assert "several groups" in why
    with pytest.raises(SpecError, match="`classes` is missing"):
        read(tmp_path)
    path = tmp_path / "spec.yaml"
    path.write_text(path.read_text().replace("# classes: {", "classes: {"))
    assert read(tmp_path).class_names == ["green", "built"]


def test_a_spec_without_names_asks_for_classes(converted):
    spec = flat(**{f"{FLAT}class_names": ..., f"{FLAT}num_classes": ...})
    line, why = converted(spec).missing["classes"]
    assert line.startswith("{NAME: CODE")
    assert "LAS codes" in why


def test_a_pointnet_is_replaced_with_a_note(converted, tmp_path):
    result = converted(flat())
    stages = read(tmp_path).model.stages
    assert [stage.points for stage in stages] == [512, 128, 32]
    assert all(stage.blocks == ["kpconvx", "gva"] for stage in stages)
    (note,) = noted(result, "model:")
    assert "replaces PointNetPwiseClassifier" in note
    assert "`kpconvx`, `gva`" in note
    (places,) = [p for r, p in result.dropped.items() if "PointNet" in r]
    assert "tnet_pre_filters_spec" in places
    assert "prefilter_spec.0.filters" in places


def test_a_hierarchical_pointnet_keeps_its_depth_and_widths(converted, tmp_path):
    result = converted(hierarchical(**{f"{EXTRACTION}type": "PointNet"}))
    assert [stage.channels for stage in read(tmp_path).model.stages] == [16, 24]
    assert "replace the PointNet network" in " ".join(noted(result, "model:"))


@pytest.mark.parametrize(
    ("around", "expected"),
    [
        ({"type": "cylinder", "radius": 4}, {"shape": "cylinder", "radius": 4}),
        ({"type": "rectangular3D", "radius": 4}, {"shape": "box", "size": [8, 8, 8]}),
        (
            {"type": "Rectangular2D", "radius": [4, 3]},
            {"shape": "box", "size": [8, 6]},
        ),
    ],
    ids=lambda value: str(value.get("type", "")),
)
def test_shapes_keep_their_extent(converted, tmp_path, around, expected):
    converted(hierarchical(**{f"{BEFORE}neighborhood": around}))
    fields = read(tmp_path).fields.model_dump()
    assert {key: fields[key] for key in expected} == expected


def test_a_radius_of_zero_leaves_the_grid_to_the_user(converted, tmp_path):
    result = converted(hierarchical(**{f"{BEFORE}neighborhood__radius": 0}))
    assert "METERS" in result.missing["fields"][0]
    path = tmp_path / "spec.yaml"
    path.write_text(path.read_text().replace("# fields:", "fields:"))
    path.write_text(path.read_text().replace("METERS", "0.5"))
    assert read(tmp_path).fields.shape == "nearest"


def test_centers_on_a_grid_keep_their_distance(converted, tmp_path):
    converted(flat())
    fields = read(tmp_path).fields
    assert (fields.training_centers, fields.overlap) == ("grid", 0.8)
    near = flat(**{f"{FLAT}pre_processing__neighborhood__separation_factor": 0.8})
    assert noted(converted(near), "fields.overlap: centers 0.8 radii apart")


@pytest.mark.parametrize(
    ("fast", "centers"), [(False, "farthest"), (True, "random")], ids=str
)
def test_drawn_centers(converted, tmp_path, fast, centers):
    converted(hierarchical(**{f"{BEFORE}support_strategy_fast": fast}))
    assert read(tmp_path).fields.training_centers == centers


def test_fields_by_class_are_balanced(converted, tmp_path):
    spec = hierarchical(**{f"{BEFORE}training_class_distribution": [40, 24, 8, 0]})
    converted(spec)
    assert read(tmp_path).fields.training_centers == "balanced"
    assert read(tmp_path).training.steps_per_epoch == 9


def test_coordinates_alone_become_height_with_a_note(converted, tmp_path):
    names = {f"{TRAIN}fnames": ["ones"], f"{MODEL}fnames": ["ones"]}
    result = converted(hierarchical(**names))
    assert [feature.name for feature in read(tmp_path).features] == ["height"]
    assert "coordinates alone" in " ".join(noted(result, "features:"))


def mining():
    spec = hierarchical(
        **{f"{MODEL}fnames": ..., f"{TRAIN}fnames": ["AUTO"]},
    )
    spec["sequential_pipeline"][1:1] = [
        {
            "miner": "GeometricFeatures",
            "radius": 1.5,
            "fnames": ["planarity", "surface_variation", "omnivariance"],
        },
        {
            "miner": "HeightFeatures",
            "neighborhood": {
                "type": "Rectangular2D",
                "radius": 20.0,
                "separation_factor": 0.35,
            },
            "fnames": ["floor_distance"],
            "frenames": ["above_floor"],
        },
        {"miner": "HSVFromRGB", "frenames": ["hue"]},
    ]
    return spec


def test_supported_mined_features_are_computed(converted, tmp_path):
    result = converted(mining())
    found = [(f.name, f.radius) for f in read(tmp_path).features]
    assert found == [("planarity", 1.5), ("curvature", 1.5), ("height", 20)]
    (note,) = noted(result, "features: left out")
    assert "`omnivariance_r1.5`" in note
    assert "`hue`" in note
    listed = [place for places in result.dropped.values() for place in places]
    assert "HSVFromRGB.frenames" in listed


def test_a_second_training_is_left_out_with_a_note(converted, tmp_path):
    spec = hierarchical()
    spec["sequential_pipeline"].append(flat()["sequential_pipeline"][0])
    result = converted(spec)
    assert len(read(tmp_path).model.stages) == 2
    assert noted(result, "PointNetPwiseClassifier: a second training")


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_an_optimizer_that_differs_gets_a_note(converted, tmp_path, name):
    result = converted(hierarchical(**{f"{OPTIMIZER}algorithm": name}))
    expected = {"SGD": "sgd", "Adagrad": "adam"}[name]
    assert read(tmp_path).training.optimizer == expected
    assert noted(result, "training.optimizer:")


def test_a_plateau_becomes_the_schedule(converted, tmp_path):
    plateau = {"monitor": "loss", "factor": 0.2, "patience": 3}
    converted(
        hierarchical(
            **{
                f"{OPTIMIZER}learning_rate": 0.004,
                f"{MODEL}model_handling__learning_rate_on_plateau": plateau,
            }
        )
    )
    schedule = read(tmp_path).training.schedule
    assert (schedule.name, schedule.decay, schedule.patience) == ("plateau", 0.2, 3)
    plateau["patience"] = 2000
    converted(
        hierarchical(
            **{
                f"{OPTIMIZER}learning_rate": 0.004,
                f"{MODEL}model_handling__learning_rate_on_plateau": plateau,
            }
        )
    )
    assert read(tmp_path).training.schedule.name == "constant"


def test_augmentation_is_kept(converted, tmp_path):
    changes = [
        {"type": "Rotation", "axis": [0, 0, 1], "angle_distribution": {}},
        {"type": "Scale", "scale_distribution": {"start": 0.95, "end": 1.02}},
        {"type": "Jitter", "noise_distribution": {"type": "normal", "stdev": 0.13}},
        {"type": "Shear"},
    ]
    result = converted(
        hierarchical(
            **{
                f"{MODEL}model_handling__training_sequencer": {
                    "augmentor": {"transformations": changes}
                }
            }
        )
    )
    augmentation = read(tmp_path).training.augmentation
    assert augmentation.rotation
    assert not augmentation.flip
    assert (augmentation.scale, augmentation.jitter) == (0.05, 0.1)
    listed = [place for places in result.dropped.values() for place in places]
    assert any("transformations.3.type" in place for place in listed)


def test_several_input_files_become_training_clouds(converted, tmp_path):
    result = converted(hierarchical(in_pcloud=["a.laz", "https://b/c.laz"]))
    assert names(read(tmp_path).clouds.train) == ["a.laz"]
    assert noted(result, "clouds: https://b/c.laz is not a file")
    joined = [{"in_pcloud": "a.laz", "conditions": None}, {"in_pcloud": "b.laz"}]
    converted(hierarchical(in_pcloud=..., in_pcloud_concat=joined))
    assert names(read(tmp_path).clouds.train) == ["a.laz", "b.laz"]


def test_uncertainty_evaluators_become_output_dimensions(converted, tmp_path):
    spec = hierarchical()
    spec["sequential_pipeline"].append(
        {
            "eval": "ClassificationUncertaintyEvaluator",
            "include_weighted_entropy": True,
            "include_probabilities": False,
        }
    )
    converted(spec)
    assert read(tmp_path).prediction.write == ["prediction", "confidence", "entropy"]


def test_widths_that_are_no_multiple_of_eight_share_smaller_groups(converted, tmp_path):
    converted(hierarchical(**{f"{EXTRACTION}feature_space_dims": [8, 12, 20]}))
    assert read(tmp_path).model.kpconvx.groups == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{BEFORE}num_points_per_depth": "many"}, r"num_points_per_depth.*\"many\""),
        ({f"{BEFORE}num_pwise_neighbors": [4]}, r"a list of 2 entries"),
        ({f"{BEFORE}neighborhood__type": "star"}, r"rectangular2D"),
        ({f"{BEFORE}neighborhood__radius": "far"}, r"a length in meters"),
        ({f"{MODEL}model_handling__training_epochs": -2}, r"training_epochs"),
        ({f"{MODEL}model_handling__class_weight": [1]}, r"each of the 4 classes"),
        ({f"{EXTRACTION}feature_space_dims": ...}, r"feature_space_dims"),
        ({"sequential_pipeline__0__class_groups": [["moon"]]}, r"input_class_names"),
        ({"sequential_pipeline__0__output_class_names": ["a"]}, r"names, one for each"),
        ({"sequential_pipeline": 3}, r"must be a list of objects"),
        ({f"{TRAIN}train": ...}, r"trains nothing.*vl3d-lite predict"),
        ({f"{MODEL}pre_processing": ...}, r"not a network"),
    ],
    ids=str,
)
def test_an_invalid_vl3d_spec_gets_one_message(tmp_path, changes, message):
    path = write(tmp_path / "vl3d.json", hierarchical(**changes))
    with pytest.raises(SpecError, match=message) as error:
        convert(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", '"x"', "null", "[" * 100_000])
def test_a_file_that_is_no_spec_is_refused(tmp_path, text):
    (tmp_path / "vl3d.json").write_text(text)
    with pytest.raises(SpecError, match=r"vl3d\.json"):
        convert(tmp_path / "vl3d.json")


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        convert(tmp_path / "vl3d.json")
    (tmp_path / "vl3d.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="is not JSON"):
        convert(tmp_path / "vl3d.json")


@pytest.mark.slow
def test_no_nonsensical_value_causes_a_traceback(tmp_path):
    whole = hierarchical()

    def places(value, way=()):
        if isinstance(value, dict | list):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for key, inner in entries:
                yield (*way, key)
                yield from places(inner, (*way, key))

    for way in list(places(whole)):
        for nonsense in (None, -1, "x", [], {}, [{}], 1e400, True):
            spec = json.loads(json.dumps(whole))
            part = spec
            for key in way[:-1]:
                part = part[key]
            part[way[-1]] = nonsense
            path = write(tmp_path / "vl3d.json", spec)
            try:
                text = convert(path).text()
            except SpecError:
                continue
            assert isinstance(yaml.safe_load(text), dict), (way, nonsense)


def test_a_class_name_cannot_end_its_comment(converted, tmp_path):
    names = ["green\nseed: 99", "built", "rest", "nothing: {"]
    converted(hierarchical(sequential_pipeline__0__output_class_names=names))
    spec = read(tmp_path)
    assert spec.seed == 11
    assert spec.class_names == ["green_seed: 99", "built", "rest"]


@pytest.mark.parametrize(
    ("buildings", "code"), [([6], 1), ([6, 1], 0), ([6, 1, 0, 64], 65)]
)
def test_a_class_of_all_others_is_written_as_a_code_of_no_class(buildings, code):
    found = {"Other": {"codes": [2, 5, 9]}, "building": {"codes": buildings}}
    notes = []
    classes, _ = _classes(found, found, notes)
    assert classes["Other"] == {"codes": [2, 5, 9], "output_code": code}
    assert f"classes: `Other` is written as {code}, a code of no class" in notes[1]


def test_two_classes_of_all_others_are_written_as_two_codes():
    found = {
        "Other": {"codes": [2, 5]},
        "building": {"codes": [6]},
        "Rest": {"codes": [3, 9]},
    }
    notes = []
    classes, _ = _classes(found, found, notes)
    assert classes["Other"]["output_code"] == 1
    assert classes["Rest"]["output_code"] == 0
    assert (
        "`Other` is written as 1, a code of no class; "
        "`Rest` is written as 0, a code of no class. "
    ) in notes[1]
