"""What the tests of commands share: options, short trainings, copies."""

import importlib
import shutil
from pathlib import Path

import laspy

from vl3d_lite import pipeline
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options

OPTIONS = Options(threads=2, quiet=True)
# One step of one block: tracing the whole network takes longer than training it.
SMALL = [
    "model.stages=[{points: 256, channels: 8, neighbors: 6, blocks: [kpconvx]}]",
    "model.kpconvx.shell_points=[1, 3, 5]",
    "training.epochs=1",
    "training.steps_per_epoch=1",
]
SHORT = [*SMALL, "export.kernels=false"]


def module(name):
    """The module of a command, whose package has its function under that name."""
    return importlib.import_module(f"vl3d_lite.pipeline.{name}")


def predicted(folder, name="test.laz"):
    return laspy.read(folder / name)


def without_calibration(run, place, folder):
    pipeline.predict(
        run, [place / "test.laz"], folder, OPTIONS, ["prediction.calibrate=false"]
    )
    return predicted(folder)


def copy_of(run, folder):
    shutil.copytree(run.root, folder)
    return RunFolder(folder)


def copies(place, folder, *names):
    return [Path(shutil.copy(place / "test.laz", folder / name)) for name in names]
