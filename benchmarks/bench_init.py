"""Fit of the specs of `init` to the clouds they were written for.

Run from the project root (about three minutes)::

    python -m benchmarks.bench_init
    python -m benchmarks.bench_init --store benchmarks/results/init.md
    python -m benchmarks.bench_init --clouds town=data/town_train.laz

Every scene is simulated (`benchmarks.scenes`), given to ``vl3d-lite init`` and
checked with ``vl3d-lite check``. Then the batches of the program make the fields of
two training epochs and those that cover the validation block, and the benchmark
counts the full ones: a field is full if it has as many points as the first stage.
"""

import argparse
import contextlib
import datetime
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scenes import airborne, terrestrial
from benchmarks.timing import wrapped
from vl3d_lite.cli.app import app
from vl3d_lite.clouds.files import find_clouds
from vl3d_lite.dataset.batches import FeatureScaling, SweepBatches, TrainingBatches
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.spec.reader import read_spec

# points/m2: edge of the place in meters
SCENES = {0.3: 900, 2: 400, 10: 200, 30: 130, 80: 90}
RAYS = 900_000
FIELDS = 200
GOAL = 0.95


def measure(clouds: list[Path], folder: Path) -> dict:
    """The choices of `init` for clouds, and their fit."""
    output = folder / "spec.yaml"
    begin = time.perf_counter()
    command = ["init", *map(str, clouds), "--output", str(output), "--quiet"]
    _quietly(command)
    seconds = time.perf_counter() - begin
    _quietly(["check", str(output)])
    loaded = read_spec(output, [f"training.steps_per_epoch={FIELDS // 4}"])
    spec = loaded.spec
    train, held_out = (
        [prepare_file(path, spec, 1) for path in loaded.clouds[group]]
        for group in ("train", "validation")
    )
    scaling = FeatureScaling.fit(train)
    fills = [
        (batch["neighbors_0"][..., 0] >= 0).mean(axis=1)
        for batch, _ in TrainingBatches(train, spec, scaling).epoch(0)
    ]
    swept = []
    for cloud in held_out:
        for batch, rows in SweepBatches(cloud, spec, scaling, votes=1):
            real = (rows >= 0).any(axis=1)
            swept.append((batch["neighbors_0"][real, :, 0] >= 0).mean(axis=1))
    full = np.concatenate(fills) == 1
    coarse = _stage_fills(TrainingBatches(train, spec, scaling), spec)
    fields = spec.fields
    return {
        "cells of": f"{fields.grid_size:g} m",
        "shape": fields.shape + ("" if not fields.radius else f" {fields.radius:g} m"),
        "stages": " ".join(str(stage.points) for stage in spec.model.stages),
        "classes": str(len(spec.classes)),
        "training": f"{full.mean():.1%}",
        "validation": f"{(np.concatenate(swept) == 1).mean():.1%}",
        "coarser stages": " ".join(f"{share:.0%}" for share in coarse),
        "lines": str(len(output.read_text().splitlines())),
        "seconds": f"{seconds:.1f}",
        "goal met": "yes" if full.mean() >= GOAL else "no",
    }


def _stage_fills(batches, spec) -> np.ndarray:
    fills = [
        [
            (batch[f"neighbors_{level}"][..., 0] >= 0).mean()
            for level in range(1, len(spec.model.stages))
        ]
        for batch, _ in batches.epoch(1)
    ]
    return np.mean(fills, axis=0)


def _table(rows: dict[str, dict[str, str]], heads: list[str]) -> list[str]:
    """Some columns of all clouds."""
    return [
        f"| cloud | {' | '.join(heads)} |",
        f"|---|{'--:|' * len(heads)}",
        *(
            f"| {cloud} | {' | '.join(row[head] for head in heads)} |"
            for cloud, row in rows.items()
        ),
    ]


def _quietly(command: list[str]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        app(command, standalone_mode=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument(
        "--clouds", nargs="*", default=[], metavar="NAME=FILE,...", help="more clouds"
    )
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        for density, size in SCENES.items():
            folder = Path(place) / str(density)
            folder.mkdir()
            airborne(folder / "scan.laz", density, size)
            rows[f"airborne, {density} points/m²"] = measure(
                [folder / "scan.laz"], folder
            )
        folder = Path(place) / "terrestrial"
        folder.mkdir()
        terrestrial(folder / "scan.laz", RAYS)
        rows["terrestrial"] = measure([folder / "scan.laz"], folder)
        for number, entry in enumerate(options.clouds):
            name, _, files = entry.partition("=")
            folder = Path(place) / f"given{number}"
            folder.mkdir()
            clouds = find_clouds(files.split(","), Path.cwd())
            rows[name] = measure(clouds, folder)
    heads = list(next(iter(rows.values())))
    lines = [
        "# Specs that `init` writes",
        "",
        f"{datetime.date.today()}, 2 shared cores, 24 GiB. Simulated scenes and, by "
        f"name, given clouds. Training and validation: share of {FIELDS} training "
        "fields, and of the fields that cover the validation block, that are full, "
        "with as many points as the first stage. Coarser stages: how "
        "full they are. Every spec passed "
        f"`vl3d-lite check`. Goal: {GOAL:.0%} full in training, 60 lines.",
        "",
        "    python -m benchmarks.bench_init",
        "",
        *_table(rows, heads[:4]),
        "",
        *_table(rows, heads[4:]),
        "",
    ]
    text = wrapped("\n".join(lines))
    sys.stdout.write(text)
    if options.store:
        options.store.write_text(text)


if __name__ == "__main__":
    main()
