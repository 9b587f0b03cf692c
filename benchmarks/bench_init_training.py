"""Scores of the specs of `init` on real scans after ten minutes on one core.

Run from the project root with the folder of the scans (results.md names them); about
fourteen minutes of one core per task::

    python -m benchmarks.bench_init_training $D --runs /tmp/init
    python -m benchmarks.bench_init_training $D --runs /tmp/init \
        --table --store benchmarks/results/init_training.md

`init` reads only the training clouds of a task and takes its validation blocks from
them. Two things of its spec are changed: the number of epochs, so that the steps fill
ten minutes (their seconds are measured first; compilation and validation do not
count), and the cloud to predict, which is the test file of the task. The shipped specs
in the table trained for the time in results.md, with a validation file of their own.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.bench_attention import (
    call,
    found,
    run_spec,
    seconds_of_step,
    store_report,
)

# Task: training clouds, test cloud, mean IoU of the shipped spec (results.md).
TASKS = {
    "dense": (
        [f"train_ign_montpellier_{block}.laz" for block in "abcd"],
        "test_ign_montpellier_f.laz",
        0.888,
    ),
    "tropical": (["train_stbarth_x000_050.laz"], "test_stbarth_x070_100.laz", 0.855),
    "sparse": (
        ["train_ign_sparse_y000_600.laz"],
        "test_ign_sparse_y800_1000.laz",
        0.886,
    ),
}
STEPS_PER_EPOCH = 60
GOAL = 0.03


def measure(runs: Path, folder: str, task: str, minutes: float) -> None:
    """Write the spec, train and predict, unless the result exists."""
    training, test, _ = TASKS[task]
    spec, run = runs / f"{task}.yaml", runs / task
    if (run / "metrics.json").is_file():
        return
    clouds = [f"{folder}/{name}" for name in training]
    if not spec.is_file():
        call("-m", "vl3d_lite", "init", *clouds, "--output", str(spec), "--quiet")
    sets = [f"clouds.predict=['{folder}/{test}']", "training.jit=on"]
    step = seconds_of_step(str(spec), sets, runs / f"step-{task}.txt")
    epochs = round(minutes * 60 / step / STEPS_PER_EPOCH)
    print(f"{task}: {step:.3f} s a step, {epochs} epochs", file=sys.stderr, flush=True)
    sets += [f"training.epochs={epochs}", f"training.steps_per_epoch={STEPS_PER_EPOCH}"]
    run_spec(str(spec), sets, run)


def table(runs: Path) -> str:
    head = (
        "task | ground | vegetation | building | mean of three | shipped spec | below"
    )
    lines = [
        "# Ten minutes with a spec of `init`",
        "",
        "    python -m benchmarks.bench_init_training $D --runs /tmp/init",
        "",
        f"IoU on the test files; goal: at most {GOAL} below the shipped spec.",
        "",
        f"| {head} |",
        f"|---|{'--:|' * 6}",
    ]
    for task, (_, _, shipped) in TASKS.items():
        if not (runs / task / "metrics.json").is_file():
            continue
        row = found(runs / task)
        scores = [f"{value:.3f}" for value in (*row["ious"], row["mean"], shipped)]
        below = shipped - row["mean"]
        lines.append(f"| {' | '.join([task, *scores])} | {below:+.3f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="Of the scans.")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--table", action="store_true", help="Of what is there.")
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if not options.table:
        for task in options.tasks:
            measure(options.runs, options.folder, task, options.minutes)
    store_report(table(options.runs), options.store)


if __name__ == "__main__":
    main()
