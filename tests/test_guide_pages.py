"""The commands of the pages on init, plan and radii do what the pages say."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_place

DOCS = Path(__file__).parents[1] / "docs"
SMALL = [
    *("--set", "training.epochs=1", "--set", "training.steps_per_epoch=2"),
    *("--set", "model.stages=[{points: 128, channels: 8, blocks: [kpconvx]}]"),
]


def commands(page):
    for block in re.findall(
        r"^```sh\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE
    ):
        for line in block.splitlines():
            assert line.startswith("vl3d-lite "), line
            yield shlex.split(line)[1:]


@pytest.fixture
def scans(tmp_path):
    (tmp_path / "scans").mkdir()
    for number, name in enumerate(("a", "b", "c", "whole")):
        shift = 100 * number, 0, 0
        write_place(tmp_path / f"scans/{name}.laz", number, 9000, shift)
    return tmp_path


def test_the_commands_run_one_after_the_other(scans):
    told = {}
    for verb, *rest in [*commands("init-and-plan.md"), *commands("radii.md")]:
        more = ["--overwrite"] if verb == "init" else []
        more += SMALL if "--probe" in rest else []
        result = subprocess.run(
            [sys.executable, "-m", "vl3d_lite", verb, *rest, *more],
            capture_output=True,
            text=True,
            cwd=scans,
        )
        assert result.returncode == 0, result.stderr
        told[verb, *rest] = result.stdout
    assert len(told) == 7
    assert sorted(path.name for path in (scans / "blocks").iterdir()) == [
        "whole_train.laz",
        "whole_validation.laz",
    ]
    for command, text in told.items():
        assert ("s a step" in text) == ("--probe" in command), command
        assert ("full fields" in text) == (command[0] != "init"), command
