"""Files of a run folder, and specs of VL3D: JSON and CSV."""

import json
import shutil
import subprocess
import sys

from tests.conftest import SPEC, write_place
from tests.fuzz.mutations import change_bytes, change_value, dump_json
from tests.guide.vl3d.vl3d_specs import flat, hierarchical
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.history import read_history
from vl3d_lite.spec.reader import read_spec

RECORDS = [
    *("run.json", "features.json", "calibration.json", "metrics.json", "domain.json"),
    *("predictions/*.json", "predictions/.records/*", "history.csv", "spec.yaml"),
]
SHORT = ["--set", "training.epochs=2", "--set", "training.steps_per_epoch=3"]


def prepare(shared):
    """Train a small run."""
    make_run(shared)


def make_run(shared):
    """A run folder with predictions and scores, and its clouds."""
    if (shared / "run").is_dir():
        return
    for seed, name in enumerate(("train", "val", "test")):
        write_place(shared / f"{name}.laz", seed, n=1500)
    (shared / "spec.yaml").write_text(SPEC)
    command = [sys.executable, "-m", "vl3d_lite", "run", "spec.yaml", "--run", "run"]
    subprocess.run([*command, "--quiet", *SHORT], cwd=shared, check=True)


def attempt(rng, judge, shared):
    """Change files of a run, and read them with commands that need no Keras."""
    if rng.random() < 0.2:
        convert(rng, judge)
        return
    run = judge.folder / "run"
    shutil.copytree(shared / "run", run)
    change_run(run, rng)
    kind = rng.integers(4)
    if kind == 0:
        judge.command("inspect", str(run))
    elif kind == 1:
        judge.command("compare", str(run), str(shared / "run"))
    else:
        read_all(judge, RunFolder(run))


def read_all(judge, run):
    """Read each file as the commands that load Keras do first."""
    judge.call("require_model", run.require_model)
    judge.call("read_spec", read_spec, run.spec, check_files=False)
    judge.call("scored_predictions", run.scored_predictions)
    judge.call("read_outcomes", read_outcomes, run.predictions)
    judge.call("scaling", FeatureScaling.read, run.features)
    judge.call("temperature", Temperature.read, run.calibration)
    judge.call("history", read_history, run.history)


def change_run(run, rng):
    """Change one or two files of a run."""
    files = sorted(path for name in RECORDS for path in run.glob(name))
    for _ in range(rng.integers(1, 3)):
        change_file(files[rng.integers(len(files))], rng)


def convert(rng, judge):
    """Change a spec of VL3D, and convert it."""
    value = (hierarchical, flat)[rng.integers(2)]()
    for _ in range(rng.integers(1, 4)):
        value = change_value(value, rng)
    path = judge.folder / "vl3d.json"
    path.write_bytes(dump_json(value, rng))
    # A spec that lacks values is written, listed at length, and ends with 2.
    out = judge.folder / "out"
    words = ["convert", str(path), "--output", str(out / "new.yaml")]
    out.mkdir()
    judge.command(*words, writes=[out])


def change_file(path, rng):
    data = path.read_bytes()
    try:
        value = json.loads(data)
    except ValueError:  # a table, or damaged before
        value = None
    if value is None or rng.random() < 0.15:
        path.write_bytes(change_bytes(data, rng))
        return
    for _ in range(rng.integers(1, 3)):
        value = change_value(value, rng)
    path.write_bytes(dump_json(value, rng))
