"""Commands about specs, run in this process."""

import shutil
import subprocess
import sys

import laspy
import numpy as np
import pytest
from typer.testing import CliRunner

from vl3d_lite.cli.app import app

SPEC = """\
classes: {ground: 2, tree: 5}
clouds: {train: [a.las]}
features: [heigth]
fields: {radius: 20, grid_size: 0.5}
model: {stages: [{points: 64, channels: 16}]}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(SPEC)
    las = laspy.create()
    las.x, las.y, las.z = np.random.default_rng(0).random((3, 500)) * 9
    las.classification = np.resize(np.uint8([2, 5]), 500)
    las.write(tmp_path / "a.las")
    return tmp_path


def check(*arguments):
    result = CliRunner().invoke(app, ["check", "a.yaml", *arguments])
    return result.exit_code, result.stdout, result.stderr, result.exception


def test_check_without_files_warns_of_a_misspelled_feature(folder):
    code, out, err, _ = check("--no-files")
    assert code == 0
    assert out == "a.yaml: OK (clouds not checked)\n"
    assert "warning: a.yaml:3:12: `features[0]`: `heigth`" in err
    assert "did you mean `height`?" in err


def test_check_with_files_refuses_a_misspelled_feature(folder):
    _, out, _, error = check()
    assert out == ""
    assert "no dimension `heigth`" in str(error)
    assert "did you mean `height`?" in str(error)


@pytest.mark.slow
def test_check_prints_the_warnings_of_plan(place, tmp_path):
    train = place / "train.laz"
    las = laspy.read(place / "val.laz")
    las.classification[las.classification == 6] = 2
    las.intensity[:] = 7
    las.write(tmp_path / "val.laz")
    shutil.copy(train, tmp_path / "copy.laz")
    sets = f"train: [{tmp_path / 'val.laz'}, {train}]"
    text = (place / "spec.yaml").read_text()
    text = text.replace("train: [train.laz]", sets)
    text = text.replace("[val.laz]", f"[{tmp_path / 'val.laz'}]")
    text = text.replace("[test.laz]", f"[{tmp_path / 'copy.laz'}]")
    (tmp_path / "spec.yaml").write_text(text)
    shown = {}
    for command in ("check", "plan"):
        result = CliRunner().invoke(app, [command, str(tmp_path / "spec.yaml")])
        assert result.exit_code == 0
        text = result.stderr if command == "check" else result.stdout
        shown[command] = [line for line in text.splitlines() if "warning: " in line]
    reported = "\n".join(shown["check"])
    assert f"has the same content as the training cloud {train}" in reported
    assert "val.laz: this validation cloud is also in `clouds.train`" in reported
    assert "class `building` has no validation points" in reported
    assert set(shown["check"]) <= set(shown["plan"])


@pytest.mark.slow
def test_check_answers_without_keras(place):
    code = (
        "import sys\n"
        "from vl3d_lite.cli.app import app\n"
        "app(['check', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit(bool({'keras', 'tensorflow', 'open3d'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, place / "spec.yaml"], check=True)
