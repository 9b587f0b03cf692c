"""Run a command of the program and measure the time of its parts.

    python -m benchmarks.clocks CLOCKS.json train spec.yaml --run runs/one

The command is unchanged; some of its functions are timed, at a cost of about a
microsecond per call. Clocks run in the main thread only, and only the innermost one
runs, so that the parts add up to the whole. The work of background threads is counted
separately, in seconds of processor time.
"""

import functools
import importlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

STEP, NETWORK = "steps", "network"
WAITING, VALIDATION = "waiting for batches", "validation"
# The functions of each part of a run, as `module:name` or `module:class.name`, where
# they are called: a name that another module imported has to be replaced there.
PARTS = {
    "checking the clouds": ["pipeline.preparing:check_clouds"],
    "reading": ["dataset.files:read_cloud"],
    "grid": ["dataset.prepared:_reduce"],
    "features": ["dataset.prepared:compute_features"],
    "neighborhoods": ["dataset.prepared:build_hierarchy"],
    "laying out fields": ["dataset.batches:SweepBatches.__init__"],
    "building the network": [
        "pipeline.building:build_network",
        "pipeline.predict:load_network",
    ],
    "exporting kernels": ["pipeline.export:export_model_kernels"],
    "calibration": [
        "pipeline.train:calibrate",
        "prediction.votes:CellPrediction.calibrated",
    ],
    "voting": [
        "prediction.votes:Votes.add",
        "prediction.votes:Votes.result",
        "prediction.votes:softmax",
        "prediction.classifier:mean_over_grids",
    ],
    "writing": [
        "training.loop:save_variables",
        "training.checkpoints:save_variables",
        "training.loop:write_history",
        "pipeline.publishing:save_model",
        "pipeline.train:begin_run",
        "prediction.classifier:write_prediction",
        "pipeline.predict:write_color_files",
        "runs.provenance:file_hash",
        "runs.provenance:array_hash",
    ],
}
# These parts include the parts that they call.
WHOLE = {VALIDATION, "calibration", "exporting kernels"}


class Clocks:
    """Seconds of named parts; no second is counted twice.

    Attributes:
        seconds: Seconds of each part, without its inner parts.
        calls: Seconds of every call, of the parts that are `listed`.
        beside: For each kind of batches, processor seconds of the threads that made
            them, and the number of slots and of slots with a point.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.beside: dict[str, dict] = defaultdict(lambda: defaultdict(float))
        self._now = now
        self._open: list[list] = []  # name and seconds of the parts inside
        self._lock = threading.Lock()

    def timed(self, name: str, function: Callable, *, listed: bool = False) -> Callable:
        """The function with a clock; `listed` keeps the seconds of every call."""

        @functools.wraps(function)
        def call(*arguments, **keywords):
            begin = self._now()
            if threading.current_thread() is not threading.main_thread():
                result = function(*arguments, **keywords)
                if listed:
                    self.calls[name].append(self._now() - begin)
                return result
            self._open.append([name, 0.0])
            try:
                return function(*arguments, **keywords)
            finally:
                spent = self._now() - begin
                inside = self._open.pop()[1]
                if listed:
                    self.calls[name].append(spent)
                self._count(name, spent - inside)
                if self._open:
                    self._open[-1][1] += spent

        return call

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that have just passed, and subtract them from outer parts."""
        self._count(name, seconds)
        if self._open:
            self._open[-1][1] += seconds

    def add_beside(self, kind: str, **amounts: float) -> None:
        """Count the work of a background thread."""
        with self._lock:
            for name, amount in amounts.items():
                self.beside[kind][name] += amount

    def _count(self, name, seconds):
        whole = [part for part, _ in self._open if part in WHOLE]
        self.seconds[whole[0] if whole else name] += seconds


def locate(name: str) -> tuple[object, str]:
    """The module or class that contains a function of `PARTS`, and its name there."""
    module, _, path = name.partition(":")
    holder: object = importlib.import_module(f"vl3d_lite.{module}")
    *classes, last = path.split(".")
    for part in classes:
        holder = getattr(holder, part)
    return holder, last


def attach(clocks: Clocks) -> None:
    """Put clocks on the functions of the program, for the rest of the process."""
    import keras

    from vl3d_lite.dataset import batches
    from vl3d_lite.prediction import votes

    for part, names in PARTS.items():
        for name in names:
            holder, attribute = locate(name)
            timed = clocks.timed(part, getattr(holder, attribute))
            setattr(holder, attribute, timed)
    for part, name in ((STEP, "train_on_batch"), (NETWORK, "predict_on_batch")):
        method = clocks.timed(part, getattr(keras.Model, name), listed=True)
        setattr(keras.Model, name, method)
    votes.prefetch = functools.partial(
        votes.prefetch, waited=functools.partial(clocks.add, NETWORK)
    )
    # The function `pipeline.train` hides the module of the same name.
    train = sys.modules["vl3d_lite.pipeline.train"]
    make = train.make_validator

    def make_validator(*arguments):
        validate = make(*arguments)
        return validate and clocks.timed(VALIDATION, validate)

    train.make_validator = make_validator
    for kind in (batches.TrainingBatches, batches.SweepBatches):
        attach_to_batches(clocks, kind)


def attach_to_batches(clocks: Clocks, batches: type) -> None:
    """Count the waits for batches, and the work of the threads that make them."""
    wait, cut = batches._waited, batches._batch

    def waited(self, seconds):
        clocks.add(WAITING, seconds)
        wait(self, seconds)

    def batch(self, *arguments):
        begin = time.thread_time()
        made = cut(self, *arguments)
        rows = made[0]["neighbors_0"][..., 0]
        clocks.add_beside(
            batches.__name__,
            seconds=time.thread_time() - begin,
            present=int((rows >= 0).sum()),
            slots=rows.size,
        )
        return made

    batches._waited, batches._batch = waited, batch


def main() -> None:
    """Run the command and write the seconds to the file."""
    began = time.perf_counter()
    target, sys.argv[1:] = Path(sys.argv[1]), sys.argv[2:]
    from vl3d_lite.cli.app import main as run_command

    clocks = Clocks()
    clocks.timed(
        "importing", lambda: importlib.import_module("vl3d_lite.pipeline.train")
    )()
    attach(clocks)
    try:
        run_command()
    finally:
        found = {
            "total": time.perf_counter() - began,
            "seconds": clocks.seconds,
            "calls": clocks.calls,
            "beside": clocks.beside,
        }
        target.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
