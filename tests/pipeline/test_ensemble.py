"""Ensembles: the mean of the networks of several runs, as a run of its own."""

import dataclasses
import hashlib
import json
import shutil

import keras
import laspy
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from scipy.special import softmax
from typer.main import get_command

from tests.pipeline.commands import module
from vl3d_lite import pipeline
from vl3d_lite.cli.app import app
from vl3d_lite.dataset.batches import SweepBatches
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import DataError, InterruptedRunError, ResourceError, SpecError
from vl3d_lite.evaluation.rotations import with_symmetry
from vl3d_lite.model.ensemble import combine_networks
from vl3d_lite.model.files import load_model, save_model
from vl3d_lite.model.kernels import kernels_of
from vl3d_lite.pipeline import ensemble
from vl3d_lite.pipeline.ensemble import obstacle
from vl3d_lite.pipeline.members import Member
from vl3d_lite.pipeline.verify import verify
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system import FileCache, hashing
from vl3d_lite.system.hashing import file_hash

OPTIONS = Options(threads=1, quiet=True)
SHORT = ["training.epochs=1", "training.steps_per_epoch=2", "export.kernels=false"]


pytestmark = pytest.mark.usefixtures("nothing_twice")


@pytest.fixture(scope="module")
def other(place, tmp_path_factory):
    """A run with another seed, another training cloud and so another scaling."""
    folder = RunFolder(tmp_path_factory.mktemp("other") / "other")
    loaded = read_spec(
        place / "spec.yaml", ["seed=4", f"clouds.train=[{place}/test.laz]", *SHORT]
    )
    pipeline.train(loaded, folder, OPTIONS)
    return folder


@pytest.fixture(scope="module")
def both(trained, other, tmp_path_factory):
    """The ensemble of the two."""
    folder = RunFolder(tmp_path_factory.mktemp("both") / "both")
    ensemble([trained.root, other.root], folder, OPTIONS)
    return folder


@pytest.fixture
def uncalibrated(monkeypatch):
    """An ensemble gets a temperature without a prediction of its validation clouds."""
    monkeypatch.setattr(module("ensemble"), "calibrate", lambda *_: Temperature(1.3))


def open_network(run):
    spec, scaling = pipeline.open_run(run)
    return pipeline.load_network(run, spec, scaling), spec, scaling


def a_batch(cloud, run, like=None):
    """The first batch of a cloud, with features as that run scales them.

    Fields are those of the run `like`: they depend on its seed.
    """
    _, scaling = pipeline.open_run(run)
    spec, _ = pipeline.open_run(like or run)
    inputs, rows = next(iter(SweepBatches(prepare_file(cloud, spec, 1), spec, scaling)))
    return inputs, rows >= 0


def probabilities_of(network, inputs):
    logits = keras.ops.convert_to_numpy(network(inputs))
    return softmax(logits.astype(float), axis=-1)


def broken_copy(run, folder, old, new):
    """A run with another spec, as if it were trained with it."""
    copy = RunFolder(shutil.copytree(run.root, folder))
    text = copy.spec.read_text()
    assert old in text
    copy.spec.write_text(text.replace(old, new))
    features = copy.features.read_text()
    copy.features.write_text(features.replace(f'"{old}"', f'"{new}"'))
    content = copy.read_provenance()
    content["files"]["features.json"] = file_hash(copy.features)
    del content["network_sha256"]
    copy.provenance.write_text(json.dumps(content))
    return copy.root


def vl3d(*words):
    return CliRunner().invoke(get_command(app), list(map(str, words)))


@pytest.mark.slow
def test_the_network_averages_the_probabilities_of_its_members(
    place, trained, other, both
):
    scalings = [pipeline.open_run(run)[1] for run in (trained, other)]
    assert not np.allclose(scalings[0].mean, scalings[1].mean, rtol=1e-3)
    inputs, real = a_batch(place / "val.laz", both)
    members = [
        probabilities_of(open_network(run)[0], a_batch(place / "val.laz", run, both)[0])
        for run in (trained, other)
    ]
    assert np.abs(members[0] - members[1])[real].max() > 0.1
    result = probabilities_of(open_network(both)[0], inputs)
    np.testing.assert_allclose(result[real], np.mean(members, 0)[real], atol=1e-5)


@pytest.mark.slow
def test_networks_do_not_change_and_a_saved_ensemble_equals_the_mean(
    place, trained, tmp_path
):
    network, _, _ = open_network(trained)
    inputs, _ = a_batch(place / "val.laz", trained)
    alone = probabilities_of(network, inputs)
    model = combine_networks([network] * 3, [None] * 3)
    save_model(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(probabilities_of(loaded, inputs), alone, atol=1e-6)
    np.testing.assert_array_equal(probabilities_of(network, inputs), alone)
    assert {t.name for t in loaded.inputs} == {t.name for t in network.inputs}


@pytest.mark.slow
def test_the_symmetric_twin_has_the_weights_of_all_members(place, both):
    model, spec, scaling = open_network(both)
    inputs, real = a_batch(place / "val.laz", both)
    twin = with_symmetry(model, spec, len(scaling.names), "none")
    np.testing.assert_allclose(
        probabilities_of(twin, inputs)[real],
        probabilities_of(model, inputs)[real],
        atol=1e-6,
    )


@pytest.mark.slow
def test_a_predicted_cloud_has_the_mean_of_the_members(
    place, trained, other, both, tmp_path
):
    # Fields depend on the seed of the spec, so it is the same here.
    alike = RunFolder(broken_copy(other, tmp_path / "alike", "seed: 4", "seed: 3"))
    columns = []
    for number, run in enumerate((trained, alike, both)):
        pipeline.predict(
            run,
            [place / "test.laz"],
            tmp_path / str(number),
            OPTIONS,
            ["prediction.calibrate=false", "prediction.votes=1"],
        )
        las = laspy.read(tmp_path / str(number) / "test.laz")
        names = [n for n in las.point_format.dimension_names if n.startswith("p_")]
        assert len(names) == 3
        columns.append(np.column_stack([las[name] for name in names]).astype(float))
    np.testing.assert_allclose(columns[2], (columns[0] + columns[1]) / 2, atol=1e-5)


@pytest.mark.slow
def test_an_ensemble_can_be_evaluated_and_verified(place, both, tmp_path):
    run = RunFolder(shutil.copytree(both.root, tmp_path / "run"))
    before = Temperature.from_json(run.calibration.read_text())
    assert before.before.count.sum() == len(laspy.read(place / "val.laz").points)
    outcomes = pipeline.predict(run, [place / "test.laz"], run.predictions, OPTIONS)
    assert outcomes[0].temperature == before.value
    result = pipeline.evaluate(run, run.predictions)
    assert 0 < result.scores.overall_accuracy <= 1
    assert run.report.is_file()
    found = verify(run)
    assert not found.differences
    assert not found.absent
    assert "test.laz, predicted again" in found.equal
    inspected = vl3d("inspect", run.root)
    assert "member_2_logits" in inspected.output


@pytest.mark.slow
def test_the_provenance_names_the_runs(trained, other, both):
    content = both.read_provenance()
    assert [entry["run"] for entry in content["ensemble"]] == [
        str(trained.root),
        str(other.root),
    ]
    assert [entry["seed"] for entry in content["ensemble"]] == [3, 4]
    hashes = [run.read_provenance()["files"]["model.keras"] for run in (trained, other)]
    assert [entry["model"] for entry in content["ensemble"]] == hashes
    names = {entry["path"].rsplit("/", 1)[-1] for entry in content["inputs"]}
    assert names == {"train.laz", "val.laz", "test.laz"}
    counts = [run.read_provenance()["parameters"] for run in (trained, other)]
    assert content["parameters"] == sum(counts)
    assert both.features.read_text() == trained.features.read_text()


@pytest.mark.slow
def test_the_kernels_of_all_members_are_exported(place, trained, other, both, tmp_path):
    pipeline.export(both, tmp_path / "kernels", OPTIONS, place / "val.laz")
    written = {path.name for path in (tmp_path / "kernels").iterdir() if path.is_dir()}
    expected = {
        f"{stage}_member_{number}_{kernel.name}"
        for number, run in ((1, trained), (2, other))
        for kernel in kernels_of(open_network(run)[0])
        for stage in ("INIT", "TRAINED")
    }
    assert len(expected) == 8
    assert written == expected
    statistics = json.loads((tmp_path / "kernels" / "statistics.json").read_text())
    names = {*statistics["layers"], *statistics["attention"]}
    assert {"member_1_kpconvx_0_0", "member_2_gva_0_1"} <= names
    found = {kernel.name: kernel for kernel in kernels_of(open_network(both)[0])}
    for kernel in kernels_of(open_network(other)[0]):
        np.testing.assert_array_equal(found[f"member_2_{kernel.name}"].W, kernel.W)


@pytest.mark.slow
def test_without_its_validation_clouds_temperatures_are_averaged(
    place, trained, other, tmp_path, caplog
):
    first = RunFolder(shutil.copytree(trained.root, tmp_path / "first"))
    second = RunFolder(shutil.copytree(other.root, tmp_path / "second"))
    first.spec.write_text(first.spec.read_text().replace("val.laz", "gone.laz"))
    for run, value in ((first, 0.5), (second, 1.62)):
        run.calibration.write_text(json.dumps(Temperature(value).to_dict()))
        known = run.read_provenance()["files"]
        known["calibration.json"] = file_hash(run.calibration)
        run.update_provenance(files=known)
    run = RunFolder(tmp_path / "run")
    ensemble([first.root, second.root], run, OPTIONS)
    assert Temperature.from_json(run.calibration.read_text()).value == 0.9
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert sum("validation clouds are not found" in text for text in warnings) == 1


def test_confidence_is_not_calibrated_on_other_clouds(trained, place, tmp_path):
    spec, scaling = pipeline.open_run(trained)
    content = trained.read_provenance()
    first = Member(trained, spec, scaling, content)
    clouds = [place / "val.laz"]
    assert obstacle([first], None).endswith("its validation clouds are not found")
    assert obstacle([first], clouds) == ""
    replaced = [shutil.copy(place / "test.laz", tmp_path / "val.laz")]
    assert "val.laz: is not a validation cloud that" in obstacle([first], replaced)
    train, validation = content["inputs"]
    leaking = [{**train, "sha256": validation["sha256"]}, validation]
    member = dataclasses.replace(first, provenance={"inputs": leaking})
    for members in ([member, first], [first, member]):
        assert f"was trained on {clouds[0]}" in obstacle(members, clouds)


def test_clouds_are_read_once_for_the_hashes_of_all_members(
    trained, place, monkeypatch
):
    read, digest = [], hashlib.file_digest

    def counted(file, kind):
        read.append(file.name)
        return digest(file, kind)

    monkeypatch.setattr(hashing.hashlib, "file_digest", counted)
    monkeypatch.setattr(hashing, "HASHES", FileCache(8))
    member = Member(trained, *pipeline.open_run(trained), trained.read_provenance())
    read.clear()
    assert obstacle([member] * 3, [place / "val.laz"]) == ""
    assert read == [str(place / "val.laz")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "section"),
    [
        ("building:", "house:", "classes"),
        ("grid_size: 0.5", "grid_size: 0.6", "fields"),
        ("relative_intensity", "intensity", "features"),
        ("hidden_ratio: 2", "hidden_ratio: 3", "model"),
    ],
)
def test_runs_of_other_specs_are_refused(trained, tmp_path, old, new, section):
    strange = broken_copy(trained, tmp_path / "strange", old, new)
    with pytest.raises(SpecError, match=rf"strange: its `{section}` differs.*place"):
        ensemble([trained.root, strange], RunFolder(tmp_path / "run"), OPTIONS)
    assert not (tmp_path / "run").exists()


def test_too_few_runs_and_the_same_one_twice_are_refused(trained, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SpecError, match="at least two"):
        ensemble([trained.root], run, OPTIONS)
    again = trained.root / "predictions" / ".."
    with pytest.raises(SpecError, match="twice"):
        ensemble([trained.root, again], run, OPTIONS)
    assert not run.root.exists()


@pytest.mark.slow
def test_what_is_not_a_single_trained_run_is_refused(trained, both, tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match="no such run folder"):
        ensemble([trained.root, tmp_path / "nothing"], run, OPTIONS)
    with pytest.raises(SpecError, match=r"is an ensemble.*place.*other"):
        ensemble([both.root, trained.root], run, OPTIONS)
    assert not run.root.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("uncalibrated")
def test_a_temperature_in_the_spec_of_a_member_is_not_that_of_the_ensemble(
    trained, other, tmp_path
):
    run = RunFolder(shutil.copytree(trained.root, tmp_path / "given"))
    content = yaml.safe_load(run.spec.read_text())
    content["prediction"]["temperature"] = 0.25
    run.spec.write_text(yaml.safe_dump(content, sort_keys=False))
    mean = RunFolder(tmp_path / "mean")
    ensemble([run.root, other.root], mean, OPTIONS)
    spec, _ = pipeline.open_run(mean)
    fitted = json.loads(mean.calibration.read_text())["temperature"]
    assert spec.prediction.temperature is None
    assert pipeline.open_calibration(mean, spec).value == fitted


@pytest.mark.slow
def test_clouds_that_another_member_was_trained_on_are_found(other, place):
    member = Member(other, *pipeline.open_run(other), {})
    clouds = [place / "test.laz", place / "val.laz"]
    assert member.trained_on(clouds) == clouds[:1]


@pytest.mark.slow
def test_initial_weights_of_an_ensemble_are_those_of_its_first_member(
    trained, place, both, tmp_path, monkeypatch
):
    def stopped(*_, **__):
        raise InterruptedRunError("the kernels are stored", 143)

    monkeypatch.setattr(module("train"), "TrainingLoop", stopped)
    kernels = []
    for number, start in enumerate((trained, both)):
        weights = f"training.initial_weights={start.root}"
        run = RunFolder(tmp_path / str(number))
        with pytest.raises(InterruptedRunError, match="the kernels are stored"):
            pipeline.train(read_spec(place / "spec.yaml", [weights]), run, OPTIONS)
        kernels.append(np.load(run.initial_kernels))
    alone, combined = kernels
    assert set(alone) == set(combined)
    for name in alone:
        np.testing.assert_array_equal(alone[name], combined[name])


@pytest.mark.slow
@pytest.mark.usefixtures("uncalibrated")
def test_a_folder_in_use_is_replaced_only_on_request(trained, other, both, tmp_path):
    run = RunFolder(shutil.copytree(trained.root, tmp_path / "run"))
    (run.root / "notes.txt").write_text("mine")
    runs = [trained.root, other.root]
    with pytest.raises(SpecError, match="--overwrite"):
        ensemble(runs, run, OPTIONS)
    assert "ensemble" not in run.read_provenance()
    replacing = Options(threads=1, quiet=True, overwrite=True)
    with pytest.raises(SpecError, match="is inside the run"):
        ensemble([run.root, other.root], run, replacing)
    ensemble(runs, run, replacing)
    assert (run.root / "notes.txt").read_text() == "mine"
    assert not run.history.exists()
    assert {path.name for path in run.root.iterdir()} == {
        "notes.txt",
        *(path.name for path in both.root.iterdir()),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.usefixtures("uncalibrated")
def test_a_failure_leaves_no_files(trained, other, tmp_path, monkeypatch):
    def full(path, content):
        if path.name == "run.json":
            raise ResourceError("disk full")
        path.write_text(json.dumps(content))

    monkeypatch.setattr(module("ensemble"), "write_json", full)
    with pytest.raises(ResourceError, match="disk full"):
        ensemble([trained.root, other.root], RunFolder(tmp_path / "run"), OPTIONS)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("uncalibrated")
def test_the_command_prints_what_it_wrote(trained, other, both, tmp_path):
    words = ("combine", trained.root, other.root, "--run", tmp_path / "run", "--quiet")
    result = vl3d(*words)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "run" / "model.keras") in result.output
    written = RunFolder(tmp_path / "run").read_provenance()
    assert written["weights_sha256"] == both.read_provenance()["weights_sha256"]


def test_features_of_another_order_are_refused(trained, tmp_path):
    strange = RunFolder(shutil.copytree(trained.root, tmp_path / "strange"))
    scaling = FeatureScaling.from_json(strange.features.read_text())
    reordered = FeatureScaling(scaling.names[::-1], scaling.mean, scaling.std)
    strange.features.write_text(reordered.to_json())
    digest = file_hash(strange.features)
    files = strange.read_provenance()["files"]
    strange.update_provenance(files={**files, "features.json": digest})
    with pytest.raises(DataError, match=r"must hold the features of spec\.yaml"):
        ensemble([trained.root, strange.root], RunFolder(tmp_path / "run"), OPTIONS)
