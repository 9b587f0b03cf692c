"""`vl3d-lite convert` as a user meets it, and the page about it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.guide.vl3d.vl3d_specs import flat, hierarchical, write
from vl3d_lite.cli.app import app

PAGE = (Path(__file__).parents[3] / "docs/from-vl3d.md").read_text()
SHORT = [
    *("--set", "training.epochs=1", "--set", "training.steps_per_epoch=1"),
    *("--set", "training.jit=off", "--set", "export.plots=false", "--quiet"),
]


def here(*args):
    """Run a command in this process, which has TensorFlow loaded already."""
    app([str(arg) for arg in args], standalone_mode=False)


def vl3d(*args, cwd):
    return subprocess.run(
        [sys.executable, "-m", "vl3d_lite", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)[1]


@pytest.fixture
def folder(tmp_path, place):
    shutil.copy(place / "train.laz", tmp_path / "train.laz")
    return tmp_path


@pytest.mark.slow
def test_a_converted_spec_trains_and_predicts(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    write(folder / "vl3d.json", hierarchical())
    here("convert", "vl3d.json")
    printed = capsys.readouterr()
    assert printed.out == "spec  vl3d.yaml\n"
    assert "Dropped, " in printed.err
    here("check", "vl3d.yaml")
    here("train", "vl3d.yaml", "--run", "run", *SHORT)
    here("predict", "run", "train.laz", "--output", "out", "--quiet")
    assert (folder / "out/train.laz").is_file()


@pytest.mark.slow
def test_the_commands_of_the_page_work(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "train.laz").rename(folder / "town_train.laz")
    (folder / "training.json").write_text(block("json"))
    commands = block("sh").splitlines()
    assert len(commands) == 3
    for command in commands:
        args = shlex.split(command, comments=True)
        assert args.pop(0) == "vl3d-lite"
        here(*args, *(SHORT if args[0] == "train" else []))
    written = (folder / "town.yaml").read_text()
    assert yaml.safe_load(written) == yaml.safe_load(block("yaml"))
    assert block("yaml") in written


@pytest.mark.slow
def test_an_existing_file_is_kept(folder):
    write(folder / "vl3d.json", flat())
    (folder / "mine.yaml").write_text("mine")
    args = "convert", "vl3d.json", "--output", "mine.yaml"
    result = vl3d(*args, cwd=folder)
    assert result.returncode == 2
    assert "--overwrite" in result.stderr
    assert (folder / "mine.yaml").read_text() == "mine"
    result = vl3d(*args, "--overwrite", "--quiet", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert "wood: 0" in (folder / "mine.yaml").read_text()


@pytest.mark.slow
def test_a_line_to_complete_is_exit_code_2(folder):
    spec = flat(
        sequential_pipeline__0__model_args__class_names=...,
        sequential_pipeline__0__model_args__num_classes=...,
    )
    write(folder / "vl3d.json", spec)
    result = vl3d("convert", "vl3d.json", cwd=folder)
    assert result.returncode == 2
    assert "written, but incomplete" in result.stderr
    assert "`classes` is missing" in result.stderr
    path = folder / "vl3d.yaml"
    completed = path.read_text().replace(
        "# classes: {NAME: CODE, NAME: CODE}", "classes: {wood: 2, leaf: 5}"
    )
    path.write_text(completed)
    assert vl3d("check", path, "--no-files", cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 3, "No such file"),
        ("{", 2, "is not JSON"),
        (json.dumps({"predict": "PredictivePipeline"}), 2, "vl3d-lite predict RUN"),
        (json.dumps({"train": "RandomForestClassifier"}), 2, "not a network"),
    ],
    ids=["no file", "no JSON", "prediction", "forest"],
)
def test_a_mistake_ends_with_one_message_and_no_file(tmp_path, content, code, message):
    if content is not None:
        (tmp_path / "vl3d.json").write_text(content)
    result = vl3d("convert", "vl3d.json", cwd=tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "vl3d.yaml").exists()
