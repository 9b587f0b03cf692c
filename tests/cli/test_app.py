"""The command line as a user meets it: commands, help, exit codes."""

import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.processes import exit_code, vl3d
from vl3d_lite.cli import app
from vl3d_lite.system import remove_drafts, resources
from vl3d_lite.system.version import __version__

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
    "models",
    "cache",
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


def test_the_old_name_of_a_command_shows_the_same_help():
    old, new = (
        CliRunner().invoke(app.app, [name, "--help"]).stdout
        for name in ("combine", "ensemble")
    )
    assert old.partition("\n")[2] == new.partition("\n")[2]


@pytest.mark.parametrize("name", PROGRAM.commands)
def test_the_help_of_a_command_names_values_by_words(name):
    text = CliRunner().invoke(app.app, [name, "--help"]).stdout
    for notation in ("list[", "<path>", "<str>", "<int", "[x>="):
        assert notation not in text


@pytest.mark.parametrize("name", PROGRAM.commands)
def test_every_value_of_a_command_has_a_metavar(name):
    for param in PROGRAM.commands[name].params:
        assert getattr(param, "is_flag", False) or param.metavar, param.name


def test_a_count_of_threads_is_at_least_one():
    result = CliRunner().invoke(app.app, ["plan", "a.yaml", "--threads", "0"])
    assert result.exit_code == 2
    assert "must be at least 1. Received: 0" in result.stderr


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


@pytest.mark.slow
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


@pytest.mark.slow
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


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["check", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["predict", "nowhere", "cloud.laz"], 3, "nowhere"),
        pytest.param(["inspect", "nowhere"], 3, "nowhere", marks=SLOW),
        pytest.param(["train"], 2, "SPEC.yaml", marks=SLOW),
        pytest.param(
            ["plan", "spec.yaml", "--probe"], 2, "named --measure now", marks=SLOW
        ),
        pytest.param(["fly"], 2, "fly", marks=SLOW),
        (["run", "spec.yaml", "--resume", "--overwrite"], 2, "exclude each other"),
        pytest.param(
            ["run", "spec.yaml", "--run", "new", "--resume"],
            2,
            "no run to resume",
            marks=SLOW,
        ),
        pytest.param(
            ["check", "spec.yaml", "--set", "classes.ground=77"],
            3,
            "`ground`",
            marks=SLOW,
        ),
        (["check", "spec.yaml", "--set", "features=[red]"], 3, "no dimension `red`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_ends_with_one_message_and_an_exit_code(
    place, args, code, message, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    assert exit_code(*args) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_a_mistake_ends_the_program_with_one_message_and_an_exit_code(tmp_path):
    result = vl3d("check", "nowhere.yaml", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "nowhere.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_closed_pipe_is_no_internal_error():
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-m", "vl3d_lite", "models"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert "Traceback" not in result.stderr


def test_signals_and_address_space_are_looked_at_once(monkeypatch):
    program = importlib.import_module("vl3d_lite.__main__")
    looked = []
    monkeypatch.setattr(sys, "argv", ["vl3d-lite", "inspect", "nowhere"])
    monkeypatch.setattr(program, "catch_signals", lambda clean: looked.append(clean))
    monkeypatch.setattr(resources, "free_address_space", lambda: looked.append("space"))
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 3
    assert looked == ["space", remove_drafts]


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
