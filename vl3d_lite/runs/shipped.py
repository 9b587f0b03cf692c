"""Runs by path, or shipped models by name."""

import copy
from pathlib import Path

from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system import find_shipped, shipped_paths

AUTO = "auto"
OUTPUT = Path("predictions")  # of models that are used by name


def is_auto(path: Path) -> bool:
    """Whether ``auto`` is named in place of a run: each cloud has its fitting model."""
    return path == Path(AUTO) and not path.exists()


def find_run(path: Path) -> RunFolder:
    """The run folder at a path, or the shipped model of that name.

    Commands that use a shipped model by its name write into the current directory, not
    into the installed package.

    Args:
        path: A folder, or the name of a shipped model. A folder takes precedence.
    """
    found = find_shipped("models", path)
    return RunFolder(path) if found == path else _shipped(found)


def shipped_runs() -> dict[str, RunFolder]:
    """The shipped models by name."""
    return {name: _shipped(path) for name, path in shipped_paths("models").items()}


def _shipped(path: Path) -> RunFolder:
    run = copy.copy(RunFolder(path))
    run.predictions = OUTPUT
    run.kernels, run.rotations = (Path(p.name) for p in (run.kernels, run.rotations))
    return run
