"""Whole runs on a small place: their files, and errors before training."""

import json
import os
import shutil
import signal
import sys

import keras
import laspy
import numpy as np
import pytest

from tests.pipeline.commands import OPTIONS, SHORT, SMALL
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, InterruptedRunError, SpecError
from vl3d_lite.model.backend import uses_accelerator
from vl3d_lite.pipeline import publishing
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.runs.provenance import array_hash, file_hash
from vl3d_lite.spec.reader import read_spec

# The package has a function of this name.
run_module = sys.modules["vl3d_lite.pipeline.run"]


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


@pytest.mark.slow
def test_an_existing_dimension_is_an_error_and_a_bad_cloud_stops_no_other(
    place, tmp_path
):
    (tmp_path / "bad.laz").write_text("not a cloud")
    las = laspy.read(place / "test.laz")
    las.add_extra_dim(laspy.ExtraBytesParams("prediction", np.uint8))
    las.write(tmp_path / "taken.laz")
    taken, both = (
        read_spec(
            place / "spec.yaml",
            [f"clouds.predict={[str(tmp_path / name) for name in names]}", *SMALL],
        )
        for names in (["taken.laz"], ["bad.laz", "taken.laz"])
    )
    run = RunFolder(tmp_path / "run")
    with pytest.raises(
        DataError, match=r"already has a dimension `prediction`.*--replace"
    ):
        pipeline.run(taken, run, OPTIONS)
    assert not run.root.exists()
    replace = Options(threads=2, quiet=True, replace=True)
    with pytest.raises(DataError, match=r"1 of 2 clouds.*bad\.laz"):
        pipeline.run(both, run, replace)
    assert list(json.loads(run.metrics.read_text())["clouds"]) == ["taken.laz"]
    assert run.report.is_file()


def test_clouds_of_the_same_name_are_an_error_before_training(place, tmp_path):
    shutil.copy(place / "test.laz", tmp_path / "test.laz")
    clouds = f"clouds.predict=['{tmp_path / 'test.laz'}', '{place / 'test.laz'}']"
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SpecError, match=r"several clouds are named test\.laz"):
        pipeline.run(read_spec(place / "spec.yaml", [clouds]), run, OPTIONS)
    assert not run.root.exists()


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
def test_a_signal_while_the_model_is_saved_stops_the_run(
    place, tmp_path, monkeypatch, handed_on
):
    save = publishing.save_model

    def save_and_signal(model, path, **keywords):
        save(model, path, **keywords)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(publishing, "save_model", save_and_signal)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InterruptedRunError) as stop:
        pipeline.run(read_spec(place / "spec.yaml", SHORT), run, OPTIONS)
    assert stop.value.exit_code == 143
    assert run.model.is_file()
    assert not run.predictions.exists()
    assert handed_on == [signal.SIGTERM]  # a program or pytest ends by it


def test_a_signal_while_clouds_are_checked_starts_no_training(
    place, tmp_path, monkeypatch
):
    def signaled(*_, **__):
        raise InterruptedRunError("interrupted; nothing was written", 143)

    monkeypatch.setattr(run_module, "check_additions", signaled)
    run = RunFolder(tmp_path / "run")
    with pytest.raises(InterruptedRunError):
        pipeline.run(read_spec(place / "spec.yaml", SHORT), run, OPTIONS)
    assert not run.root.exists()
