"""What docs/architecture.md promises to who extends the program, done in a copy.

Each test edits at most three files of a copy of the package, as the page states, and
runs the result in a process of its own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import laspy
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]

SPEC = """\
classes: {ground: 2, other: 1}
clouds: {train: [a.laz], validation: [], predict: []}
features: [FEATURE]
fields: {radius: 4, grid_size: 0.5, shape: SHAPE}
model:
  stages:
    - {points: 64, channels: 8, neighbors: 8, blocks: [kpconvx, BLOCK]}
    - {points: 16, channels: 16, neighbors: 8, blocks: [gva]}
  kpconvx: {groups: 4}
  gva: {groups: 4}
"""
READ = """
from pathlib import Path
import numpy as np
from vl3d_lite.spec.reader import read_spec
spec = read_spec(Path("spec.yaml"), check_files=False).spec
"""


class Copy:
    """A copy of the package; it counts the files that were edited."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.edited: set[str] = set()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "vl3d_lite", folder / "vl3d_lite", ignore=ignored)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / "vl3d_lite" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new))
        self.edited.add(file)

    def append(self, file: str, text: str) -> None:
        path = self.folder / "vl3d_lite" / file
        path.write_text(path.read_text() + text)
        self.edited.add(file)

    def write_spec(self, feature="vertical", shape="cylinder", block="gva") -> None:
        text = SPEC.replace("FEATURE", feature).replace("SHAPE", shape)
        (self.folder / "spec.yaml").write_text(text.replace("BLOCK", block))

    def run(self, *arguments: str, **environment: str) -> str:
        """What Python prints in a process that imports the copy."""
        assert 1 <= len(self.edited) <= 3
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


@pytest.mark.slow
def test_a_block(copy):
    copy.edit("spec/schema/network.py", '"gva", "envelope"', '"gva", "toy", "envelope"')
    copy.edit(
        "model/network.py",
        '    "gqa": _gqa,\n',
        '    "gqa": _gqa,\n'
        '    "toy": lambda model, context, features, name: layers.Dense(\n'
        "        features.shape[-1], name=name)(features),\n",
    )
    copy.edit(
        "model/cost.py",
        '    "gqa": _gqa,\n',
        '    "gqa": _gqa,\n'
        '    "toy": lambda model, stage, level: LayerCost(\n'
        '        "toy", stage.channels * (stage.channels + 1), 1, 0, level),\n',
    )
    copy.write_spec(block="toy")
    printed = copy.run(
        "-c",
        READ
        + """
from vl3d_lite.dataset.batches import batch_spec
from vl3d_lite.model.cost import count_parameters
from vl3d_lite.model.network import build_network
model = build_network(spec.model, batch_spec(spec, 1), n_classes=2,
                      spacings=spec.spacings, precision="float32")
assert any(layer.name.startswith("toy") for layer in model.layers)
print(model.count_params() - count_parameters(spec.model, 1, 2))
""",
    )
    assert printed.split()[-1] == "0"


def test_a_feature(copy):
    copy.edit(
        "spec/schema/clouds.py", '    "density",\n', '    "density",\n    "toy",\n'
    )
    copy.append(
        "dataset/features.py",
        '\nCOMPUTED["toy"] = lambda given, radius: 2 * given.xyz[:, 2]\n',
    )
    copy.write_spec(feature="toy")
    copy.run(
        "-c",
        READ
        + """
from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.features import compute_features
xyz = np.random.default_rng(0).uniform(0, 9, (50, 3))
cloud = PointCloud(xyz, np.zeros(3), {}, np.zeros(50, np.int32))
values, names = compute_features(cloud, spec.features, 0.5)
assert names == ["toy"]
np.testing.assert_allclose(values[:, 0], 2 * xyz[:, 2], rtol=1e-6)
""",
    )


@pytest.mark.slow
def test_a_field_shape(copy):
    copy.edit(
        "spec/schema/clouds.py", '"cylinder", "sphere"', '"toy", "cylinder", "sphere"'
    )
    copy.edit(
        "dataset/extractor.py",
        '    if fields.shape == "box":\n',
        '    if fields.shape == "toy":  # a square column of unlimited height\n'
        "        return Shape(np.full(2, fields.radius), round=False)\n"
        '    if fields.shape == "box":\n',
    )
    copy.write_spec(shape="toy")
    copy.run(
        "-c",
        READ
        + """
from vl3d_lite.dataset.extractor import field_shape
from vl3d_lite.geometry.regions import BoxTree
from vl3d_lite.geometry.subsampling import grid_cells
shape = field_shape(spec.fields)
xyz = np.random.default_rng(0).uniform(-9, 9, (400, 3))
cells = np.abs(xyz[:, :2]).max(axis=1) <= 4
assert np.array_equal(shape.measure(list(xyz.T[:2])) <= shape.limit, cells)
""",
    )


@pytest.mark.slow
def test_an_output_dimension(copy, tmp_path):
    copy.edit(
        "spec/schema/results.py",
        '"entropy", "probabilities"',
        '"entropy", "margin", "probabilities"',
    )
    copy.edit(
        "prediction/writing.py",
        '        for name in ("prediction", "confidence", "entropy")\n',
        '        for name in ("prediction", "confidence", "entropy", "margin")\n',
    )
    copy.edit(
        "prediction/writing.py",
        '        "confidence": (',
        '        "margin": (\n'
        "            np.ptp(np.sort(prediction.probabilities)[:, -2:], axis=1),\n"
        '            np.float32, "lead of the first class"),\n'
        '        "confidence": (',
    )
    copy.write_spec()
    with (copy.folder / "spec.yaml").open("a") as file:
        file.write("prediction: {write: [margin]}\n")
    las = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    las.x, las.y, las.z = np.zeros((3, 4))
    las.write(tmp_path / "a.las")
    copy.run(
        "-c",
        READ
        + """
from vl3d_lite.prediction.votes import CellPrediction
from vl3d_lite.prediction.writing import write_prediction
shares = np.array([[.75, .25], [.5, .5]], np.float32)
write_prediction(Path("a.las"), Path("b.las"), CellPrediction(shares, np.ones(2, bool)),
                 np.array([0, 1, 1, 0]), spec, replace=False, overwrite=False)
""",
    )
    np.testing.assert_array_equal(
        laspy.read(tmp_path / "b.las").margin, [0.5, 0, 0, 0.5]
    )


@pytest.mark.slow
def test_a_command(copy):
    copy.append(
        "cli/looks.py",
        "\n\ndef toy(path: Path):\n"
        '    """Print the name of a file."""\n'
        "    typer.echo(path.name)\n",
    )
    copy.edit(
        "cli/app.py",
        "    (\n        looks.doctor,\n",
        '    (looks.toy, "vl3d-lite toy a.las", "vl3d-lite toy b.las"),\n'
        "    (\n        looks.doctor,\n",
    )
    assert copy.run("-m", "vl3d_lite", "toy", "a/b.las") == "b.las\n"
    assert "Print the name of a file." in copy.run("-m", "vl3d_lite", "--help")


@pytest.mark.slow
def test_a_backend(copy, trained, place):
    """NumPy, which Keras has and the program does not know, predicts with a run."""
    copy.edit(
        "model/backend.py",
        '    if backend == "jax":\n        import jax\n',
        '    if backend == "numpy":\n        return False\n'
        '    if backend == "jax":\n        import jax\n',
    )
    copy.edit(
        "model/compilation.py",
        '    if backend == "torch":\n',
        '    if backend in ("torch", "numpy"):\n',
    )
    cloud, out = place / "test.laz", copy.folder / "out"
    copy.run(
        *("-m", "vl3d_lite", "predict", str(trained.root), str(cloud)),
        *("--output", str(out), "--quiet"),
        KERAS_BACKEND="numpy",
    )
    found = laspy.read(out / "test.laz").prediction
    expected = laspy.read(trained.predictions / "test.laz").prediction
    assert np.mean(found == expected) > 0.999
