"""The commands that signals are sent to, how each goes on, and what it leaves."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import laspy
import numpy as np

QUIET = ["--quiet"]
# Entries that no two runs share.
CHANGING = {"seconds", "duration", "date", "time", "source", "peak_memory"}


def points(path: Path) -> bytes:
    """The point records of a cloud."""
    return laspy.read(path).points.array.tobytes()


def weights(path: Path) -> list[bytes]:
    """The arrays of a checkpoint, without its progress."""
    with np.load(path) as file:
        names = sorted(name for name in file.files if name != "progress")
        return [file[name].tobytes() for name in names]


def record(path: Path):
    """A JSON file, without entries that no two runs share."""
    return _stable(json.loads(path.read_text()))


def _stable(value):
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in value.items() if k not in CHANGING}
    return [_stable(v) for v in value] if isinstance(value, list) else value


def trained(folder: Path) -> dict:
    """What a training leaves."""
    found = {f"run/checkpoints/{n}": weights for n in ("last.npz", "best.npz")}
    return {name: read(folder / name) for name, read in found.items()}


def predicted(folder: Path) -> dict:
    """What a prediction leaves."""
    return {f"{p.parent.name}/{p.name}": points(p) for p in folder.glob("*/*/*.laz")}


def scored(folder: Path) -> dict:
    """What an evaluation leaves."""
    found = {"metrics": record(folder / "run/metrics.json")}
    assert (folder / "run/report.html").is_file()
    return found


def exported(folder: Path) -> dict:
    """What an export leaves."""
    files = sorted((folder / "kernels").rglob("*.csv"))
    assert files
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@dataclass(frozen=True)
class Verb:
    """A command in a folder that holds clouds, a spec and, if needed, a run.

    Attributes:
        words: The command.
        results: What it leaves, so that two folders can be compared.
        needs_run: Whether it needs the trained run.
        needs_twin: Whether it needs a second one beside it.
        more: Options with which it goes on, tried in this order: the first that is
            not refused with exit code 2.
        codes: Exit codes of success.
    """

    words: tuple[str, ...]
    results: Callable[[Path], dict] = lambda folder: {}
    needs_run: bool = True
    needs_twin: bool = False
    more: tuple[tuple[str, ...], ...] = ((), ("--overwrite",))
    codes: frozenset[int] = field(default_factory=lambda: frozenset({0}))


RESUME = (("--resume",), ())
VERBS = {
    "run": Verb(
        ("run", "spec.yaml", "--run", "run", *QUIET),
        lambda folder: {**trained(folder), **predicted(folder), **scored(folder)},
        needs_run=False,
        more=RESUME,
    ),
    "train": Verb(
        ("train", "spec.yaml", "--run", "run", *QUIET),
        trained,
        needs_run=False,
        more=RESUME,
    ),
    "predict": Verb(
        ("predict", "run", "test.laz", "val.laz", "--output", "new/out", *QUIET),
        predicted,
        more=RESUME,
    ),
    "evaluate": Verb(("evaluate", "run", *QUIET), scored),
    "export": Verb(("export", "run", "--output", "kernels", *QUIET), exported),
    "ensemble": Verb(
        ("ensemble", "run", "twin", "--run", "both", *QUIET), needs_twin=True
    ),
    "verify": Verb(("verify", "run", *QUIET)),
    "init": Verb(("init", "train.laz", "val.laz", "--output", "new.yaml", *QUIET)),
    "plan": Verb(("plan", "spec.yaml", *QUIET)),
    "check": Verb(("check", "spec.yaml")),
    "inspect": Verb(("inspect", "run")),
    "compare": Verb(("compare", "run", "twin"), needs_twin=True),
}
# Commands that a signal lets finish a step.
LONG = ("run", "predict", "evaluate")
