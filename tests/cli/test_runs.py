"""Commands that write runs: exit codes, logs, interruptions."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.cli.processes import vl3d

# Many steps of a small network, so that a signal comes in the middle of them.
LONG = [
    "--set",
    "training.epochs=6",
    "--set",
    "training.steps_per_epoch=30",
    "--set",
    "model.stages=[{points: 256, channels: 8, neighbors: 6, blocks: [kpconvd]}]",
]


def start(*args):
    return subprocess.Popen(
        [sys.executable, "-m", "vl3d_lite", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, seconds=200):
    for _ in range(seconds * 10):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} did not appear")


def test_all_errors_of_a_spec_are_printed_at_once(place, tmp_path):
    text = (place / "spec.yaml").read_text()
    bad = text.replace("radius: 8", "radius: ten").replace("epochs:", "epoch:")
    (tmp_path / "bad.yaml").write_text(bad)
    result = vl3d("train", tmp_path / "bad.yaml", "--run", tmp_path / "run")
    assert result.returncode == 2
    assert "bad.yaml:8:" in result.stderr
    assert "must be a number" in result.stderr
    assert "did you mean `epochs`" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_exit_code_4(place):
    result = vl3d("train", place / "spec.yaml", "--run", "/proc/nowhere/run", "-h")
    assert result.returncode == 2  # -h is no option: usage comes first
    result = vl3d("train", place / "spec.yaml", "--run", "/proc/nowhere/run", "--quiet")
    assert result.returncode == 4
    assert "/proc/nowhere" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_an_export_hides_what_tensorflow_logs_of_absent_gpus(trained, tmp_path):
    result = vl3d("export", trained.root, "--output", tmp_path / "kernels", "--quiet")
    assert result.returncode == 0
    assert result.stderr == ""


@pytest.mark.slow
def test_quiet_logs_nothing_and_logs_never_reach_stdout(trained, place, tmp_path):
    args = "predict", trained.root, place / "test.laz", "--output", tmp_path / "out"
    result = vl3d(*args, "--quiet")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "points predicted directly" in result.stdout
    assert "mean confidence" in result.stdout
    assert f"colors for QGIS  {tmp_path / 'out' / 'classes.qml'}" in result.stdout
    loud = vl3d(*args, "--overwrite")
    assert "100%" in loud.stderr
    assert loud.stdout == result.stdout


@pytest.mark.slow
def test_training_logs_to_stderr(place, tmp_path):
    short = ["--set", "training.epochs=1", "--set", "training.steps_per_epoch=1"]
    result = vl3d("train", place / "spec.yaml", "--run", tmp_path / "run", *short)
    assert result.returncode == 0
    assert "epoch 1/1: loss" in result.stderr
    assert "epoch" not in result.stdout
    assert "training: 100%" in result.stderr


def variables(run):
    with np.load(run / "checkpoints/last.npz") as file:
        return {name: file[name] for name in file.files if name != "progress"}


@pytest.mark.slow
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(place, tmp_path):
    spec = place / "spec.yaml"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert vl3d("train", spec, "--run", whole, "--quiet", *LONG).returncode == 0
    process = start("train", spec, "--run", cut, "--quiet", *LONG)
    wait_for(cut / "history.csv")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cut / "model.keras").exists()
    result = vl3d("train", spec, "--run", cut, "--resume", *LONG)
    assert result.returncode == 0
    assert "resumed at epoch" in result.stderr
    expected, resumed = variables(whole), variables(cut)
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_and_exits_143(place, tmp_path):
    spec, run = place / "spec.yaml", tmp_path / "run"
    process = start("train", spec, "--run", run, "--quiet", *LONG)
    wait_for(run / "history.csv")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "--resume" in errors
    assert "Traceback" not in errors
    with np.load(run / "checkpoints/last.npz") as file:
        progress = json.loads(str(file["progress"]))
    assert progress["epoch"] * 30 + progress["step"] > 0
