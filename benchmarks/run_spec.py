"""The spec and the clouds of the runs that `bench_run` times."""

import argparse
from pathlib import Path

import yaml

from benchmarks.bench_network import BATCH, STAGES, as_spec
from benchmarks.scenes import tiled

TOWN = Path(__file__).parents[1] / "data/town_train.laz"
QUICK = ((128, 8, 1), (32, 16, 1))
INPUTS = ["height", "relative_intensity", "return_ratio", "number_of_returns"]
INPUTS += ["vertical"]
GRID = 0.5
RADIUS = {STAGES: 16, QUICK: 4}  # meters: fields fill most slots, few overflow


def make_spec(folder: Path, stages, sizes: argparse.Namespace) -> Path:
    """Write clouds and the spec of the run."""
    for name, tiles in (("train", sizes.tiles), ("validation", 1)):
        tiled(TOWN, folder / f"{name}.laz", tiles)
    content = {
        "seed": 7,
        "classes": {
            "ground": 2,
            "vegetation": {"codes": [3, 4, 5], "output_code": 5},
            "building": 6,
            "other": 1,
        },
        "clouds": {"train": ["train.laz"], "validation": ["validation.laz"]},
        "features": INPUTS,
        "fields": {"shape": "cylinder", "radius": RADIUS[stages], "grid_size": GRID},
        "model": {"stages": as_spec(stages)},
        "training": {
            "epochs": sizes.epochs,
            "steps_per_epoch": sizes.steps,
            "batch_size": BATCH,
            "jit": "off" if stages == QUICK else "on",
        },
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def stages_of(path: Path):
    """Points, channels and KPConvX blocks of the stages of a spec made here."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(
        (stage["points"], stage["channels"], stage["blocks"].count("kpconvx"))
        for stage in content["model"]["stages"]
    )
