"""Rates of a whole run compared with those of its network, and the time of its parts.

Run from the project root (about twenty minutes on an idle core)::

    python -m benchmarks.bench_run --threads 2 --store benchmarks/results/run.md
    taskset -c 1 python -m benchmarks.bench_run --clouds 4      # on one core
    python -m benchmarks.bench_run --quick          # small, without XLA, as a test

The command line trains the reference network of `bench_network` and predicts with it,
each in a process of its own (`benchmarks.clocks` adds clocks). The clouds are several
copies of ``data/town_train.laz`` side by side. Before, between and after the two runs,
another process (`benchmarks.bare`) times the network alone; a *share* is the rate of
the run divided by that of `bench_network`'s step or inference, mean of before and
after. The network alone keeps freed memory; a run uses the default allocator.

Rates count the slots of fields, as in `bench_network`; padding is listed separately.
The seconds of a run are those of its whole process: import, checks, reading,
preparation, validation, calibration, writing, plots of kernels. The compilation time
of XLA is the time of the first call of a step or an inference minus the median of the
others; rates are given without it and with it.

Forward is the loss of a training batch, compiled; backward is the time of the gradients
minus forward; the optimizer is the time of `train_on_batch` minus both. All three are
measured alone; the additional time of a step inside the run has its own line. The
rooflines of `benchmarks.roofline` use the ceilings measured in the same rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median

from benchmarks import clocks
from benchmarks.bare import Bare
from benchmarks.bench_network import BATCH, FEATURES, STAGES
from benchmarks.roofline import forward_work, network_work
from benchmarks.run_spec import QUICK, make_spec
from benchmarks.timing import publish
from vl3d_lite.prediction.outcomes import read_outcomes

ROOT = Path(__file__).parents[1]
TARGETS = {"training": 0.85, "prediction": 0.80}
COMPILING = {clocks.STEP: "compiling the step", clocks.NETWORK: "compiling inference"}
OTHER = "everything else"


def call(folder: Path, command: str, *arguments: str) -> dict:
    """Run a command in a process; return its clocks, and its wall-clock seconds."""
    target = folder / f"{command}.json"
    words = [sys.executable, "-m", "benchmarks.clocks", str(target), command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    done = subprocess.run(
        [*words, *arguments], env=environment, capture_output=True, text=True
    )
    wall = time.perf_counter() - begin
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr[-3000:]}")
    return {**json.loads(target.read_text(encoding="utf-8")), "wall": wall}


def compiling(found: dict) -> dict[str, float]:
    """Seconds of tracing and XLA compilation in a run, by compiled function."""
    return {
        name: max(0.0, calls[0] - median(calls[1:]))
        for name, calls in found["calls"].items()
        if len(calls) > 1
    }


def parts_of(found: dict) -> dict[str, float]:
    """Seconds of the parts of a run; they add up to its wall clock."""
    seconds = dict(found["seconds"])
    for name, spent in compiling(found).items():
        # Validation predicts first, so it contains the compilation of inference.
        inside = name if seconds.get(name, 0.0) > spent else clocks.VALIDATION
        seconds[inside] -= spent
        seconds[COMPILING[name]] = spent
    seconds[OTHER] = found["wall"] - sum(seconds.values())
    return seconds


def rate_lines(kind: str, found: dict, call_name: str, alone: float) -> list[str]:
    """Rates of a run beside that of the network alone, in slots a second."""
    batch = found["batch"]
    slots = len(found["calls"][call_name]) * batch
    spent = sum(compiling(found).values())
    lines = []
    for what, seconds in (
        (f"target {TARGETS[kind]:.0%}", found["wall"] - spent),
        ("with compiling", found["wall"]),
    ):
        rate = slots / seconds
        share = rate * alone / batch
        present = rate * found["filled"]
        lines.append(
            f"| {kind} | {batch / alone:,.0f} | {rate:,.0f} | {present:,.0f} "
            f"| **{share:.0%}** | {what} |"
        )
    return lines


def part_lines(title: str, seconds: dict[str, float]) -> list[str]:
    """A table of parts, the longest first."""
    whole = sum(seconds.values())
    lines = ["", f"| {title} | s | share |", "|---|--:|--:|"]
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        if abs(spent) >= 0.0005 * whole:
            lines.append(f"| {name} | {spent:.1f} | {spent / whole:.1%} |")
    return [*lines, f"| all | {whole:.1f} | 100% |"]


def split_steps(found: dict, alone: dict[str, float]) -> dict[str, float]:
    """The parts of a training, its steps split as they are when measured alone."""
    seconds = parts_of(found)
    steps = seconds.pop(clocks.STEP)
    count = len(found["calls"][clocks.STEP])
    names = ("forward", "backward", "optimizer")
    split = {f"steps: {name}": count * alone[name] for name in names}
    rest = steps - sum(split.values())
    return {**seconds, **split, "steps: longer than alone": rest}


def alone_of(rounds: list[dict]) -> dict[str, float]:
    """Median seconds of each part of a step, and of inference, measured alone."""
    seconds = {
        name: fmean(median(one["seconds"][name]) for one in rounds)
        for name in rounds[0]["seconds"]
    }
    forward, gradients = seconds["forward"], seconds["gradients"]
    seconds["backward"] = gradients - forward
    seconds["optimizer"] = seconds["step"] - gradients
    return seconds


def roof_lines(path: Path, parameters: int, rounds: list[dict]) -> list[str]:
    """Time of each part of the network, and its roofline."""
    from vl3d_lite.model.cost import network_cost
    from vl3d_lite.spec.reader import read_spec

    spec = read_spec(path).spec
    stages = spec.model.stages
    forward = forward_work(
        network_cost(spec.model, FEATURES, len(spec.classes)),
        [stage.points for stage in stages],
        [stage.neighbors for stage in stages],
        spec.training.batch_size,
    )
    rates = {
        name: max(one["ceilings"][name] for one in rounds)
        for name in rounds[0]["ceilings"]
    }
    alone = alone_of(rounds)
    lines = [
        "",
        "| a batch | ms | Gflop | MB gathered | MB passed | roofline ms | roofs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, work in network_work(forward, parameters).items():
        floor = work.floor(rates)
        lines.append(
            f"| {name} | {1e3 * alone[name]:.1f} | {work.operations / 1e9:.2f} "
            f"| {work.gathered / 1e6:.0f} | {work.passed / 1e6:.0f} "
            f"| {1e3 * floor:.1f} | {alone[name] / floor:.1f} |"
        )
    lines += [
        "",
        f"Ceilings: {rates['product'] / 1e9:.0f} Gflop/s, {rates['gather'] / 1e9:.1f} "
        f"GB/s gathered and summed, {rates['copy'] / 1e9:.1f} GB/s copied, the best "
        "measured between the runs.",
    ]
    return lines


def with_slots(found: dict, batch: int, kind: str) -> dict:
    """The clocks of a run with its share of slots that hold a point."""
    beside = found["beside"][kind]
    filled = beside["present"] / beside["slots"]
    return {**found, "beside": beside, "batch": batch, "filled": filled}


def measure(path: Path, batch: int, arguments: argparse.Namespace) -> dict:
    """Time the network alone, a training, alone, a prediction, and alone again."""
    folder = path.parent
    threads = ["--threads", str(arguments.threads), "--quiet"]
    run, out = str(folder / "run"), folder / "out"
    note("compiling the network alone")
    bare = Bare(path, arguments.threads, arguments.rounds)
    note(f"compiled in {bare.facts['seconds']:.0f} s")
    try:
        rounds = [bare.measure()]
        note("training")
        training = call(folder, "train", str(path), "--run", run, *threads)
        rounds.append(bare.measure())
        clouds = [folder / f"scan_{number}.laz" for number in range(arguments.clouds)]
        for cloud in clouds:
            os.link(folder / "train.laz", cloud)
        note("predicting")
        names = [str(cloud) for cloud in clouds]
        prediction = call(
            folder, "predict", run, *names, "--output", str(out), *threads
        )
        rounds.append(bare.measure())
    finally:
        bare.close()
    return {
        "training": with_slots(training, batch, "TrainingBatches"),
        "prediction": with_slots(prediction, batch, "SweepBatches"),
        "rounds": rounds,
        "parameters": bare.facts["parameters"],
        "points": sum(outcome.points for outcome in read_outcomes(out)),
    }


def report(path: Path, found: dict, arguments: argparse.Namespace) -> list[str]:
    """The lines of the report on the result of `measure`."""
    training, prediction, rounds, parameters, points = found.values()
    before, after, alone = map(alone_of, (rounds[:2], rounds[1:], rounds))
    apart = 1e3 * (alone["step"] - alone["benchmark's step"])
    beside = training["beside"]
    cutting = 1e3 * beside["seconds"] / (beside["slots"] / training["batch"])
    return [
        f"Threads: {arguments.threads}. {len(training['calls'][clocks.STEP])} steps of "
        f"{training['batch']:,} slots, {training['filled']:.0%} of them with a point; "
        f"{arguments.epochs} validations. Prediction: {points:,} points of "
        f"{arguments.clouds} LAZ files, {prediction['filled']:.0%} of slots filled, "
        f"{points / prediction['wall']:,.0f} points of the files per second. "
        f"{parameters['run']:,} parameters; the benchmark's network has "
        f"{parameters['benchmark']:,}.",
        "",
        "| | network alone, slots/s | whole run, slots/s | present points/s "
        "| share | |",
        "|---|--:|--:|--:|--:|---|",
        *rate_lines("training", training, clocks.STEP, before["benchmark's step"]),
        *rate_lines(
            "prediction", prediction, clocks.NETWORK, after["benchmark's inference"]
        ),
        "",
        f"A step of the run's network, alone, takes {apart:+.1f} ms compared with the "
        "benchmark: it clips gradients, weights classes and has a schedule. The thread "
        f"that extracts fields during the steps takes {cutting:.1f} ms per batch.",
        *part_lines("training", split_steps(training, before)),
        *part_lines("prediction", parts_of(prediction)),
        *roof_lines(path, parameters["run"], rounds),
    ]


def note(text: str) -> None:
    """Print the progress of the benchmark."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=250, help="Of an epoch.")
    parser.add_argument("--tiles", type=int, default=4, help="Of the town, in a cloud.")
    parser.add_argument("--clouds", type=int, default=12, help="To predict.")
    parser.add_argument("--rounds", type=int, default=12, help="Of the network alone.")
    parser.add_argument("--quick", action="store_true", help="A small network.")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        small = {"epochs": 2, "steps": 5, "tiles": 1, "clouds": 1, "rounds": 2}
        vars(arguments).update(small)
    stages = QUICK if arguments.quick else STAGES
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = make_spec(Path(folder), stages, arguments)
        found = measure(path, BATCH * stages[0][0], arguments)
        lines = report(path, found, arguments)
    lines += ["", f"The run took {time.perf_counter() - begin:.0f} s."]
    command = f"python -m benchmarks.bench_run --threads {arguments.threads}"
    publish("A whole run", command, lines, arguments.store)


if __name__ == "__main__":
    main()
