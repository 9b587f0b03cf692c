"""The commands of the pages run unchanged on small clouds.

`--set` shortens trainings, and existing outputs are overwritten; everything else is
what a reader types. Docker and Slurm commands are excluded, and so are commands on
data that does not ship (`$D`); `test_readme.py` checks their syntax.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import laspy
import numpy as np
import pytest
import yaml

from tests.conftest import write_place
from vl3d_lite.cli.app import app
from vl3d_lite.guide import doctor
from vl3d_lite.spec.reader import read_spec

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Pages that need another machine, or data that the project does not ship.
ELSEWHERE = {"docker.md": "docker ", "results.md": "$D", "ablations.md": "$D"}
SMALL = [
    *("--set", "training.epochs=1", "--set", "training.steps_per_epoch=2"),
    *("--set", "model.stages=[{points: 128, channels: 8, blocks: [kpconvx]}]"),
    *("--set", "model.kpconvx.shell_radii=[0, 0.5, 1]"),
    *("--set", "model.kpconvx.shell_points=[1, 3, 5]"),
    *("--set", "training.jit=off", "--set", "export.plots=false"),
    *("--set", "prediction.votes=1"),
]
MORE = {
    "init": ["--overwrite"],
    "run": ["--overwrite", *SMALL],
    "compare": ["--overwrite"],
    "train": ["--overwrite", *SMALL],
    "plan": SMALL,
}


def blocks(page, language):
    text = page.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands(page):
    """Name and arguments of each command of a page that can run here."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == "vl3d-lite" and "$D" not in line:
                yield words[1:]


RUNNABLE = [page for page in PAGES if list(commands(page))]


def test_every_command_is_recognized():
    for page in PAGES:
        text = re.sub(r"<!-- ci:(\w+) -->.*?<!-- /ci:\1 -->", "", page.read_text())
        for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
            known = line.startswith("vl3d-lite ") or "python3 -m venv" in line
            assert known or page.name == "docker.md", f"{page.name}: {line}"
            elsewhere = ELSEWHERE.get(page.name)
            assert elsewhere or "$D" not in line, f"{page.name}: {line}"
        others = re.sub(r"^```sh\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"^\s*\$?\s*vl3d-lite ", others, re.MULTILINE), page.name
    for name, sign in ELSEWHERE.items():
        assert sign in (ROOT / "docs" / name).read_text()
    assert {page.name for page in RUNNABLE} >= {"README.md", "tutorial.md", "trust.md"}
    assert sum(len(list(commands(page))) for page in RUNNABLE) >= 25


def write_part(source, target):
    """Write a corner of a cloud that has every class code."""
    las = laspy.read(source)
    inside = (las.x < las.x.min() + 45) & (las.y < las.y.min() + 45)
    las.points = las.points[inside]
    assert set(np.unique(las.classification)) >= {1, 2, 5, 6}
    las.write(target)


def run_here(command, *rest):
    """Run a command in this process and expand patterns as a shell does."""
    words = []
    for word in rest:
        found = sorted(map(str, Path().glob(word))) if "*" in word else []
        words += found or [word]
    arguments = [command, *words, *MORE.get(command, [])]
    assert app(arguments, standalone_mode=False) in (None, 0)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder as a reader has it: configs, scans, a spec and data."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "data").mkdir()
    for part in ("train", "val", "test"):
        name = f"data/town_{part}.laz"
        write_part(ROOT / name, folder / name)
        shutil.copy(folder / name, folder)
    (folder / "scans").mkdir()
    for number, name in enumerate(("a", "b", "c", "d", "whole", "block")):
        write_place(folder / f"scans/{name}.laz", number, 9000, (100 * number, 0, 0))
    shutil.copy(folder / "scans/d.laz", folder / "scan.laz")
    (spec,) = blocks(ROOT / "README.md", "yaml")
    (folder / "town.yaml").write_text(spec)
    (vl3d,) = blocks(ROOT / "docs/from-vl3d.md", "json")
    (folder / "training.json").write_text(vl3d)
    return folder


@pytest.fixture(scope="module")
def town(desk):
    """The folder with `runs/town`, `runs/a` and `runs/b` of the quickstart spec.

    `out_a` and `out_b` hold predictions of two runs on one scan.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        run_here("run", "configs/quickstart.yaml", "--run", "runs/town")
        for name in ("a", "b"):
            shutil.copytree("runs/town", f"runs/{name}")
            run_here("predict", f"runs/{name}", "scan.laz", "--output", f"out_{name}")
    return desk


SELF_TESTS = {
    "backend": [
        {"step": "backend", "name": "tensorflow", "keras": "3"},
        {"step": "gpus", "seen": 0},
        {"step": "xla", "works": True, "seconds": 0.2},
    ],
    "training": [{"step": "training", "loss": 1.0, "seconds": 9.0, "file": ".laz"}],
}


@pytest.fixture
def short_doctor(monkeypatch):
    """`doctor` tests Open3D alone; its own tests test Keras without Open3D."""
    run = doctor.run_self_test

    def run_short(name, folder):
        if name not in SELF_TESTS:
            return run(name, folder)
        return doctor.SelfTest({found["step"]: found for found in SELF_TESTS[name]})

    monkeypatch.setattr(doctor, "run_self_test", run_short)


@pytest.mark.slow
@pytest.mark.usefixtures("short_doctor")
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_one_after_the_other(
    town, page, tmp_path, monkeypatch, capsys
):
    desk = shutil.copytree(town, tmp_path / "desk")
    monkeypatch.chdir(desk)
    for command, *rest in commands(page):
        if command == "convert":
            Path("town.yaml").unlink()
        run_here(command, *rest)
        output = capsys.readouterr().out
        if command in {"plan", "inspect", "compare", "doctor", "verify"}:
            assert output.strip(), command
        if command == "plan" or "--dry-run" in rest:
            assert "full fields" in output
            assert ("s per step" in output) == ("--measure" in rest)
        for option in ("--output", "--html", "--run", "--split-into"):
            if option in rest:
                assert Path(rest[rest.index(option) + 1]).exists(), rest
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {})


FRAGMENTS = [
    pytest.param(block, id=f"{page.name} {number}")
    for page in PAGES
    for number, block in enumerate(blocks(page, "yaml"))
    if not {"classes", "extends"} & set(yaml.safe_load(block))
]


@pytest.mark.parametrize("block", FRAGMENTS)
def test_a_fragment_of_a_spec_is_valid(block):
    changes = [
        f"{section}.{key}={json.dumps(value)}"
        for section, entries in yaml.safe_load(block).items()
        for key, value in entries.items()
    ]
    read_spec(ROOT / "configs/quickstart.yaml", changes, check_files=False)
