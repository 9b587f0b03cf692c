"""Files of a run folder, and specs of VL3D: JSON and CSV."""

import json
import shutil
import subprocess
import sys

from tests.conftest import SPEC, write_place
from tests.fuzz.mutations import change_bytes, change_value, dump_json
from tests.guide.vl3d.vl3d_specs import flat, hierarchical

RECORDS = [
    *("run.json", "features.json", "calibration.json", "metrics.json"),
    *("predictions/predictions.json", "history.csv", "spec.yaml"),
]
SHORT = ["--set", "training.epochs=2", "--set", "training.steps_per_epoch=3"]


def prepare(shared):
    """Train a small run, and load what commands on runs need."""
    make_run(shared)
    import vl3d_lite.pipeline  # noqa: F401  takes seconds, once


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
    """Change a file of a run, and look at it, compare it, or score it."""
    if rng.random() < 0.15:
        return convert(rng, judge)
    run = judge.folder / "run"
    shutil.copytree(shared / "run", run)
    files = sorted(path for pattern in RECORDS for path in run.glob(f"**/{pattern}"))
    files += [path for path in run.glob("predictions/**/*.json") if path not in files]
    for _ in range(rng.integers(1, 3)):
        change_file(files[rng.integers(len(files))], rng)
    kind = rng.integers(20)
    if kind < 8:
        judge.command("inspect", str(run))
    elif kind < 14:
        judge.command("compare", str(run), str(shared / "run"))
    else:
        slow(kind, judge, run, shared)
    return None


def slow(kind, judge, run, shared):
    """Commands that take a second."""
    out = str(judge.folder / "out")
    if kind < 18:
        judge.command("evaluate", str(run), "--quiet", writes=[run])
    elif kind == 18:
        judge.command("verify", str(run), "--quiet", allowed=frozenset({1}))
    else:
        cloud = str(shared / "test.laz")
        judge.command("predict", str(run), cloud, "--output", out, "--quiet")


def convert(rng, judge):
    """Change a spec of VL3D, and convert it."""
    value = (hierarchical, flat)[rng.integers(2)]()
    for _ in range(rng.integers(1, 4)):
        value = change_value(value, rng)
    path = judge.folder / "vl3d.json"
    path.write_bytes(dump_json(value, rng))
    # A spec that lacks values is written, and ends with 2.
    judge.command("convert", str(path), "--output", str(judge.folder / "new.yaml"))


def change_file(path, rng):
    data = path.read_bytes()
    if path.suffix != ".json" or rng.random() < 0.15:
        path.write_bytes(change_bytes(data, rng))
        return
    value = json.loads(data)
    for _ in range(rng.integers(1, 3)):
        value = change_value(value, rng)
    path.write_bytes(dump_json(value, rng))
