"""A small labeled place that the tests of whole commands share."""

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["VL3D_LITE_CACHE"] = "off"  # tests of the cache name a folder of their own
# JAX compiles each operation that runs eagerly; without the expensive passes that takes
# 40 % less time. `tests.contracts` compiles whole layers as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

SPEC = """\
seed: 3
classes:
  ground: 2
  vegetation: {codes: [3, 5], output_code: 5}
  building: 6
clouds: {train: [train.laz], validation: [val.laz], predict: [test.laz]}
features: [height, return_ratio, relative_intensity]
fields: {radius: 8, grid_size: 0.5}
model:
  stages:
    - {points: 512, channels: 8, neighbors: 8, blocks: [kpconvx, gva]}
    - {points: 128, channels: 16, neighbors: 8, blocks: [kpconvd]}
  kpconvx: {groups: 4, hidden_ratio: 2}
  gva: {groups: 4}
training: {epochs: 3, steps_per_epoch: 8, batch_size: 2, learning_rate: 0.01, jit: off}
prediction: {write: [prediction, confidence, entropy, probabilities]}
export: {plots: false, every: 2}
"""


def write_place(path: Path, seed: int, n: int = 6000, shift=(0, 0, 0)) -> None:
    """Ground, two flat roofs and a few bushes, as LAS 1.4 with UTM coordinates."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 40, (n, 2))
    z = 0.02 * xy[:, 0] + rng.normal(0, 0.02, n)
    code = np.full(n, 2)
    for corner in ((4, 6), (24, 20)):
        roof = np.all((xy > corner) & (xy < np.add(corner, 9)), axis=1)
        z[roof] += 5
        code[roof] = 6
    for center in rng.uniform(2, 38, (8, 2)):
        near = (np.linalg.norm(xy - center, axis=1) < 2.5) & (code == 2)
        z[near] += rng.uniform(0.3, 4, near.sum())
        code[near] = 5
    returns = np.where(code == 5, 2, 1)
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales = [0.001] * 3
    header.offsets = np.add([450000, 5410000, 0], shift)
    las = laspy.LasData(header)
    las.X, las.Y, las.Z = np.round(np.column_stack([xy, z + 100]).T * 1000).astype(int)
    las.classification = code
    las.intensity = np.where(code == 6, 900, 500) + rng.integers(0, 60, n)
    las.number_of_returns = returns
    las.return_number = np.where(returns == 2, rng.integers(1, 3, n), 1)
    las.gps_time = np.arange(n) * 1e-5
    las.write(path)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Make a folder in one worker of pytest-xdist; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def place(made_once) -> Path:
    """A folder with train.laz, val.laz, test.laz and spec.yaml, for reading only."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for seed, name in enumerate(("train", "val", "test")):
            write_place(folder / f"{name}.laz", seed)
        (folder / "spec.yaml").write_text(SPEC)

    return made_once("place", make)


@pytest.fixture(scope="session")
def trained_once(made_once, place) -> Path:
    """Where the place's spec was trained, for all workers; for reading only."""
    from vl3d_lite import pipeline
    from vl3d_lite.runs.folder import RunFolder
    from vl3d_lite.runs.options import Options
    from vl3d_lite.spec.reader import read_spec

    def make(folder: Path) -> None:
        loaded = read_spec(place / "spec.yaml")
        pipeline.run(loaded, RunFolder(folder), Options(threads=2, quiet=True))

    return made_once("trained", make)


@pytest.fixture(scope="session")
def trained(trained_once, tmp_path_factory):
    """The run folder of the place's spec, after `pipeline.run`; one per worker."""
    from vl3d_lite.runs.folder import RunFolder

    own = tmp_path_factory.mktemp("runs") / "place"
    return RunFolder(shutil.copytree(trained_once, own))


@pytest.fixture(scope="session")
def made_before():
    """Networks, their traced views, and plots of histories, by what they come from."""
    return {}, {}, {}


@pytest.fixture
def nothing_twice(made_before, monkeypatch):
    """Load and trace each network once, and plot each history once.

    The results depend on the content of a file or a table only. No command may change
    a network that it loads: its weights are compared before each use.
    """
    from vl3d_lite.pipeline import opening
    from vl3d_lite.prediction import Inference
    from vl3d_lite.report import content, run_page
    from vl3d_lite.runs.provenance import array_hash

    networks, views, plots = made_before
    load_model, view = opening.load_model, Inference.view

    def load_once(path):
        digest = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else ""
        if digest not in networks:
            model = load_model(path)
            networks[digest] = model, array_hash(model.get_weights())
        model, weights = networks[digest]
        assert array_hash(model.get_weights()) == weights
        return model

    def traced_once(self, n_batches):
        if any(self.model is model for model, _ in networks.values()):
            self._views = views.setdefault(id(self.model), self._views)
        return view(self, n_batches)

    def drawn_once(draw):
        def drawn(rows):
            key = draw.__name__, repr(rows)
            if key not in plots:
                plots[key] = draw(rows)
            return plots[key]

        return drawn

    monkeypatch.setattr(opening, "load_model", load_once)
    monkeypatch.setattr(Inference, "view", traced_once)
    monkeypatch.setattr(content, "plot_curves", drawn_once(content.plot_curves))
    monkeypatch.setattr(run_page, "plot_history", drawn_once(run_page.plot_history))


@pytest.fixture
def handed_on():
    """The signals that the library hands on to the process, which they do not end."""
    numbers = []
    before = {
        number: signal.signal(number, lambda number, _: numbers.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _own_logging():
    """Undo what a command set: with --quiet later tests would see no message."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(autouse=True)
def _same_weights():
    """Layers draw the same weights in every run of the tests."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _own_determinism():
    """Undo what a training asked of TensorFlow: Keras refuses XLA after it."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()
