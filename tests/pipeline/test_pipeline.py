"""Whole commands on a small place: their outputs, and what they refuse."""

import csv
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from vl3d_lite import pipeline
from vl3d_lite.dataset import features
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import (
    DataError,
    DivergedError,
    InterruptedRunError,
    ResourceError,
    SpecError,
)
from vl3d_lite.evaluation.pairs import read_pair
from vl3d_lite.kernels.export import read_kernel
from vl3d_lite.kernels.page import kernel_page
from vl3d_lite.model.backend import uses_accelerator
from vl3d_lite.pipeline import calibrating, cloud_queue, publishing
from vl3d_lite.prediction import classifier as classify
from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.history import read_history
from vl3d_lite.runs.options import Options
from vl3d_lite.runs.provenance import array_hash, file_hash, network_hash
from vl3d_lite.spec.reader import read_spec

OPTIONS = Options(threads=2, quiet=True)


def module(name):
    """The module of a command, whose package has its function under that name."""
    return importlib.import_module(f"vl3d_lite.pipeline.{name}")


def predicted(folder, name="test.laz"):
    return laspy.read(folder / name)


def test_a_run_writes_all_its_files(trained):
    names = {
        str(path.relative_to(trained.root))
        for path in trained.root.rglob("*")
        if path.is_file()
    }
    assert {
        "spec.yaml",
        "run.json",
        "features.json",
        "calibration.json",
        "model.keras",
        "history.csv",
        "history.png",
        "metrics.json",
        "metrics.csv",
        "disagreements.csv",
        "confusion.png",
        "report.html",
        "predictions/test.laz",
        "predictions/predictions.json",
        "kernels/INIT_kpconvx_0_0/Q.csv",
        "kernels/INIT_kpconvx_0_0/W0.csv",
        "kernels/TRAINED_kpconvx_0_0/W0.csv",
        "kernels/TRAINED_kpconvd_1_0/W0.csv",
    } <= names
    assert not [name for name in names if "part" in name.split("/")[-1]]


def test_the_network_learns_the_place(trained):
    metrics = json.loads(trained.metrics.read_text())
    assert metrics["pooled"]["mean_iou"] > 0.5


def test_every_point_gets_a_class_and_keeps_the_rest(trained, place):
    before, after = laspy.read(place / "test.laz"), predicted(trained.predictions)
    for name in before.point_format.dimension_names:
        np.testing.assert_array_equal(before[name], after[name])
    assert set(np.unique(after.prediction)) <= {2, 5, 6}
    listing = json.loads((trained.predictions / "predictions.json").read_text())
    cloud = listing["clouds"][0]
    assert cloud["voted"] + cloud["nearest"] == cloud["points"] == len(before)
    total = after["p_ground"] + after["p_vegetation"] + after["p_building"]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert after.confidence.min() >= 1 / 3 - 1e-6
    assert 0 <= after.entropy.min() <= after.entropy.max() <= 1


def test_scores_are_those_of_the_files(trained, place):
    before, after = laspy.read(place / "test.laz"), predicted(trained.predictions)
    truth = np.where(before.classification == 3, 5, before.classification)
    metrics = json.loads(trained.metrics.read_text())
    expected = []
    for code in (2, 5, 6):
        both = np.sum((truth == code) & (after.prediction == code))
        either = np.sum((truth == code) | (after.prediction == code))
        expected.append(both / either)
    classes = metrics["pooled"]["per_class"]
    ious = [classes[name]["iou"] for name in ("ground", "vegetation", "building")]
    np.testing.assert_allclose(ious, expected, rtol=1e-9)


def without_calibration(run, place, folder):
    pipeline.predict(
        run, [place / "test.laz"], folder, OPTIONS, ["prediction.calibrate=false"]
    )
    return predicted(folder)


@pytest.mark.slow
def test_calibration_changes_probabilities_by_a_power_and_no_class(
    trained, place, tmp_path
):
    temperature = json.loads(trained.calibration.read_text())["temperature"]
    assert temperature != 1
    raw = without_calibration(trained, place, tmp_path)
    after = predicted(trained.predictions)
    np.testing.assert_array_equal(raw.prediction, after.prediction)
    names = ["p_ground", "p_vegetation", "p_building"]
    powers = np.stack([raw[name] for name in names]) ** (1 / temperature)
    powers /= powers.sum(axis=0)
    np.testing.assert_allclose(after.confidence, powers.max(axis=0), atol=1e-5)
    for name, expected in zip(names, powers, strict=True):
        np.testing.assert_allclose(after[name], expected, atol=1e-5)


@pytest.mark.slow
def test_scores_hold_the_calibration_error_before_and_after(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    calibration = json.loads(trained.metrics.read_text())["pooled"]["calibration"]
    without_calibration(copy, place, tmp_path / "raw")
    raw = pipeline.evaluate(copy, tmp_path / "raw").to_dict()["pooled"]["calibration"]
    assert calibration["uncalibrated_error"] == pytest.approx(
        raw["expected_error"], abs=1e-6
    )
    assert calibration["expected_error"] != raw["expected_error"]
    assert raw["uncalibrated_error"] is None
    assert "was fitted on" in trained.report.read_text()
    assert "was fitted on" not in copy.report.read_text()
    given = ["prediction.temperature=0.7"]
    pipeline.predict(copy, [place / "test.laz"], tmp_path / "given", OPTIONS, given)
    pipeline.evaluate(copy, tmp_path / "given")
    assert "calibrated with the temperature 0.700" in copy.report.read_text()


@pytest.mark.slow
def test_a_run_without_a_calibration_is_logged(trained, place, tmp_path, caplog):
    caplog.set_level("INFO")
    copy = copy_of(trained, tmp_path / "copy")
    copy.calibration.unlink()
    pipeline.predict(copy, [place / "test.laz"], tmp_path / "out", OPTIONS)
    assert "no calibration.json" in caplog.text
    raw = without_calibration(trained, place, tmp_path / "raw")
    np.testing.assert_array_equal(
        predicted(tmp_path / "out").confidence, raw.confidence
    )


@pytest.mark.slow
def test_an_interrupted_calibration_loses_no_training(place, tmp_path, monkeypatch):
    def interrupted(samples):
        raise InterruptedRunError("calibrating was interrupted", 143)

    loaded = read_spec(place / "spec.yaml", SHORT)
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(calibrating, "fit_temperature", interrupted)
        with pytest.raises(InterruptedRunError, match="--resume") as stop:
            pipeline.train(loaded, run, OPTIONS)
    assert stop.value.exit_code == 143
    assert not run.model.exists()
    pipeline.train(loaded, run, Options(threads=2, quiet=True, resume=True))
    assert len(read_history(run.history)) == 1
    assert run.calibration.is_file()
    assert run.model.is_file()


@pytest.mark.slow
@pytest.mark.parametrize("written", ["prediction", "classification"])
def test_unsure_points_are_written_as_such_and_scored_both_ways(
    trained, place, tmp_path, written
):
    copy = copy_of(trained, tmp_path / "copy")
    before = predicted(trained.predictions)
    threshold = float(np.quantile(before.confidence, 0.3))
    pipeline.predict(
        copy,
        [place / "test.laz"],
        tmp_path / "out",
        OPTIONS,
        [
            f"prediction.write=[{written}, confidence]",
            f"prediction.min_confidence={threshold}",
        ],
    )
    after = predicted(tmp_path / "out")
    unsure = np.asarray(before.confidence) < np.float32(threshold)
    assert 0.2 < unsure.mean() < 0.4
    expected = np.where(unsure, 1, before.prediction)
    np.testing.assert_array_equal(after[written], expected)
    np.testing.assert_array_equal(after.prediction_raw, before.prediction)
    metrics = pipeline.evaluate(copy, tmp_path / "out").to_dict()["pooled"]
    whole = json.loads(trained.metrics.read_text())["pooled"]
    assert metrics["confusion"] == whole["confusion"]
    assert metrics["accepted"]["coverage"] == pytest.approx(1 - unsure.mean())
    truth = laspy.read(place / "test.laz").classification
    truth = np.where(truth == 3, 5, truth)
    right = (truth == after[written])[~unsure]
    assert metrics["accepted"]["overall_accuracy"] == pytest.approx(right.mean())
    assert "were rejected, that is, left unclassified" in copy.report.read_text()


@pytest.mark.slow
def test_disagreements_are_listed_with_their_coordinates(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    las = laspy.read(place / "test.laz")
    roof = (abs(las.x - 450008.5) < 4) & (abs(las.y - 5410010.5) < 4)
    roof &= las.classification == 6
    las.classification[roof] = 2  # a reference that is wrong
    las.write(tmp_path / "wrong.laz")
    pipeline.predict(copy, [tmp_path / "wrong.laz"], tmp_path / "out", OPTIONS)
    pipeline.evaluate(copy, tmp_path / "out")
    with copy.disagreements.open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["reference"], first["prediction"]) == ("ground", "building")
    assert int(first["points"]) > 0.8 * roof.sum()
    assert abs(float(first["x"]) - 450008.5) < 2
    assert abs(float(first["y"]) - 5410010.5) < 2
    summary = json.loads(copy.metrics.read_text())["disagreements"]
    assert summary["count"] >= 1
    assert summary["points"] >= int(first["points"])
    assert summary["link_distance"] == 1.0
    assert "1. ground predicted as building" in re.sub(
        "<[^>]*>", "", copy.report.read_text()
    )


@pytest.mark.slow
def test_missing_return_numbers_are_a_warning_and_imputed_from_the_training(
    trained, place, tmp_path, caplog, monkeypatch
):
    las = laspy.read(place / "test.laz")
    for name, value in (("unknown", 0), ("single", 1)):
        las.return_number[:] = value
        las.number_of_returns[:] = value
        las.write(tmp_path / f"{name}.laz")
    clouds = [tmp_path / "unknown.laz", tmp_path / "single.laz", place / "test.laz"]
    pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    warnings = [
        r.getMessage() for r in caplog.records if "at every point" in r.getMessage()
    ]
    assert [text.partition(", as in a file")[0] for text in warnings] == [
        f"{path}: `return_ratio` is 1 at every point" for path in clouds[:2]
    ]
    unknown, single = (predicted(tmp_path / "out", path.name) for path in clouds[:2])
    np.testing.assert_array_equal(unknown.confidence, single.confidence)
    scaling = FeatureScaling.from_json(trained.features.read_text())
    ratio = scaling.mean[scaling.names.index("return_ratio")]
    monkeypatch.setattr(
        features, "return_ratio", lambda number, count: 0 * count + ratio
    )
    pipeline.predict(trained, clouds[1:2], tmp_path / "mean", OPTIONS)
    mean = predicted(tmp_path / "mean", "single.laz")
    np.testing.assert_array_equal(single.confidence, mean.confidence)


@pytest.mark.slow
def test_missing_features_are_imputed_wherever_the_network_uses_them(
    trained, place, tmp_path, monkeypatch
):
    class SeenError(Exception):
        pass

    seen = []

    def see(*arguments, **_):
        for argument in arguments:
            argument = getattr(argument, "validation", argument)
            some = argument if isinstance(argument, list) else [argument]
            seen.extend(a for a in some if isinstance(a, PreparedCloud))
        raise SeenError

    las = laspy.read(place / "test.laz")
    las.return_number[:] = las.number_of_returns[:] = 1
    path = tmp_path / "single.laz"
    las.write(path)
    _, scaling = pipeline.open_run(trained)
    for name, user in (
        ("measure_rotations", "evaluate"),
        ("measure_kernels", "export"),
        ("make_validator", "train"),
    ):
        monkeypatch.setattr(module(user), name, see)
    monkeypatch.setattr(classify, "SweepBatches", see)
    with pytest.raises(SeenError):
        pipeline.rotations(trained, path, OPTIONS)
    with pytest.raises(SeenError):
        pipeline.export(trained, tmp_path / "kernels", OPTIONS, path)
    with pytest.raises(SeenError):
        pipeline.predict(trained, [path], tmp_path / "out", OPTIONS)
    loaded = read_spec(place / "spec.yaml", [f"clouds.validation=['{path}']", *SHORT])
    with pytest.raises(SeenError):
        pipeline.train(loaded, RunFolder(tmp_path / "run"), OPTIONS)
    assert len(seen) == 4
    column = scaling.names.index("return_ratio")
    for prepared in seen:
        np.testing.assert_allclose(
            prepared.features[:, column], scaling.mean[column], rtol=1e-6
        )


@pytest.mark.slow
def test_a_shifted_cloud_is_predicted_alike(trained, tmp_path):
    write_place(tmp_path / "here.laz", 2)
    write_place(tmp_path / "there.laz", 2, shift=(700000, 6600000, 0))
    pipeline.predict(
        trained,
        [tmp_path / "here.laz", tmp_path / "there.laz"],
        tmp_path / "out",
        OPTIONS,
    )
    here, there = (predicted(tmp_path / "out", f"{n}.laz") for n in ("here", "there"))
    for name in ("prediction", "confidence", "p_ground"):
        np.testing.assert_array_equal(here[name], there[name])


@pytest.mark.slow
def test_further_grids_separate_points_of_a_cell(trained, place, tmp_path):
    cloud, spec = place / "test.laz", read_spec(trained.spec, check_files=False).spec
    shares = []
    for grids in (1, 3):
        (outcome,) = pipeline.predict(
            trained,
            [cloud],
            tmp_path / str(grids),
            OPTIONS,
            [f"prediction.grids={grids}"],
        )
        assert outcome.voted == outcome.points == len(laspy.read(cloud))
        las = laspy.read(tmp_path / str(grids) / cloud.name)
        shares.append(np.stack([las[f"p_{name}"] for name in spec.classes], axis=1))
    cell = prepare_file(cloud, spec, 1).cell_of_point
    pairs = np.flatnonzero(np.diff(np.sort(cell)) == 0)
    one, other = (np.argsort(cell, kind="stable")[pairs + step] for step in (0, 1))
    np.testing.assert_array_equal(shares[0][one], shares[0][other])
    assert np.mean(np.any(shares[1][one] != shares[1][other], axis=1)) > 0.5
    np.testing.assert_allclose(shares[1].sum(axis=1), 1, atol=1e-5)
    assert np.abs(shares[1] - shares[0]).mean() < 0.1


@pytest.mark.slow
def test_unlabeled_codes_are_predicted_and_not_scored(trained, place, tmp_path):
    las = laspy.read(place / "test.laz")
    las.classification[:100] = 7
    las.write(tmp_path / "noisy.laz")
    pipeline.predict(trained, [tmp_path / "noisy.laz"], tmp_path / "out", OPTIONS)
    np.testing.assert_array_equal(
        predicted(tmp_path / "out", "noisy.laz").prediction,
        predicted(trained.predictions).prediction,
    )
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(trained.root, copy.root)
    result = pipeline.evaluate(copy, tmp_path / "out")
    assert result.pooled.ignored == 100


@pytest.mark.slow
def test_classification_is_overwritten_save_for_codes_to_keep(trained, place, tmp_path):
    las = laspy.read(place / "test.laz")
    las.classification[:100] = 18
    las.write(tmp_path / "noisy.laz")
    pipeline.predict(
        trained,
        [tmp_path / "noisy.laz"],
        tmp_path / "out",
        OPTIONS,
        ["prediction.write=[prediction, classification]", "prediction.keep_codes=[18]"],
    )
    after = predicted(tmp_path / "out", "noisy.laz")
    assert (after.classification[:100] == 18).all()
    np.testing.assert_array_equal(after.classification[100:], after.prediction[100:])
    assert "confidence" not in after.point_format.dimension_names


def copy_of(run, folder):
    shutil.copytree(run.root, folder)
    return RunFolder(folder)


@pytest.mark.slow
def test_an_output_without_classes_is_not_scored(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    pipeline.predict(
        copy,
        [place / "test.laz"],
        tmp_path / "out",
        OPTIONS,
        ["prediction.write=[confidence]"],
    )
    with pytest.raises(DataError, match="has no dimension of predicted classes"):
        pipeline.evaluate(copy, tmp_path / "out")


@pytest.mark.slow
def test_kept_codes_are_not_scored_as_predictions(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    pipeline.predict(
        copy,
        [place / "test.laz"],
        tmp_path / "out",
        OPTIONS,
        ["prediction.write=[classification]", "prediction.keep_codes=[6]"],
    )
    result = pipeline.evaluate(copy, tmp_path / "out")
    roofs = int(np.sum(laspy.read(place / "test.laz").classification == 6))
    assert roofs > 0
    assert result.pooled.ignored == roofs


@pytest.mark.slow
def test_scores_of_other_clouds_do_not_stay_beside_the_report(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    las = laspy.read(place / "test.laz")
    las.classification[:] = 0
    las.write(tmp_path / "bare.laz")
    pipeline.predict(copy, [tmp_path / "bare.laz"], tmp_path / "out", OPTIONS)
    assert copy.metrics.is_file()
    assert pipeline.evaluate(copy, tmp_path / "out") is None
    assert not copy.metrics.exists()
    assert not copy.scores.exists()
    assert copy.report.stat().st_mtime > trained.report.stat().st_mtime


def test_a_trained_run_changes_nothing_but_prediction(trained, place, tmp_path):
    with pytest.raises(SpecError, match="can only change `prediction"):
        pipeline.predict(
            trained, [place / "test.laz"], tmp_path, OPTIONS, ["fields.radius=3"]
        )


def test_one_bad_cloud_does_not_stop_the_others(trained, place, tmp_path):
    bad, good = tmp_path / "bad.laz", tmp_path / "good.laz"
    bad.write_text("not a cloud")
    shutil.copy(place / "test.laz", good)
    with pytest.raises(DataError, match=r"1 of 2 clouds were not predicted.*bad\.laz"):
        pipeline.predict(trained, [bad, good], tmp_path / "out", OPTIONS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.cloudcompare.xml",
        "classes.qml",
        "good.laz",
        "predictions.json",
    ]
    written = (tmp_path / "out/good.laz").stat().st_mtime_ns
    with pytest.raises(SpecError, match="--resume"):
        pipeline.predict(trained, [good], tmp_path / "out", OPTIONS)
    resumed = Options(threads=2, quiet=True, resume=True)
    pipeline.predict(trained, [good], tmp_path / "out", resumed)
    assert (tmp_path / "out/good.laz").stat().st_mtime_ns == written


def copies(place, folder, *names):
    return [Path(shutil.copy(place / "test.laz", folder / name)) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("beside", [True, False])
def test_clouds_prepared_beside_the_network_are_predicted_alike(
    trained, place, tmp_path, monkeypatch, beside
):
    clouds = copies(place, tmp_path, "a.laz", "broken.laz", "c.laz")
    clouds[1].write_bytes(b"LASF no cloud")
    asked = []

    def fits(path, spec):
        asked.append(path.name)
        return beside

    monkeypatch.setattr(cloud_queue, "fits_beside", fits)
    with pytest.raises(DataError, match="1 of 3 clouds"):
        pipeline.predict(
            trained, clouds, tmp_path / "out", OPTIONS, ["prediction.grids=2"]
        )
    # One question for each grid but the first; the broken cloud fails at its first.
    assert asked == ["a.laz", "broken.laz", "c.laz"]
    first, last = (predicted(tmp_path / "out", name) for name in ("a.laz", "c.laz"))
    np.testing.assert_array_equal(first.confidence, last.confidence)
    once = Options(threads=2, quiet=True, overwrite=True)
    pipeline.predict(
        trained, clouds[:1], tmp_path / "once", once, ["prediction.grids=2"]
    )
    alone = predicted(tmp_path / "once", "a.laz")
    np.testing.assert_array_equal(first.confidence, alone.confidence)
    assert {o.output for o in read_outcomes(tmp_path / "out")} == {"a.laz", "c.laz"}


@pytest.mark.slow
def test_a_cloud_that_cannot_be_written_does_not_stop_the_others(
    trained, place, tmp_path, monkeypatch
):
    clouds = copies(place, tmp_path, "a.laz", "b.laz", "c.laz")
    write = classify.write_prediction

    def full(source, *arguments, **keywords):
        if source.name == "b.laz":
            raise ResourceError("b.laz: no space left")
        write(source, *arguments, **keywords)

    monkeypatch.setattr(classify, "write_prediction", full)
    with pytest.raises(ResourceError, match=r"1 of 3 clouds.*no space left"):
        pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    assert {o.output for o in read_outcomes(tmp_path / "out")} == {"a.laz", "c.laz"}


@pytest.mark.slow
def test_a_cloud_predicted_before_a_signal_is_written_and_noted(
    trained, place, tmp_path, monkeypatch
):
    clouds = copies(place, tmp_path, "a.laz", "b.laz", "c.laz")
    predict_cells = classify.predict_cells

    def signalled(*arguments, description, **keywords):
        if "b.laz" in description:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict_cells(*arguments, description=description, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(classify, "predict_cells", signalled)
        with pytest.raises(InterruptedRunError) as stop:
            pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    assert stop.value.exit_code == 143
    assert [o.output for o in read_outcomes(tmp_path / "out")] == ["a.laz"]
    resumed = Options(threads=2, quiet=True, resume=True)
    pipeline.predict(trained, clouds, tmp_path / "out", resumed)
    assert len(read_outcomes(tmp_path / "out")) == 3


@pytest.mark.slow
def test_a_bad_cloud_keeps_none_of_the_others_from_being_scored(place, tmp_path):
    (tmp_path / "bad.laz").write_text("not a cloud")
    clouds = f"clouds.predict=['{tmp_path / 'bad.laz'}', '{place / 'test.laz'}']"
    loaded = read_spec(
        place / "spec.yaml",
        [clouds, "training.epochs=1", "training.steps_per_epoch=1"],
    )
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match=r"1 of 2 clouds.*bad\.laz"):
        pipeline.run(loaded, run, OPTIONS)
    assert list(json.loads(run.metrics.read_text())["clouds"]) == ["test.laz"]
    assert run.report.is_file()


@pytest.mark.slow
def test_an_existing_dimension_is_an_error_before_training(place, tmp_path):
    las = laspy.read(place / "test.laz")
    las.add_extra_dim(laspy.ExtraBytesParams("prediction", np.uint8))
    las.write(tmp_path / "taken.laz")
    loaded = read_spec(
        place / "spec.yaml", [f"clouds.predict=['{tmp_path / 'taken.laz'}']", *SHORT]
    )
    run = RunFolder(tmp_path / "run")
    with pytest.raises(
        DataError, match=r"already has a dimension `prediction`.*--replace"
    ):
        pipeline.run(loaded, run, OPTIONS)
    assert not run.root.exists()
    replace = Options(threads=2, quiet=True, replace=True)
    assert pipeline.run(loaded, run, replace).clouds


def test_an_output_that_cannot_be_written_is_an_error_before_predicting(
    trained, place, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(module("predict"), "Classifier", None)
    with pytest.raises(ResourceError, match="cannot be written"):
        pipeline.predict(trained, [place / "test.laz"], tmp_path / "file/out", OPTIONS)


@pytest.mark.slow
def test_the_error_of_each_cloud_is_reported_once(trained, tmp_path, caplog):
    clouds = [tmp_path / "one.laz", tmp_path / "two.laz"]
    for cloud in clouds:
        cloud.write_text("not a cloud")
    with pytest.raises(DataError, match=r"2 of 2 clouds.*one\.laz") as raised:
        pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    messages = caplog.text + str(raised.value)
    assert messages.count("one.laz") == 1
    assert messages.count("two.laz") == 1


@pytest.mark.slow
def test_a_cloud_that_trains_and_validates_is_a_warning(place, tmp_path, caplog):
    shared = f"clouds.validation=['{place / 'train.laz'}']"
    loaded = read_spec(place / "spec.yaml", [shared, *SHORT])
    pipeline.train(loaded, RunFolder(tmp_path / "run"), OPTIONS)
    assert "is both a training and a validation cloud" in caplog.text


def test_clouds_of_the_same_name_are_an_error_before_training(place, tmp_path):
    shutil.copy(place / "test.laz", tmp_path / "test.laz")
    clouds = f"clouds.predict=['{tmp_path / 'test.laz'}', '{place / 'test.laz'}']"
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SpecError, match=r"several clouds are named test\.laz"):
        pipeline.run(read_spec(place / "spec.yaml", [clouds]), run, OPTIONS)
    assert not run.root.exists()


def test_a_cloud_is_never_written_onto_itself(trained, place):
    before = (place / "test.laz").read_bytes()
    overwrite = Options(threads=2, quiet=True, overwrite=True)
    with pytest.raises(SpecError, match="its own prediction"):
        pipeline.predict(trained, [place / "test.laz"], place, overwrite)
    assert (place / "test.laz").read_bytes() == before


@pytest.mark.slow
def test_a_saved_model_loads_in_a_fresh_process(trained, tmp_path):
    model = keras.saving.load_model(trained.model)
    rng = np.random.default_rng(0)
    inputs = {}
    for tensor in model.inputs:
        shape = (1, *tensor.shape[1:])
        inputs[tensor.name] = (
            rng.integers(-1, 64, shape).astype("int32")
            if tensor.dtype == "int32"
            else rng.normal(size=shape).astype("float32")
        )
    np.savez(tmp_path / "inputs.npz", **inputs)
    code = (
        "import sys, keras, numpy as np, vl3d_lite.model.layers\n"
        "model = keras.saving.load_model(sys.argv[1], safe_mode=True)\n"
        "inputs = dict(np.load(sys.argv[2]))\n"
        "np.save(sys.argv[3], model.predict_on_batch(inputs))\n"
    )
    out = tmp_path / "logits.npy"
    subprocess.run(
        [sys.executable, "-c", code, trained.model, tmp_path / "inputs.npz", out],
        check=True,
    )
    np.testing.assert_allclose(np.load(out), model.predict_on_batch(inputs), atol=1e-5)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_predictions_and_scores(
    trained, place, tmp_path
):
    again = RunFolder(tmp_path / "again")
    pipeline.run(read_spec(place / "spec.yaml"), again, OPTIONS)
    first, second = (run.read_provenance() for run in (trained, again))
    assert len(first["weights_sha256"]) == 64
    assert first["machine"].keys() >= {"processor", "processors", "memory_gib", "gpus"}
    assert first["accelerator"] is uses_accelerator()
    assert (first["threads"], first["xla"]) == (OPTIONS.threads, False)
    assert first["weights_sha256"] == second["weights_sha256"]
    model = keras.saving.load_model(again.model)
    values = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
    assert array_hash(values) == first["weights_sha256"]
    values[0] = values[0] + 1
    assert array_hash(values) != first["weights_sha256"]
    assert file_hash(trained.predictions / "test.laz") == file_hash(
        again.predictions / "test.laz"
    )
    assert file_hash(trained.metrics) == file_hash(again.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("renamed", [False, True], ids=["same", "renamed"])
def test_a_training_takes_initial_weights_from_another_run(
    trained, place, tmp_path, caplog, renamed
):
    caplog.set_level("INFO")
    settings = [
        f"training.initial_weights={trained.root}",
        "training.learning_rate=1e-12",
    ]
    if renamed:
        settings.append(
            "classes={ground: 2, tree: {codes: [3, 5], output_code: 5}, building: 6}"
        )
    run = RunFolder(tmp_path / "run")
    pipeline.train(read_spec(place / "spec.yaml", [*SHORT, *settings]), run, OPTIONS)
    before, after = (
        [keras.ops.convert_to_numpy(value) for value in model.trainable_variables]
        for model in map(keras.saving.load_model, (trained.model, run.model))
    )
    # The head comes last: its kernel, then its bias.
    for one, other in zip(before[:-2], after[:-2], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
    same = np.abs(after[-2] - before[-2]).max(axis=0) < 1e-6
    assert same.tolist() == [True, not renamed, True]
    message = "tree new; vegetation left out" if renamed else "the head is kept"
    assert message in caplog.text
    assert run.features.read_text() == trained.features.read_text()
    initial = run.read_provenance()["initial_weights"]
    assert initial["sha256"] == file_hash(trained.model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("features=[height, return_ratio]", "this spec lacks relative_intensity"),
        (
            "features=[return_ratio, height, relative_intensity, intensity]",
            "this spec adds intensity",
        ),
        (
            "features=[return_ratio, height, relative_intensity]",
            "this spec reorders them",
        ),
        ("model.stages.1.channels=24", r"`model.stages\[1\].channels` is 24, was 16"),
        ("training.initial_weights=.", "not a run folder"),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused(
    trained, place, tmp_path, change, message
):
    settings = [f"training.initial_weights={trained.root}", change]
    loaded = read_spec(place / "spec.yaml", settings)
    run = RunFolder(tmp_path / "run")
    with pytest.raises((SpecError, DataError), match=message):
        pipeline.train(loaded, run, OPTIONS)
    assert not run.root.exists()


def test_classes_are_grouped_in_prediction_and_evaluation(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    class_groups = "ground, above:9=vegetation+building"
    clouds = [place / "test.laz"]
    pipeline.predict(copy, clouds, tmp_path / "out", OPTIONS, class_groups=class_groups)
    before, after = predicted(trained.predictions), predicted(tmp_path / "out")
    summed = before["p_vegetation"] + before["p_building"]
    np.testing.assert_allclose(after["p_above"], summed, atol=1e-6)
    expected = np.where(summed > before["p_ground"], 9, 2)
    np.testing.assert_array_equal(after.prediction, expected)
    result = pipeline.evaluate(copy, tmp_path / "out")
    truth = np.where(laspy.read(clouds[0]).classification == 2, 2, 9)
    assert result.class_names == ("ground", "above")
    assert result.scores.overall_accuracy == pytest.approx((truth == expected).mean())
    write_place(tmp_path / "more.laz", 5)
    pipeline.predict(copy, [tmp_path / "more.laz"], tmp_path / "out", OPTIONS)
    with pytest.raises(DataError, match="predicted with different --classes"):
        pipeline.evaluate(copy, tmp_path / "out")
    with pytest.raises(SpecError, match="no class `trees`"):
        pipeline.predict(
            copy, clouds, tmp_path / "no", OPTIONS, class_groups="trees, b=*"
        )


def test_an_existing_run_is_refused(trained, place):
    with pytest.raises(SpecError, match=r"--resume.*--overwrite"):
        pipeline.train(read_spec(place / "spec.yaml"), trained, OPTIONS)


def test_a_run_resumes_only_with_its_own_spec(trained, place):
    other = read_spec(place / "spec.yaml", ["training.epochs=9"])
    with pytest.raises(SpecError, match="differs from the spec"):
        pipeline.train(other, trained, Options(threads=2, resume=True))


def test_a_folder_that_is_not_a_run_is_not_overwritten(place, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    overwrite = Options(threads=2, quiet=True, overwrite=True)
    with pytest.raises(SpecError, match="not a run"):
        pipeline.train(read_spec(place / "spec.yaml"), RunFolder(tmp_path), overwrite)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda run: run.model.unlink(), "model.keras is missing"),
        (lambda run: run.features.unlink(), "features.json is missing"),
        (lambda run: run.model.write_bytes(b"PK cut short"), "not a Keras model"),
        (lambda run: run.provenance.write_text("{"), "cannot be read"),
        (
            lambda run: run.update_provenance(vl3d_lite="9.0.0"),
            "written by vl3d_lite 9",
        ),
        (lambda run: run.spec.write_text("seed: 1"), "cannot be used"),
        (lambda run: run.features.write_text("{}"), "cannot be used"),
        (lambda run: run.calibration.write_text("{}"), r"calibration\.json: cannot be"),
    ],
)
def test_each_damage_of_a_run_has_its_own_message(
    trained, place, tmp_path, broken, message
):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(trained.root, copy.root)
    broken(copy)
    with pytest.raises(DataError, match=message):
        pipeline.predict(copy, [place / "test.laz"], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("written", "other", "message"),
    [
        ("radius: 8.0", "radius: 9.0", "not the spec that"),
        ("points: 128", "points: 64", "not the model of"),
        ("  building:", "  other: {codes: [9]}\n  building:", "not the model of"),
    ],
    ids=["fields", "stages", "classes"],
)
def test_the_spec_of_another_model_is_refused(
    trained, place, tmp_path, written, other, message
):
    copy = copy_of(trained, tmp_path / "copy")
    text = copy.spec.read_text()
    assert written in text
    copy.spec.write_text(text.replace(written, other, 1))
    if "model" in message:  # as where model.keras alone comes from another run
        digest = network_hash(copy.spec.read_text())
        copy.update_provenance(network_sha256=digest)
    with pytest.raises(DataError, match=message):
        pipeline.predict(copy, [place / "test.laz"], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_class_without_points_is_an_error_before_training(place, tmp_path):
    spec = read_spec(place / "spec.yaml", ["classes.building=17"])
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match=r"`building`.*17.*of code 6"):
        pipeline.train(spec, run, OPTIONS)
    assert not run.root.exists()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_saves_its_batch(place, tmp_path):
    spec = read_spec(
        place / "spec.yaml",
        [
            "training.learning_rate=1e30",
            "training.schedule=constant",
            "training.gradient_clipping=null",
            "training.optimizer=sgd",
        ],
    )
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DivergedError, match="learning_rate"):
        pipeline.train(spec, run, OPTIONS)
    with np.load(run.bad_batch) as batch:
        assert {"labels", "features", "xyz_0"} <= set(batch.files)


def test_kernels_are_exported_every_so_many_epochs(trained):
    stages = {path.name.rsplit("_kpconv", 1)[0] for path in trained.kernels.glob("*_*")}
    assert stages == {"INIT", "EPOCH_002", "TRAINED"}
    begin, middle = (
        read_kernel(trained.kernels / f"{stage}_kpconvx_0_0")
        for stage in ("INIT", "EPOCH_002")
    )
    np.testing.assert_array_equal(middle.Q, begin.Q)
    assert np.abs(middle.W - begin.W).max() > 1e-3


def test_export_repeats_the_kernels_of_the_run(trained, tmp_path):
    pipeline.export(trained, tmp_path / "kernels", OPTIONS)
    for stage in ("INIT", "TRAINED"):
        for name in ("Q.csv", "W0.csv"):
            relative = f"{stage}_kpconvx_0_0/{name}"
            np.testing.assert_array_equal(
                np.loadtxt(tmp_path / "kernels" / relative),
                np.loadtxt(trained.kernels / relative),
            )
    before = np.loadtxt(tmp_path / "kernels/INIT_kpconvx_0_0/W0.csv")
    after = np.loadtxt(tmp_path / "kernels/TRAINED_kpconvx_0_0/W0.csv")
    assert np.abs(after - before).max() > 1e-3


def test_export_without_initial_kernels_writes_the_trained_ones(
    trained, tmp_path, caplog
):
    copy = copy_of(trained, tmp_path / "copy")
    copy.initial_kernels.unlink()
    pipeline.export(copy, tmp_path / "kernels", OPTIONS)
    names = {path.name for path in (tmp_path / "kernels").iterdir()}
    assert names == {"TRAINED_kpconvx_0_0", "TRAINED_kpconvd_1_0"}
    np.testing.assert_array_equal(
        np.loadtxt(tmp_path / "kernels/TRAINED_kpconvx_0_0/W0.csv"),
        np.loadtxt(trained.kernels / "TRAINED_kpconvx_0_0/W0.csv"),
    )
    assert "does not store its initial kernels" in caplog.text


@pytest.mark.slow
def test_export_measures_a_cloud_although_the_run_exported_nothing(
    trained, place, tmp_path
):
    copy = copy_of(trained, tmp_path / "copy")
    shutil.rmtree(copy.kernels)
    text = copy.spec.read_text()
    assert "kernels: true" in text
    copy.spec.write_text(text.replace("kernels: true", "kernels: false"))
    pipeline.export(copy, copy.kernels, OPTIONS, place / "test.laz")
    statistics = json.loads((copy.kernels / "statistics.json").read_text())
    assert set(statistics["layers"]) == {"kpconvx_0_0", "kpconvd_1_0"}
    assert "gva_0_1" in kernel_page(copy.kernels)


def test_an_export_keeps_existing_kernels(trained, tmp_path):
    pipeline.export(trained, tmp_path / "out", OPTIONS)
    kernel = next((tmp_path / "out").glob("TRAINED_*/Q.csv"))
    kernel.write_text("mine")
    with pytest.raises(SpecError, match=r"exists already.*--overwrite"):
        pipeline.export(trained, tmp_path / "out", OPTIONS)
    assert kernel.read_text() == "mine"
    overwrite = Options(threads=2, quiet=True, overwrite=True)
    pipeline.export(trained, tmp_path / "out", overwrite)
    assert kernel.read_text() != "mine"


def test_a_run_that_holds_its_own_inputs_is_not_replaced(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    inside = copy.predictions / "inside.laz"
    copy.predictions.mkdir(exist_ok=True)
    shutil.copy(place / "train.laz", inside)
    spec = read_spec(place / "spec.yaml", [f"clouds.train=['{inside}']"])
    overwrite = Options(threads=2, quiet=True, overwrite=True)
    with pytest.raises(SpecError, match=r"inside\.laz: is inside the run"):
        pipeline.train(spec, copy, overwrite)
    assert inside.is_file()
    assert copy.model.is_file()


SHORT = ["training.epochs=1", "training.steps_per_epoch=1", "export.kernels=false"]


@pytest.mark.slow
def test_a_run_interrupted_at_its_beginning_starts_again(place, tmp_path):
    spec = read_spec(place / "spec.yaml", [*SHORT[:2], "export.plots=false"])
    run = RunFolder(tmp_path / "run")
    pipeline.train(spec, run, OPTIONS)
    for path in (run.model, run.last_checkpoint, run.initial_kernels, run.features):
        path.unlink()
    shutil.rmtree(run.kernels)
    pipeline.train(spec, run, Options(threads=2, quiet=True, resume=True))
    assert (run.kernels / "INIT_kpconvx_0_0/Q.csv").is_file()
    assert run.features.is_file()
    assert run.model.is_file()


@pytest.mark.slow
def test_a_training_resumes_without_its_best_weights(place, tmp_path):
    spec = read_spec(place / "spec.yaml", SHORT)
    run = RunFolder(tmp_path / "run")
    pipeline.train(spec, run, OPTIONS)
    for path in (run.model, run.best_weights, run.calibration):
        path.unlink()
    pipeline.train(spec, run, Options(threads=2, quiet=True, resume=True))
    assert run.calibration.is_file()
    with np.load(run.best_weights) as best, np.load(run.last_checkpoint) as last:
        np.testing.assert_array_equal(best["v0"], last["v0"])
    assert run.model.is_file()


@pytest.mark.slow
def test_validation_clouds_without_labels_leave_the_loss_to_choose(
    place, tmp_path, caplog
):
    caplog.set_level("INFO")
    las = laspy.read(place / "val.laz")
    las.classification[:] = 0
    las.write(tmp_path / "bare.laz")
    spec = read_spec(
        place / "spec.yaml", [*SHORT, f"clouds.validation=[{tmp_path / 'bare.laz'}]"]
    )
    run = RunFolder(tmp_path / "run")
    pipeline.train(spec, run, OPTIONS)
    assert run.model.is_file()
    assert "val_miou" not in run.history.read_text()
    assert json.loads(run.calibration.read_text())["temperature"] == 1
    assert "confidence is not calibrated" in caplog.text


@pytest.mark.slow
def test_the_history_holds_the_learning_rate_of_half_precision(place, tmp_path):
    settings = ["training.precision=mixed_float16", "training.schedule=constant"]
    run = RunFolder(tmp_path / "run")
    pipeline.train(read_spec(place / "spec.yaml", [*SHORT, *settings]), run, OPTIONS)
    (row,) = read_history(run.history)
    assert float(row["learning_rate"]) == pytest.approx(0.01)


@pytest.mark.slow
def test_a_signal_while_the_model_is_saved_stops_the_run(place, tmp_path, monkeypatch):
    save = publishing.save_model

    def save_and_signal(model, path):
        save(model, path)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(publishing, "save_model", save_and_signal)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InterruptedRunError) as stop:
        pipeline.run(read_spec(place / "spec.yaml", SHORT), run, OPTIONS)
    assert stop.value.exit_code == 143
    assert run.model.is_file()
    assert not run.predictions.exists()


def test_tensorboard_logs_need_tensorboard(place, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = read_spec(place / "spec.yaml", [*SHORT, "training.tensorboard=true"])
    with pytest.raises(SpecError, match=r'pip install "vl3d-lite\[tensorboard\]"'):
        pipeline.train(spec, RunFolder(tmp_path / "run"), OPTIONS)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_flagged_points_are_not_scored(place, trained, tmp_path):
    (outcome,) = read_outcomes(trained.predictions)
    las = laspy.read(place / "test.laz")
    las.withheld[::3] = 1
    las.write(tmp_path / "test.laz")
    moved = dataclasses.replace(outcome, source=str(tmp_path / "test.laz"))
    spec = pipeline.open_run(trained)[0]
    every = read_pair(spec, trained.predictions, moved).reference
    spec = spec.model_copy(update={"ignored_flags": ["withheld"]})
    kept = read_pair(spec, trained.predictions, moved).reference
    assert (every >= 0).all()
    assert (kept[::3] == -1).all()
    np.testing.assert_array_equal(kept[1::3], every[1::3])
