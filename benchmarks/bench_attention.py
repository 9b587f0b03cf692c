"""Gain of GVA, its envelope, global attention and symmetry on real scans.

Run from the project root with the folder of the scans (results.md names them); each
network takes about eight minutes of one core per task::

    python -m benchmarks.bench_attention $D --runs /tmp/attention
    python -m benchmarks.bench_attention $D --runs /tmp/attention \
        --tasks dense --networks plain gva --seeds 8
    python -m benchmarks.bench_attention $D --runs /tmp/attention \
        --table --store benchmarks/results/attention.md

All networks train for as many seconds of steps: the seconds of a step are measured
first (`plan --measure`), and the number of steps follows, so that compilation and
validation do not count. Otherwise the specs of a task are the same. The best epoch on
the validation clouds is kept. Networks that are already measured are skipped.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean

from benchmarks.timing import wrapped

EPOCHS, BATCH = 6, 4
STAGES = ((4096, 32, 1), (1536, 64, 1), (448, 128, 2), (128, 192, 1))
TASKS = {
    "dense": (
        "configs/dense_als.yaml",
        ["train_ign_montpellier_?.laz"],
        "val_ign_montpellier_e.laz",
        "test_ign_montpellier_f.laz",
    ),
    "tropical": (
        "configs/tropical_als.yaml",
        ["train_stbarth_x000_050.laz"],
        "val_stbarth_x050_070.laz",
        "test_stbarth_x070_100.laz",
    ),
}


def stages(with_gva: bool = True, last: str = "") -> str:
    """The stages of the shipped specs, with other blocks."""
    rows = []
    for points, channels, repeats in STAGES:
        blocks = ["kpconvx"] * repeats + ["gva"] * with_gva
        if last and channels == STAGES[-1][1]:
            blocks.append(last)
        blocks = ", ".join(blocks)
        rows.append(f"{{points: {points}, channels: {channels}, blocks: [{blocks}]}}")
    return f"model.stages=[{', '.join(rows)}]"


GQA = "{head_dim: 24, num_query_heads: 8, num_key_value_heads: 2}"
DECODER = (
    "{type: equivariant_transformer, group: C4, multiplicity: 32, heads: 4, "
    "dim_feedforward: 256}"
)
NETWORKS = {
    "plain": ("KPConvX", [stages(with_gva=False)]),
    "gva": ("+ GVA", [stages()]),
    "envelope": ("+ GVA with envelope", [stages(), "model.gva.softmax=envelope"]),
    "gqa": (
        "+ GVA, GQA",
        [stages(last="gqa"), f"model.gqa={GQA}"],
    ),
    "decoder": ("+ GVA, equivariant decoder", [stages(), f"model.decoder={DECODER}"]),
    "symmetry": ("+ GVA, symmetry C4", [stages(), "model.symmetry=C4"]),
}
HEAD = [
    "# What attention and symmetry are worth on real scans",
    "",
    "One core of 2 shared ones, 24 GiB, no GPU. IoU on every point of the test files; "
    "*val.* (validation) and *test* are the mean of the three classes, *val.* on cells "
    "with one vote, at the best epoch. All networks of a task trained for as many "
    "seconds of steps. Points/s: as `plan` measures them, batches included. "
    "Predict s: seconds of prediction. GQA: grouped-query attention.",
    "",
    "    python -m benchmarks.bench_attention $D --runs /tmp/attention",
    "",
]
PROBE = """
import sys
from vl3d_lite.guide.plan.measure import measure
from vl3d_lite.spec.reader import read_spec
print("RESULT", measure(read_spec(sys.argv[1], sys.argv[2:]), 1000, 1).step)
"""


def settings(task: str, network: str, seed: int, folder: str) -> tuple[str, list[str]]:
    """The spec of a task and the changed values."""
    spec, training, validation, test = TASKS[task]
    names = ", ".join(f"'{folder}/{name}'" for name in training)
    return spec, [
        f"seed={seed}",
        f"clouds.train=[{names}]",
        f"clouds.validation=['{folder}/{validation}']",
        f"clouds.predict=['{folder}/{test}']",
        "training.jit=on",
        "export.plots=false",
        *NETWORKS[network][1],
    ]


def call(*arguments: str) -> str:
    """The output of a process of one thread."""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}\n{done.stderr[-3000:]}")
    return done.stdout


def seconds_of_step(spec: str, sets: list[str], store: Path) -> float:
    """Seconds of a training step of a network, measured once and stored."""
    if not store.is_file():
        step = call("-c", PROBE, spec, *sets).rpartition("RESULT ")[2]
        store.write_text(step, encoding="ascii")
    return float(store.read_text(encoding="ascii"))


def measure(runs: Path, folder: str, task: str, network: str, seed: int, minutes):
    """Train and predict, unless the result exists."""
    target = runs / f"{task}-{network}-{seed}"
    if (target / "metrics.json").is_file():
        return
    spec, sets = settings(task, network, seed, folder)
    step = seconds_of_step(spec, sets, runs / f"step-{network}.txt")
    steps = round(minutes * 60 / step / EPOCHS)
    sets += [f"training.epochs={EPOCHS}", f"training.steps_per_epoch={steps}"]
    print(f"{target.name}: {step:.3f} s a step", file=sys.stderr, flush=True)
    run_spec(spec, sets, target)


def run_spec(spec: str, sets: list[str], run: Path) -> None:
    """Train and predict on one thread."""
    overrides = [word for one in sets for word in ("--set", one)]
    options = ["--run", str(run), "--threads", "1", "--quiet"]
    call("-m", "vl3d_lite", "run", spec, *options, *overrides)


def found(run: Path) -> dict:
    """The figures of a run."""
    from vl3d_lite.prediction.outcomes import read_outcomes

    provenance = json.loads((run / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    history = (run / "history.csv").read_text(encoding="utf-8").splitlines()
    header, *lines = (line.split(",") for line in history)
    table = zip(header, *lines, strict=True)
    column = {name: [float(value) for value in values] for name, *values in table}
    classes = ("ground", "vegetation", "building")
    pooled = metrics["pooled"]["per_class"]
    epochs = zip(*(column[f"val_iou_{name}"] for name in classes), strict=True)
    ious = [pooled[name]["iou"] for name in classes]
    return {
        "validation": max(map(mean, epochs)),
        "mean": mean(ious),
        "ious": ious,
        "parameters": provenance["parameters"],
        "prediction": sum(one.seconds for one in read_outcomes(run / "predictions")),
    }


def table(runs: Path, task: str) -> list[str]:
    """Markdown of a task: a row for each network and seed that was measured."""
    head = "network | seed | val. | test | ground | veg. | build."
    head += " | parameters | points/s | predict s"
    lines = [f"## {task.capitalize()}", "", f"| {head} |", f"|---|{'--:|' * 9}"]
    for network, (title, _) in NETWORKS.items():
        for run in sorted(runs.glob(f"{task}-{network}-*")):
            if not (run / "metrics.json").is_file():
                continue
            row = found(run)
            cells = [title, run.name.rpartition("-")[2]]
            scores = (row["validation"], row["mean"], *row["ious"])
            cells += [f"{score:.3f}" for score in scores]
            step = seconds_of_step("", [], runs / f"step-{network}.txt")
            cells += [f"{row['parameters']:,}", f"{BATCH * STAGES[0][0] / step:,.0f}"]
            lines.append(f"| {' | '.join(cells)} | {row['prediction']:.0f} |")
    return [*lines, ""]


def store_report(text: str, store: Path | None) -> None:
    """Print a report and, if asked, store it."""
    text = wrapped(text)
    sys.stdout.write(text)
    if store:
        store.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="Of the scans.")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--networks", nargs="*", choices=NETWORKS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[7])
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--table", action="store_true", help="Of what is there.")
    parser.add_argument("--store", type=Path)
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if not options.table:
        for task in options.tasks:
            for network in options.networks or NETWORKS:
                for seed in options.seeds:
                    names = (task, network, seed, options.minutes)
                    measure(options.runs, options.folder, *names)
    lines = [line for task in options.tasks for line in table(options.runs, task)]
    text = "\n".join([*HEAD, *lines])
    store_report(text, options.store)


if __name__ == "__main__":
    main()
