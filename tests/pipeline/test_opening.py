"""Opening a trained run: each damage has its own message."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.pipeline.commands import OPTIONS, copy_of, predicted, without_calibration
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.provenance import network_hash


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


def test_a_trained_run_changes_nothing_but_prediction(trained, place, tmp_path):
    with pytest.raises(SpecError, match="can only change `prediction"):
        pipeline.predict(
            trained, [place / "test.laz"], tmp_path, OPTIONS, ["fields.radius=3"]
        )


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


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda run: run.model.unlink(), "model.keras is missing"),
        (lambda run: run.features.unlink(), "features.json is missing"),
        (
            lambda run: run.model.write_bytes(b"PK cut short"),
            "not the file of this run",
        ),
        (lambda run: run.provenance.write_text("{"), r"run\.json: cannot be"),
        (
            lambda run: run.update_provenance(vl3d_lite="9.0.0"),
            "written by vl3d_lite 9",
        ),
        (lambda run: run.spec.write_text("seed: 1"), "cannot be used"),
        (lambda run: run.features.write_text("{}"), r"features\.json: feature"),
        (lambda run: run.calibration.write_text("{}"), r"calibration\.json: cal"),
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
