"""Estimates of `plan` compared with runs: peak RAM and training time of five specs.

Run from the project root (about twenty minutes on an idle core)::

    taskset -c 0 nice -n 5 python -m benchmarks.bench_plan
    python -m benchmarks.bench_plan --only tiny --store benchmarks/results/plan.md

For each spec ``vl3d-lite plan --measure`` and then ``vl3d-lite run`` use one core,
each in a process of its own. Peak RAM is the high water mark of the process (VmHWM);
training time is that of ``run.json``, with compilation, validation and the export of
kernels. The clouds are those of ``data/``.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import wrapped
from vl3d_lite.system.resources import cpu_limit

QUICK, DENSE = "configs/quickstart.yaml", "configs/dense_als.yaml"
TOWN = [
    f"clouds.{group}=[data/town_{name}.laz]"
    for group, name in (("train", "train"), ("validation", "val"), ("predict", "test"))
]
SHORT = ["training.epochs=2", "export.plots=false"]
WIDE = [
    "{points: 2048, channels: 64, neighbors: 24, blocks: [kpconvx, gva]}",
    "{points: 512, channels: 96, blocks: [gva]}",
]
SPECS = {
    "tiny": (
        QUICK,
        [
            "model.stages=[{points: 512, channels: 16, blocks: [kpconvx]}, "
            "{points: 160, channels: 32, blocks: [gva]}]",
            "training.steps_per_epoch=30",
            "training.jit=off",
        ],
    ),
    "quickstart, no XLA": (QUICK, ["training.steps_per_epoch=12", "training.jit=off"]),
    "quickstart, XLA": (QUICK, ["training.steps_per_epoch=40", "training.jit=on"]),
    "wide, batches of 8": (
        QUICK,
        [
            f"model.stages=[{', '.join(WIDE)}]",
            "training.batch_size=8",
            "training.steps_per_epoch=6",
            "training.jit=off",
        ],
    ),
    "dense_als on the town": (
        DENSE,
        [*TOWN, "training.steps_per_epoch=10", "training.jit=off"],
    ),
}
GOALS = {"memory": 0.25, "time": 0.30}
# Prints the estimate and, at its end, the peak memory of the process.
CODE = """
import json, re, sys
from pathlib import Path
from vl3d_lite.cli.app import app
verb, *rest = sys.argv[1:]
if verb == "plan":
    from vl3d_lite.guide.plan.plan import plan_run
    from vl3d_lite.spec.reader import read_spec
    found = plan_run(read_spec(rest[0], rest[1:]), threads=1, measure=True)
    result = {
        "memory": found.memory.host,
        "time": found.timing.training,
        "preparation": found.timing.preparation,
        "prediction": found.timing.prediction,
    }
else:
    app([verb, *rest], standalone_mode=False)
    status = Path("/proc/self/status").read_text()
    result = {"memory": int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024}
print("RESULT " + json.dumps(result))
"""


def call(*arguments: str) -> dict:
    """The output of the code above in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    if result.returncode:
        sys.exit(result.stderr[-2000:])
    return json.loads(result.stdout.rpartition("RESULT ")[2])


def measure(path: str, sets: list[str], folder: Path) -> dict:
    """Estimated and measured values."""
    sets = [*SHORT, *sets]
    foretold = call("plan", path, *sets)
    overrides = [word for one in sets for word in ("--set", one)]
    options = ["--run", str(folder / "run"), "--threads", "1", "--quiet"]
    happened = call("run", path, *options, *overrides)
    provenance = json.loads((folder / "run/run.json").read_text())
    return {
        "memory": (foretold["memory"], happened["memory"]),
        "time": (foretold["time"], provenance["seconds_of_training"]),
        "preparation": (foretold["preparation"], provenance["seconds_of_preparation"]),
    }


def row(name: str, found: dict) -> str:
    cells = [name]
    for key, (foretold, happened) in found.items():
        unit = 2**20 if key == "memory" else 1
        error = foretold / happened - 1
        cells += [f"{foretold / unit:.0f}", f"{happened / unit:.0f}", f"{error:+.0%}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--only", nargs="*", choices=SPECS, default=list(SPECS))
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity") and cpu_limit() > 1:
        os.sched_setaffinity(0, {0})
    rows = []
    for name in options.only:
        with tempfile.TemporaryDirectory() as place:
            rows.append(row(name, measure(*SPECS[name], Path(place))))
        print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        "# What `plan` foretells",
        "",
        f"{datetime.date.today()}, one core of 2 shared ones, 24 GiB, no GPU. Peak "
        "RAM of `run` in MiB; seconds of training and of preparation, foretold by "
        f"`--measure`. Goals: {GOALS['memory']:.0%} of RAM, {GOALS['time']:.0%} of "
        "training time. Every estimate stands before the measurement (is).",
        "",
        "    taskset -c 0 nice -n 5 python -m benchmarks.bench_plan",
        "",
        "| spec | RAM | is | error | training | is | error "
        "| preparation | is | error |",
        f"|---|{'--:|' * 9}",
        *rows,
        "",
    ]
    text = wrapped("\n".join(lines))
    sys.stdout.write(text)
    if options.store:
        options.store.write_text(text)


if __name__ == "__main__":
    main()
