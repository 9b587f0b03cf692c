"""Descriptions of a kernel folder, a run, a model and a cloud."""

import json
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import laspy
import numpy as np
import pytest

from tests.kernels.kernel_folders import write_kernels
from vl3d_lite.errors import DataError
from vl3d_lite.report.inspection import inspect_path

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    return write_kernels(tmp_path / "town")


def line_of(text, start):
    return next(line.split() for line in text.splitlines() if line.startswith(start))


def test_kernel_folder_is_described(run):
    text = inspect_path(run / "kernels" / "TRAINED_fine")
    weights = np.loadtxt(run / "kernels" / "TRAINED_fine" / "W0.csv")
    assert line_of(text, "kernel points") == ["kernel", "points", "6", "in", "3-D"]
    assert "1 at 0 m, 5 at 2.1 m" in text
    table = text.split("block ")[1].splitlines()
    assert table[0].split() == ["|W|", "mean", "std", "min", "max", "|change|"]
    norm = np.sqrt((weights**2).sum())
    spread = (norm, weights.mean(), weights.std(), weights.min(), weights.max())
    assert [float(word) for word in table[1].split()[1:]] == pytest.approx(
        [*spread, norm / 3], rel=1e-3
    )


def test_run_folder_is_described(run):
    (run / "run.json").write_text(json.dumps({"vl3d_lite": "0.1.0", "seed": 7}))
    (run / "history.csv").write_text("epoch,loss\n0,1.5\n1,0.25\n")
    roof = {"support": 30, "iou": 0.875}
    pooled = {"mean_iou": 0.8125, "points": 40, "per_class": {"roof": roof}}
    (run / "metrics.json").write_text(json.dumps({"pooled": pooled}))
    (run / "predictions").mkdir()
    (run / "predictions" / "block.laz").write_bytes(b"x" * 1_200_000)
    text = inspect_path(run)
    assert line_of(text, "seed") == ["seed", "7"]
    assert line_of(text, "epochs") == ["epochs", "2"]
    assert line_of(text, "last loss") == ["last", "loss", "0.25"]
    assert line_of(text, "mean_iou") == ["mean_iou", "0.8125"]
    assert line_of(text, "roof") == ["roof", "30", "0.8750"]
    assert "block.laz" in text
    assert " 1.2\n" in text
    assert "missing: spec.yaml, model.keras, features.json" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("fine")]
    assert [row[1:5] for row in rows] == [
        ["INIT", "6", "8", "1"],
        ["TRAINED", "6", "8", "1"],
    ]
    assert float(rows[1][-1]) == pytest.approx(float(rows[0][-1]) / 2, rel=1e-3)


def test_kernels_folder_is_described_without_its_run(run):
    assert inspect_path(run / "kernels").startswith("Kernels in ")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    import keras

    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, name="first")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    hidden = keras.layers.Dropout(0.5, name="drop")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(2, name="second")(hidden))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    with warnings.catch_warnings():
        # Keras' own conversion of variables to NumPy 2 warns.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save(path)
    return path


def test_model_is_described_layer_by_layer(model_file):
    text = inspect_path(model_file)
    assert line_of(text, "first") == ["first", "Dense", str(4 * 3 + 3)]
    assert line_of(text, "norm") == ["norm", "BatchNormalization", str(4 * 3)]
    assert line_of(text, "drop") == ["drop", "Dropout", "0"]
    assert line_of(text, "second") == ["second", "Dense", str(3 * 2 + 2)]
    assert line_of(text, "parameters") == ["parameters", str(15 + 12 + 8)]


@pytest.mark.slow
def test_neither_description_nor_kernel_page_imports_keras(run, model_file):
    script = (
        "import sys; from vl3d_lite.report.inspection import inspect_path;"
        "from vl3d_lite.kernels.page import kernel_page;"
        f"inspect_path({str(model_file)!r}); inspect_path({str(run)!r});"
        f"kernel_page({str(run / 'kernels')!r});"
        "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_cloud_is_described_with_its_codes(tmp_path):
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = [0.01] * 3, [700000, 6600000, 0]
    header.add_extra_dim(laspy.ExtraBytesParams("planarity", "float32"))
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = np.array([[700001, 6600001, 3]] * 4).T
    cloud.classification = [2, 2, 6, 2]
    cloud.write(str(tmp_path / "block.las"))
    text = inspect_path(tmp_path / "block.las")
    assert "LAS 1.4, point format 6" in text
    assert line_of(text, "points") == ["points", "4"]
    assert line_of(text, "extra") == ["extra", "planarity"]
    assert [line.split() for line in text.splitlines()[-2:]] == [
        ["2", "3", "75.00", "%"],
        ["6", "1", "25.00", "%"],
    ]


def without(model_file, member, folder):
    """A copy of the model whose archive lacks one file."""
    broken = folder / f"{member}.keras"
    with zipfile.ZipFile(model_file) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            if name != member:
                new.writestr(name, old.read(name))
    return broken


def test_damaged_inputs_are_errors_that_name_the_file(tmp_path, model_file, run):
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.keras").write_text("hello")
    (tmp_path / "half.keras").write_bytes(model_file.read_bytes()[:2000])
    (tmp_path / "text.las").write_text("hello")
    (run / "metrics.json").write_text("[1]")
    cases = [
        (tmp_path / "nothing", "no such file"),
        (tmp_path / "note.txt", "must be a kernel folder"),
        (tmp_path / "empty", "must be a kernel folder"),
        (tmp_path / "text.keras", "is not a readable Keras model"),
        (tmp_path / "half.keras", "is not a readable Keras model"),
        (without(model_file, "config.json", tmp_path), "config.json"),
        (without(model_file, "model.weights.h5", tmp_path), "model.weights.h5"),
        (tmp_path / "text.las", "text.las"),
        (run, "metrics.json: cannot be used"),
    ]
    for path, message in cases:
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            inspect_path(path)
        assert str(path) in str(caught.value)


def test_paths_that_cannot_be_opened_are_reported_by_their_cause(tmp_path):
    circle = tmp_path / "circle.laz"
    circle.symlink_to(circle)
    for path, message in (
        (circle, "repair the links"),
        ("a\0b", "null character"),
        (tmp_path / "none.laz", "no such file or folder"),
    ):
        with pytest.raises(DataError, match=message):
            inspect_path(path)


def test_predicted_codes_are_counted_too(tmp_path):
    las = laspy.create(point_format=6, file_version="1.4")
    las.x, las.y, las.z = np.random.default_rng(0).random((3, 8)) * 9
    las.add_extra_dim(laspy.ExtraBytesParams("prediction", "uint16"))
    las.prediction = np.array([2] * 6 + [300] * 2)
    las.write(tmp_path / "scan.las")
    text = inspect_path(tmp_path / "scan.las")
    assert re.search(r"prediction +points +share", text)
    assert re.search(r"2 +6 +75\.00 %", text)
    assert re.search(r"300 +2 +25\.00 %", text)
