"""Training on a small place: what it refuses, resumes and saves."""

import importlib.util
import json
import shutil
from types import SimpleNamespace

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from tests.pipeline.commands import OPTIONS, SHORT, SMALL, copy_of, module
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, DivergedError, InterruptedRunError, SpecError
from vl3d_lite.pipeline import calibrating
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.history import read_history
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import read_spec


@pytest.mark.slow
def test_an_interrupted_calibration_loses_no_training(place, tmp_path, monkeypatch):
    def interrupted(names, samples):
        raise InterruptedRunError("calibrating was interrupted", 143)

    loaded = read_spec(place / "spec.yaml", SHORT)
    run = RunFolder(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(calibrating, "fit_over_places", interrupted)
        with pytest.raises(InterruptedRunError, match="--resume") as stop:
            pipeline.train(loaded, run, OPTIONS)
    assert stop.value.exit_code == 143
    assert not run.model.exists()
    pipeline.train(loaded, run, Options(threads=2, quiet=True, resume=True))
    assert len(read_history(run.history)) == 1
    assert run.calibration.is_file()
    assert run.model.is_file()


@pytest.mark.slow
def test_a_training_from_the_cache_gives_the_weights_of_memory(
    place, tmp_path, monkeypatch
):
    more = ["training.augmentation.grids=2", "training.augmentation.thinning=0.2"]
    loaded = read_spec(place / "spec.yaml", [*SHORT, *more])
    found = []
    for number, cache in enumerate(["off", tmp_path / "cache", tmp_path / "cache"]):
        monkeypatch.setenv("VL3D_LITE_CACHE", str(cache))
        run = RunFolder(tmp_path / f"run{number}")
        pipeline.train(loaded, run, OPTIONS)
        files = [run.features, run.domain, run.calibration, run.spec]
        content = [path.read_bytes() for path in files]
        found.append((run.read_provenance()["weights_sha256"], content))
    assert found[0] == found[1] == found[2]
    assert len(list((tmp_path / "cache/clouds").iterdir())) == 3


def test_a_cloud_that_trains_and_validates_is_a_warning(
    place, tmp_path, monkeypatch, caplog
):
    def stopped(*_):
        raise InterruptedRunError("the clouds are read", 143)

    shared = f"clouds.validation=['{place / 'train.laz'}']"
    loaded = read_spec(place / "spec.yaml", [shared, *SHORT])
    monkeypatch.setattr(module("train"), "build_training", stopped)
    with pytest.raises(InterruptedRunError):
        pipeline.train(loaded, RunFolder(tmp_path / "run"), OPTIONS)
    assert "this validation cloud is also in `clouds.train`" in caplog.text


def test_a_cloud_replaced_while_the_domain_is_measured_ends_the_training(
    place, tmp_path, monkeypatch
):
    def replace(paths, *_):
        shutil.copy(place / "test.laz", paths[0])

    shutil.copy(place / "spec.yaml", tmp_path)
    for seed, name in enumerate(("train", "val", "test")):
        write_place(tmp_path / f"{name}.laz", seed, n=1000)
    loaded = read_spec(tmp_path / "spec.yaml", SHORT)
    monkeypatch.setattr(module("preparing"), "measure_domain", replace)
    monkeypatch.setattr(module("train"), "build_training", lambda *_: None)
    with pytest.raises(DataError, match=r"train\.laz: was replaced or changed while"):
        pipeline.train(loaded, RunFolder(tmp_path / "run"), OPTIONS)
    assert not (tmp_path / "run").exists()


def test_initial_weights_replaced_while_they_are_read_end_the_training(
    trained, place, tmp_path, monkeypatch
):
    def replace(spec, inputs, initial):
        initial.run.model.write_bytes(b"another model")
        return SimpleNamespace(model=None)

    old = copy_of(trained, tmp_path / "old")
    weights = f"training.initial_weights={old.root}"
    loaded = read_spec(place / "spec.yaml", [weights])
    monkeypatch.setattr(module("train"), "prepare_inputs", lambda *_: None)
    monkeypatch.setattr(module("train"), "build_training", replace)
    with pytest.raises(DataError, match=r"old/model\.keras: was replaced or changed"):
        pipeline.train(loaded, RunFolder(tmp_path / "run"), OPTIONS)


def test_a_cloud_replaced_as_a_run_resumes_ends_the_training(
    trained, place, tmp_path, monkeypatch
):
    run = copy_of(trained, tmp_path / "run")
    run.model.unlink()
    records = run.read_provenance()["inputs"]
    records[1] = {**records[1], "sha256": "0" * 64}
    monkeypatch.setattr(module("train"), "input_records", lambda _: records)
    resume = Options(threads=2, quiet=True, resume=True)
    with pytest.raises(DataError, match=r"cannot be resumed.*val\.laz"):
        pipeline.train(read_spec(place / "spec.yaml"), run, resume)


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
            *SMALL[:2],
        ],
    )
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DivergedError, match="learning_rate"):
        pipeline.train(spec, run, OPTIONS)
    with np.load(run.bad_batch) as batch:
        assert {"labels", "features", "xyz_0"} <= set(batch.files)


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


@pytest.fixture(scope="module")
def short(place, tmp_path_factory):
    """A short training with exported kernels, and its spec."""
    spec = read_spec(place / "spec.yaml", [*SMALL, "export.plots=false"])
    run = RunFolder(tmp_path_factory.mktemp("short") / "run")
    pipeline.train(spec, run, OPTIONS)
    return run, spec


@pytest.mark.slow
def test_a_run_interrupted_at_its_beginning_starts_again(short, tmp_path):
    run, spec = copy_of(short[0], tmp_path / "run"), short[1]
    gone = (run.model, run.initial_kernels, run.features, *run.checkpoint_files())
    for path in gone:
        path.unlink()
    shutil.rmtree(run.kernels)
    pipeline.train(spec, run, Options(threads=2, quiet=True, resume=True))
    assert (run.kernels / "INIT_kpconvx_0_0/Q.csv").is_file()
    assert run.features.is_file()
    assert run.model.is_file()


@pytest.mark.slow
def test_a_training_resumes_without_its_best_weights(short, tmp_path):
    run, spec = copy_of(short[0], tmp_path / "run"), short[1]
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
def test_a_single_class_in_validation_leaves_the_loss_to_choose(
    place, tmp_path, caplog
):
    las = laspy.read(place / "val.laz")
    las.classification[:] = 2
    las.write(tmp_path / "flat.laz")
    sets = [f"clouds.validation=[{tmp_path / 'flat.laz'}]", "training.epochs=2"]
    run = RunFolder(tmp_path / "run")
    pipeline.train(read_spec(place / "spec.yaml", [*SHORT, *sets]), run, OPTIONS)
    rows = read_history(run.history)
    losses = [float(row["loss"]) for row in rows]
    assert run.read_provenance()["best_epoch"] == 1 + int(np.argmin(losses))
    assert "val_miou" not in rows[0]
    assert "val_iou_building" not in rows[0]
    assert "class `building` has no validation points" in caplog.text
    assert "hold a single class" in caplog.text


@pytest.mark.slow
def test_the_history_holds_the_learning_rate_of_half_precision(place, tmp_path):
    settings = ["training.precision=mixed_float16", "training.schedule=constant"]
    run = RunFolder(tmp_path / "run")
    pipeline.train(read_spec(place / "spec.yaml", [*SHORT, *settings]), run, OPTIONS)
    (row,) = read_history(run.history)
    assert float(row["learning_rate"]) == pytest.approx(0.01)


def test_tensorboard_logs_need_tensorboard(place, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = read_spec(place / "spec.yaml", [*SHORT, "training.tensorboard=true"])
    with pytest.raises(SpecError, match=r'pip install "vl3d-lite\[tensorboard\]"'):
        pipeline.train(spec, RunFolder(tmp_path / "run"), OPTIONS)
    assert not (tmp_path / "run").exists()
