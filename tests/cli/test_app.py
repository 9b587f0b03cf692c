"""The command line as a user meets it: exit codes, messages, interruptions."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from vl3d_lite.cli import app
from vl3d_lite.system.version import __version__

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


NAMES = [
    "run",
    "check",
    "plan",
    "init",
    "train",
    "predict",
    "evaluate",
    "verify",
    "export",
    "inspect",
    "convert",
    "doctor",
    "compare",
    "ensemble",
    "schema",
]
PROGRAM = typer.main.get_command(app.app)


def parsed(line):
    """The parameters that a command line gives its command, which is not called."""
    words = shlex.split(line.partition(" >")[0].partition(" |")[0])
    assert words[0] == "vl3d-lite"
    command = PROGRAM.commands[words[1]]
    return command.make_context(words[1], words[2:]).params


def test_the_commands_are_these():
    shown = [name for name, command in PROGRAM.commands.items() if not command.hidden]
    assert shown == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_has_two_examples(name):
    result = CliRunner().invoke(app.app, [name, "--help"])
    assert result.exit_code == 0
    _, _, examples = result.stdout.partition("  Examples:\n")
    lines = [line.strip() for line in examples.strip().splitlines()]
    assert len(set(lines)) == 2
    for line in lines:
        assert line.startswith(f"vl3d-lite {name}")
        parsed(line)


def test_a_mistake_in_an_example_would_be_found():
    with pytest.raises(Exception, match="--mesure"):
        parsed("vl3d-lite plan town.yaml --mesure")
    with pytest.raises(Exception, match="Missing parameter: spec"):
        parsed("vl3d-lite plan > plan.txt")


def test_summaries_have_at_most_55_characters_and_are_shown_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app.app, ["--help"]).stdout
    for name in NAMES:
        summary = PROGRAM.commands[name].callback.__doc__.splitlines()[0]
        assert len(summary) <= 55, name
        assert summary[0].isupper(), name
        assert summary.endswith("."), name
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.M), name


@pytest.mark.parametrize("name", NAMES)
def test_flags_have_no_twins_and_values_have_names(name):
    for parameter in PROGRAM.commands[name].params:
        if parameter.name == "help":
            continue
        assert not parameter.secondary_opts, parameter.name
        if not getattr(parameter, "is_flag", False):
            assert parameter.metavar, parameter.name
        assert parameter.help or parameter.hidden, parameter.name


def test_the_version_is_printed():
    result = CliRunner().invoke(app.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"vl3d-lite {__version__}\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("vl3d-lite en", {"ensemble"}),
        ("vl3d-lite e", {"evaluate", "export", "ensemble"}),
        ("vl3d-lite train town.yaml --r", {"--run", "--resume"}),
    ],
)
def test_a_shell_completes_commands_and_options(words, expected):
    result = completed(words, "complete_bash")
    assert set(result.stdout.split()) == expected


def completed(words, instruction):
    """Ask the program what a shell asks when it completes a line of `words`."""
    question = {
        "_VL3D_LITE_COMPLETE": instruction,
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    return subprocess.run(
        [sys.executable, "-m", "vl3d_lite"],
        capture_output=True,
        text=True,
        env={**os.environ, **question},
        check=True,
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_a_shell_is_printed(shell):
    script = completed("", f"source_{shell}").stdout
    assert "_VL3D_LITE_COMPLETE=complete_" in script
    assert "vl3d-lite" in script


def test_completion_can_be_installed_and_shown():
    shown = CliRunner().invoke(app.app, ["--help"]).stdout
    assert "--install-completion" in shown
    assert "--show-completion" in shown


def test_the_old_name_of_ensemble_is_its_hidden_alias():
    old, new = PROGRAM.commands["combine"], PROGRAM.commands["ensemble"]
    assert old.hidden
    assert old.callback.__doc__ == new.callback.__doc__
    assert parsed("vl3d-lite combine a b --run c") == parsed(
        "vl3d-lite ensemble a b --run c"
    )


def test_help_is_printed_without_keras():
    code = (
        "import sys\n"
        "from vl3d_lite.cli.app import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "sys.exit(bool({'keras', 'tensorflow', 'open3d', 'pydantic'} & "
        "set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_check_answers_without_keras(place):
    code = (
        "import sys\n"
        "from vl3d_lite.cli.app import app\n"
        "app(['check', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit(bool({'keras', 'tensorflow', 'open3d'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, place / "spec.yaml"], check=True)


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


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["check", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["predict", "nowhere", "cloud.laz"], 3, "nowhere"),
        (["inspect", "nowhere"], 3, "nowhere"),
        (["train"], 2, "SPEC.yaml"),
        (["plan", "spec.yaml", "--probe"], 2, "named --measure now"),
        (["fly"], 2, "fly"),
        (["run", "spec.yaml", "--resume", "--overwrite"], 2, "exclude each other"),
        (["run", "spec.yaml", "--run", "new", "--resume"], 2, "no run to resume"),
        (["check", "spec.yaml", "--set", "classes.ground=77"], 3, "`ground`"),
        (["check", "spec.yaml", "--set", "features=[red]"], 3, "no dimension `red`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_ends_with_one_message_and_an_exit_code(place, args, code, message):
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


@pytest.mark.slow
def test_quiet_logs_nothing_and_logs_never_reach_stdout(trained, place, tmp_path):
    args = "predict", trained.root, place / "test.laz", "--output", tmp_path / "out"
    result = vl3d(*args, "--quiet")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "points predicted directly" in result.stdout
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


def test_a_closed_pipe_is_no_internal_error(trained):
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
def test_running_out_of_memory_is_no_internal_error(kind, code):
    program = (
        "import builtins, sys\n"
        "from vl3d_lite.cli import app as cli\n"
        f"kind = getattr(builtins, '{kind}', type('{kind}', (Exception,), {{}}))\n"
        "def app(**_): raise kind('from TensorFlow')\n"
        "cli.app = app\n"
        "cli.main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert result.returncode == code
    assert ("Traceback" in result.stderr) == (code == 1)
    assert ("internal error" in result.stderr) == (code == 1)
    assert ("lower `training.batch_size`" in result.stderr) == (code == 4)


def test_a_page_never_overwrites_a_file_by_default(place, tmp_path):
    target = tmp_path / "scan.laz"
    target.write_text("mine")
    result = vl3d("inspect", place / "train.laz", "--html", target)
    assert result.returncode == 2
    assert "--overwrite" in result.stderr
    assert target.read_text() == "mine"
