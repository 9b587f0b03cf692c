"""Field points prepared per second on one core, and measurements behind decisions.

Run from the project root (about two minutes)::

    taskset -c 0 python -m benchmarks.bench_preparation
    taskset -c 0 python -m benchmarks.bench_preparation \
        --store benchmarks/results/preparation.md

A block of hills, roofs and trees is reduced to cells of 0.5 m and prepared for
four levels of 16 neighbors. A field point is a real (not padded) point of the
finest level of a field. *The first time* counts reducing, hierarchy, sweep and
batches; *drawn again* counts an augmented training epoch of a prepared cloud.
Times are CPU seconds of one thread, medians of the repeats; each job runs in a
process of its own, whose peak memory is stated with the 100 MB of the imports.
"""

import argparse
import datetime
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from benchmarks.timing import wrapped
from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.batches import FeatureScaling, SweepBatches, TrainingBatches
from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import prepare_cloud, reduce_cloud
from vl3d_lite.errors import ResourceError
from vl3d_lite.geometry.neighbors import make_tree, nearest, neighbors_within
from vl3d_lite.geometry.open3d import load_open3d
from vl3d_lite.spec.schema.spec import Spec

MACHINE = "2 shared cores, 24 GiB"
GRID_SIZE = 0.5
KERNEL_REACH = 2.1  # default kernel radius in point spacings
STAGES = (4096, 1280, 384, 128)
FIELDS = {
    "cylinder": {"shape": "cylinder", "radius": 12},
    "cylinder, nearest transfer": {
        "shape": "cylinder",
        "radius": 12,
        "interlevel_neighbors": "nearest",
    },
    "sphere": {"shape": "sphere", "radius": 12},
    "box, 2D": {"shape": "box", "size": [20, 20]},
    "nearest": {"shape": "nearest"},
    "cylinder, farthest sampling": {
        "shape": "cylinder",
        "radius": 12,
        "sampling": "farthest",
    },
}


def make_cloud(points: int) -> PointCloud:
    """A block with 20 points/m2: hills, roofs, trees."""
    rng = np.random.default_rng(0)
    edge = np.sqrt(points / 20)
    x, y = rng.uniform(0, edge, (2, points))
    ground = 15 + 6 * np.sin(x / 40) + 4 * np.cos(y / 30)
    block = (np.floor(x / 25) * 7 + np.floor(y / 25) * 3) % 5
    roof = (block == 0) & (x % 25 < 14) & (y % 25 < 12)
    tree = (block == 2) & (rng.random(points) < 0.5)
    height = np.where(roof, 6 + np.abs(x % 25 - 7) / 2, 0)
    height = np.where(tree, rng.uniform(0, 9, points), height)
    labels = np.where(roof, 2, np.where(tree, 1, 0)).astype(np.int32)
    local = np.stack([x, y, ground + height + rng.normal(0, 0.03, points)], axis=1)
    return PointCloud(
        local=np.round(local - local.min(axis=0), 3),
        origin=np.zeros(3),
        attributes={"intensity": rng.integers(0, 900, points).astype(np.uint16)},
        labels=labels,
        name="block",
    )


def make_spec(fields: dict) -> Spec:
    stages = [{"points": p, "channels": 32, "neighbors": 16} for p in STAGES]
    return Spec(
        classes={"ground": 2, "vegetation": 5, "building": 6},
        features=["intensity", "vertical"],
        fields={"grid_size": GRID_SIZE, **fields},
        model={"stages": stages},
    )


def measure_fields(name: str, points: int) -> dict:
    """Seconds and counts of one way to extract fields, both votes together."""
    spec, cloud = make_spec(FIELDS[name]), make_cloud(points)
    begin = time.process_time()
    prepared = prepare_cloud(cloud, spec)
    scaling = FeatureScaling.fit([prepared])
    sweep = SweepBatches(prepared, spec, scaling, votes=2)
    prediction = sum(int((rows >= 0).sum()) for _, rows in sweep)
    first = time.process_time() - begin
    begin = time.process_time()
    batches = TrainingBatches([prepared], spec, scaling)
    training, places, missing = 0, np.zeros(len(STAGES)), np.zeros(len(STAGES))
    for inputs, _ in batches.epoch(0):
        training += int((inputs["neighbors_0"][..., 0] >= 0).sum())
    again = time.process_time() - begin
    for inputs, _ in batches.epoch(1):
        for number in range(len(STAGES)):
            rows = inputs[f"neighbors_{number}"]
            real = rows[rows[..., 0] >= 0]
            places[number] += real.size
            missing[number] += (real < 0).sum()
    cells = len(prepared.xyz)
    return {
        "cells": cells,
        "fields": len(sweep.sweep),
        "overlap a vote": prediction / cells / 2,
        "filled": prediction / len(sweep.sweep) / STAGES[0],
        "first, Mp/s": prediction / first / 1e6,
        "again, Mp/s": training / again / 1e6,
        "missing": [round(float(m), 3) for m in missing / places],
    }


def measure_trees(points: int) -> dict:
    """The same cylinders, with search trees built in every field."""
    spec, cloud = make_spec(FIELDS["cylinder"]), make_cloud(points)
    prepared = prepare_cloud(cloud, spec)
    sweep = SweepBatches(prepared, spec, FeatureScaling.fit([prepared]), votes=1)
    extractor = FieldExtractor(prepared, spec)
    chosen = range(0, len(sweep.sweep), 4)
    seconds = {"cut": 0.0, "trees": 0.0, "coarse again": 0.0}
    total, found, near = 0, 0, 0
    for number in chosen:
        center, rows = sweep.sweep.centers[number], sweep.sweep.rows[number]
        total += len(rows)
        begin = time.process_time()
        field = extractor.extract(center, rows)
        seconds["cut"] += time.process_time() - begin
        begin = time.process_time()
        for fine, coarse in zip(field.xyz, field.xyz[1:], strict=False):
            neighbors_within(fine, 16)
            nearest(make_tree(fine), coarse, 16)
            nearest(make_tree(coarse), fine, 1)
        neighbors_within(field.xyz[-1], 16)
        seconds["trees"] += time.process_time() - begin
        for level in (2, 3):
            begin = time.process_time()
            again = neighbors_within(field.xyz[level], 16)
            seconds["coarse again"] += time.process_time() - begin
            lost = (field.neighbors[level] < 0).sum(axis=1)
            for row, count in enumerate(lost.tolist()):
                others = again[row, 16 - count :] if count else again[row, :0]
                others = others[others >= 0]
                gaps = np.linalg.norm(
                    field.xyz[level][others] - field.xyz[level][row], axis=1
                )
                found += len(others)
                near += int((gaps < KERNEL_REACH * GRID_SIZE * 2**level).sum())
    return {
        **{f"{name}, s/Mp": s / total * 1e6 for name, s in seconds.items()},
        "of slots filled again, inside the kernel": near / max(found, 1),
    }


def measure_search(points: int) -> dict:
    """Seconds per million points of tree settings and of Open3D."""
    xyz = reduce_cloud(make_cloud(points), GRID_SIZE)[0].local
    rows = {}
    for balanced in (True, False):
        for compact in (True, False):
            for leaf in (10, 16, 24, 32):
                begin = time.process_time()
                tree = cKDTree(xyz, leaf, balanced_tree=balanced, compact_nodes=compact)
                tree.query(xyz, 16)
                rows[f"SciPy balanced={balanced} compact={compact} leaf={leaf}"] = (
                    time.process_time() - begin
                )
    try:
        begin = time.process_time()
        core = load_open3d().core
        rows["importing Open3D (seconds)"] = (
            (time.process_time() - begin) * len(xyz) / 1e6
        )
    except ResourceError:
        core = None
    for k, radius in ((16, 1.0), (16, 2.0), (32, 1.5), (64, 2.0), (128, 3.0)):
        begin = time.process_time()
        neighbors_within(xyz, k, radius=radius)
        rows[f"SciPy, {k} within {radius:g} m"] = time.process_time() - begin
        if core is not None:
            begin = time.process_time()
            points_32 = core.Tensor(xyz.astype(np.float32))
            search = core.nns.NearestNeighborSearch(points_32)
            search.hybrid_index(radius)
            search.hybrid_search(points_32, radius, k)[0].numpy().astype(np.int32)
            rows[f"Open3D, {k} within {radius:g} m"] = time.process_time() - begin
    return {name: seconds / len(xyz) * 1e6 for name, seconds in rows.items()}


JOBS = {
    **{name: lambda n, name=name: measure_fields(name, n) for name in FIELDS},
    "trees": measure_trees,
    "search": measure_search,
}


def run_apart(job: str, points: int, repeats: int) -> dict:
    """Medians of a job's numbers over fresh processes, and its peak memory."""
    results = []
    for _ in range(repeats):
        command = [sys.executable, "-m", "benchmarks.bench_preparation", "--job", job]
        command += ["--points", str(points)]
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(out.stdout))
    medians = {}
    for key, value in results[0].items():
        same = isinstance(value, list)
        medians[key] = value if same else statistics.median(r[key] for r in results)
    return medians


def report(points: int, repeats: int) -> str:
    """The tables as Markdown."""
    lines = [
        "# Preparing fields",
        "",
        f"{datetime.date.today()}, {MACHINE}, one thread on one core; a block of "
        f"{points} points, cells of {GRID_SIZE} m, stages of {STAGES} points, 16 "
        f"neighbors, two votes; CPU seconds, medians of {repeats} runs. Mp = million "
        "field points. Targets: 0.3 Mp/s the first time, 1.5 drawn again. Farthest "
        "sampling: one run on a tenth of the block. Overlap: of one vote; filled: "
        "share of the slots; first and again: Mp/s; cut off: share of the neighbors "
        "that the border cuts off, by level.",
        "",
        f"    taskset -c 0 python -m benchmarks.bench_preparation --points {points}",
        "",
        "| fields | cells | fields | overlap | filled | first | again | cut off "
        "| peak MB |",
        "|---|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for name in FIELDS:
        # Farthest points take a hundred times as long; a smaller block will do.
        few = "farthest" in name
        r = run_apart(name, points // 10 if few else points, 1 if few else repeats)
        missing = ", ".join(f"{share:.0%}" for share in r["missing"])
        lines.append(
            f"| {name} | {r['cells']:.0f} | {r['fields']:.0f} | "
            f"{r['overlap a vote']:.2f} | {r['filled']:.0%} | {r['first, Mp/s']:.2f} | "
            f"{r['again, Mp/s']:.2f} | {missing} | {r['peak MB']:.0f} |"
        )
    trees = run_apart("trees", points, repeats)
    cut = trees["cut, s/Mp"]
    lines += [
        "",
        "| a field of a prepared cloud | s/Mp | ratio |",
        "|---|--:|--:|",
        f"| cut out, all levels | {cut:.2f} | 1.0 |",
        f"| trees in the field at every level | {trees['trees, s/Mp']:.2f} | "
        f"{trees['trees, s/Mp'] / cut:.1f} |",
        f"| trees at levels 3 and 4 alone | {trees['coarse again, s/Mp']:.2f} | "
        f"{trees['coarse again, s/Mp'] / cut:.1f} |",
        "",
        "A new search on the coarse levels would add the neighbors that the border "
        f"removed. {trees['of slots filled again, inside the kernel']:.0%} of them "
        f"lie within the kernel ({KERNEL_REACH} spacings); this gain does not justify "
        "the time, so they stay missing.",
        "",
        "| search, all cells among themselves | s per million cells |",
        "|---|--:|",
    ]
    search = run_apart("search", points, repeats)
    peak = search.pop("peak MB")
    lines += [f"| {name} | {seconds:.2f} |" for name, seconds in search.items()]
    lines += ["", f"Peak of the search: {peak:.0f} MB (Open3D included)."]
    return wrapped("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_500_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--job", choices=JOBS)
    options = parser.parse_args()
    if options.job:
        result = JOBS[options.job](options.points)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({**result, "peak MB": peak}))
        return
    text = report(options.points, options.repeats)
    if options.store:
        options.store.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
