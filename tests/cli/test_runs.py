"""Commands that write runs: exit codes, logs, interruptions."""

import json
import signal
import time

import numpy as np
import pytest

from tests.cli.processes import end, exit_code, start, vl3d

SMALL = "model.stages=[{points: 128, channels: 4, neighbors: 4, blocks: [kpconvd]}]"
# Many steps of a small network, so that a signal comes in the middle of them.
LONG = [
    *("--set", "training.epochs=6", "--set", "training.steps_per_epoch=30"),
    *("--set", SMALL, "--threads", "2"),
]


def wait_for(path, seconds=200):
    for _ in range(seconds * 100):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not appear")


def test_all_errors_of_a_spec_are_printed_at_once(place, tmp_path, capsys):
    text = (place / "spec.yaml").read_text()
    bad = text.replace("radius: 8", "radius: ten").replace("epochs:", "epoch:")
    (tmp_path / "bad.yaml").write_text(bad)
    code = exit_code("train", tmp_path / "bad.yaml", "--run", tmp_path / "run")
    errors = capsys.readouterr().err
    assert code == 2
    assert "bad.yaml:8:" in errors
    assert "must be a number" in errors
    assert "did you mean `epochs`" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_exit_code_4(place, capsys):
    words = "train", place / "spec.yaml", "--run", "/proc/nowhere/run"
    assert exit_code(*words, "-h") == 2  # -h is no option: usage comes first
    capsys.readouterr()
    assert exit_code(*words, "--quiet") == 4
    errors = capsys.readouterr().err
    assert "/proc/nowhere" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_an_export_hides_what_tensorflow_logs_of_absent_gpus(trained, tmp_path):
    result = vl3d("export", trained.root, "--output", tmp_path / "kernels", "--quiet")
    assert result.returncode == 0
    assert result.stderr == ""


@pytest.mark.slow
def test_quiet_logs_nothing_and_logs_never_reach_stdout(
    trained, place, tmp_path, capfd
):
    args = "predict", trained.root, place / "test.laz", "--output", tmp_path / "out"
    result = vl3d(*args, "--quiet")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "points predicted directly" in result.stdout
    assert "mean confidence" in result.stdout
    assert f"colors for QGIS  {tmp_path / 'out' / 'classes.qml'}" in result.stdout
    assert exit_code(*args, "--overwrite") == 0
    output, errors = capfd.readouterr()
    assert "100%" in errors
    assert output == result.stdout


@pytest.mark.slow
def test_training_logs_to_stderr(place, tmp_path, capfd):
    short = ["training.epochs=1", "training.steps_per_epoch=1", SMALL]
    changes = [word for change in short for word in ("--set", change)]
    words = "train", place / "spec.yaml", "--run", tmp_path / "run", *changes
    assert exit_code(*words) == 0
    output, errors = capfd.readouterr()
    assert "epoch 1/1: loss" in errors
    assert "epoch" not in output
    assert "training: 100%" in errors


def variables(run):
    with np.load(run / "checkpoints/last.npz") as file:
        return {name: file[name] for name in file.files if name != "progress"}


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(place, tmp_path):
    spec, errors = place / "spec.yaml", tmp_path / "errors.txt"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    process = start(errors, "train", spec, "--run", cut, "--quiet", *LONG)
    wait_for(cut / "history.csv")
    process.kill()
    assert end(process) == -signal.SIGKILL
    assert not (cut / "model.keras").exists()
    assert end(start(errors, "train", spec, "--run", cut, "--resume", *LONG)) == 0
    assert "resumed at epoch" in errors.read_text()
    assert end(start(errors, "train", spec, "--run", whole, "--quiet", *LONG)) == 0
    expected, resumed = variables(whole), variables(cut)
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_143(place, tmp_path):
    spec, run, errors = place / "spec.yaml", tmp_path / "run", tmp_path / "errors.txt"
    process = start(errors, "train", spec, "--run", run, "--quiet", *LONG)
    wait_for(run / "history.csv")
    process.terminate()
    assert end(process) == 143
    assert "--resume" in errors.read_text()
    assert "Traceback" not in errors.read_text()
    with np.load(run / "checkpoints/last.npz") as file:
        progress = json.loads(str(file["progress"]))
    assert progress["epoch"] * 30 + progress["step"] > 0
