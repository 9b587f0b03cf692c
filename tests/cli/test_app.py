"""The command line as a user meets it: exit codes, messages, interruptions."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

LONG = ["--set", "training.epochs=6", "--set", "training.steps_per_epoch=30"]


def vl3d(*args, cwd=None, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "vl3d_lite", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        **kwargs,
    )


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


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "check",
        "train",
        "predict",
        "evaluate",
        "verify",
        "export",
        "inspect",
        "schema",
        "convert",
        "init",
        "plan",
        "doctor",
        "compare",
        "combine",
    ],
)
def test_every_verb_has_help_and_an_example(verb):
    result = vl3d(verb, "--help")
    assert result.returncode == 0
    assert f"Example: vl3d-lite {verb}" in result.stdout


def test_check_answers_without_keras(place):
    code = (
        "import sys\n"
        "from vl3d_lite.cli import app\n"
        "app(['check', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit(bool({'keras', 'tensorflow', 'open3d'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, place / "spec.yaml"], check=True)


def test_all_faults_of_a_spec_come_at_once(place, tmp_path):
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


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["check", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["predict", "nowhere", "cloud.laz"], 3, "nowhere"),
        (["inspect", "nowhere"], 3, "nowhere"),
        (["train"], 2, "SPEC"),
        (["fly"], 2, "fly"),
        (["run", "spec.yaml", "--resume", "--overwrite"], 2, "exclude each other"),
        (["run", "spec.yaml", "--run", "new", "--resume"], 2, "no run to resume"),
        (["check", "spec.yaml", "--set", "classes.ground=77"], 3, "`ground`"),
        (["check", "spec.yaml", "--set", "features=[red]"], 3, "no dimension `red`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_one_message_and_a_code(place, args, code, message):
    result = vl3d(*args, cwd=place)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_output_that_cannot_be_written_is_exit_code_4(place):
    result = vl3d("train", place / "spec.yaml", "--run", "/proc/nowhere/run", "-h")
    assert result.returncode == 2  # -h is no option: usage comes first
    result = vl3d("train", place / "spec.yaml", "--run", "/proc/nowhere/run", "--quiet")
    assert result.returncode == 4
    assert "/proc/nowhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_quiet_is_quiet_and_logs_never_reach_stdout(trained, place, tmp_path):
    args = "predict", trained.root, place / "test.laz", "--output", tmp_path / "out"
    result = vl3d(*args, "--quiet")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "by votes" in result.stdout
    loud = vl3d(*args, "--overwrite")
    assert "100%" in loud.stderr
    assert loud.stdout == result.stdout


def test_what_training_tells_goes_to_stderr(place, tmp_path):
    short = ["--set", "training.epochs=1", "--set", "training.steps_per_epoch=1"]
    result = vl3d("train", place / "spec.yaml", "--run", tmp_path / "run", *short)
    assert result.returncode == 0
    assert "epoch 1/1: loss" in result.stderr
    assert "epoch" not in result.stdout
    assert "training: 100%" in result.stderr


def variables(run):
    with np.load(run / "checkpoints/last.npz") as file:
        return {name: file[name] for name in file.files if name != "progress"}


def test_killed_and_resumed_ends_like_the_uninterrupted_run(place, tmp_path):
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


def test_a_reader_gone_is_no_bug(trained):
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "vl3d_lite", "inspect", trained.root],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("kind", "code"),
    [("MemoryError", 4), ("ResourceExhaustedError", 4), ("KeyError", 1)],
)
def test_memory_that_runs_out_is_no_bug(kind, code):
    program = (
        "import builtins, sys\n"
        "from vl3d_lite import cli\n"
        f"kind = getattr(builtins, '{kind}', type('{kind}', (Exception,), {{}}))\n"
        "def app(): raise kind('told by TensorFlow')\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.returncode == code
    assert ("Traceback" in result.stderr) == (code == 1)
    assert ("lower `training.batch_size`" in result.stderr) == (code == 4)


def test_a_page_never_replaces_a_file_unasked(place, tmp_path):
    target = tmp_path / "scan.laz"
    target.write_text("mine")
    result = vl3d("inspect", place / "train.laz", "--html", target)
    assert result.returncode == 2
    assert "--overwrite" in result.stderr
    assert target.read_text() == "mine"
