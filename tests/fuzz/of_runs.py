"""Run folders with damaged files, and the commands that load their network."""

import shutil

from tests.fuzz.of_checkpoints import damaged as damaged_arrays
from tests.fuzz.of_models import damaged as damaged_model
from tests.fuzz.of_records import SHORT, change_run, make_run


def prepare(shared):
    """Train a small run, and load what commands on runs need."""
    make_run(shared)
    import vl3d_lite.pipeline  # noqa: F401  takes seconds, once


def attempt(rng, judge, shared):
    """Damage a file, and score, predict, verify, export or resume."""
    run = judge.folder / "run"
    shutil.copytree(shared / "run", run)
    kind = rng.integers(6)
    if kind < 4:
        change_run(run, rng)
    elif kind == 4:
        change(run / "model.keras", damaged_model, rng)
    else:
        change(run / "checkpoints/last.npz", damaged_arrays, rng)
    name = ("evaluate", "predict", "verify", "export", "train")[rng.integers(5)]
    words = [name, str(run), "--quiet"]
    if name == "predict":
        cloud, out = str(shared / "test.laz"), str(judge.folder / "out")
        judge.command(*words, cloud, "--output", out)
    elif name == "train":
        if kind == 5:
            (run / "model.keras").unlink()
        spec = str(shared / "spec.yaml")
        words = [name, spec, "--run", str(run), "--resume", "--quiet", *SHORT]
        judge.command(*words, writes=[run])
    else:
        judge.command(*words, allowed=frozenset({1}), writes=[run])


def change(path, damage, rng):
    path.write_bytes(damage(path.read_bytes(), rng))
