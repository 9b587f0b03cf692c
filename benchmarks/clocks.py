"""Run a verb of the command line and write down where its time went.

    python -m benchmarks.clocks CLOCKS.json train spec.yaml --run runs/one

The verb is the product's own; some of its functions are timed, at a cost of about a
microsecond a call. A clock runs in the main thread alone, and only the innermost one:
the parts of a run add up to it. What background threads do beside is told apart, in
seconds of their processor.
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
# Part of a run: what it does, as `module:name` or `module:class.name`.
PARTS = {
    "checking the clouds": ["pipeline:check_clouds"],
    "reading": ["inputs:read_file"],
    "grid": ["prepare:_reduce"],
    "features": ["prepare:compute_features"],
    "neighborhoods": ["prepare:build_hierarchy"],
    "laying out fields": ["dataset:SweepBatches.__init__"],
    "building the network": ["pipeline:build_network", "pipeline:load_network"],
    "exporting kernels": ["pipeline:export_model_kernels"],
    "calibration": ["pipeline:calibrate", "predict:CellPrediction.calibrated"],
    "voting": [
        "predict:Votes.add",
        "predict:Votes.result",
        "predict:softmax",
        "classify:mean_over_grids",
    ],
    "writing": [
        "train:save_variables",
        "train:write_text",
        "pipeline:save_model",
        "pipeline:_begin_run",
        "classify:write_prediction",
        "pipeline:write_color_files",
        "receipt:file_hash",
        "receipt:array_hash",
    ],
}
# Counted as one, whatever they call.
WHOLE = {VALIDATION, "calibration", "exporting kernels"}


class Clocks:
    """Seconds of named parts, none of them counted twice.

    Attributes:
        seconds: Of each part, those of its inner parts left out.
        calls: The seconds of every call of the parts that were asked for.
        beside: Of each kind of batches, processor seconds of the threads that made
            them, and slots they have, in all and with a point.
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
        """Count seconds that have just passed."""
        self._count(name, seconds)
        if self._open:
            self._open[-1][1] += seconds

    def add_beside(self, kind: str, **amounts: float) -> None:
        """Count what a background thread did."""
        with self._lock:
            for name, amount in amounts.items():
                self.beside[kind][name] += amount

    def _count(self, name, seconds):
        whole = [part for part, _ in self._open if part in WHOLE]
        self.seconds[whole[0] if whole else name] += seconds


def place(name: str) -> tuple[object, str]:
    """Where a function of the product lies: what holds it, and its name there."""
    module, _, path = name.partition(":")
    holder = importlib.import_module(f"vl3d_lite.{module}")
    *classes, last = path.split(".")
    for part in classes:
        holder = getattr(holder, part)
    return holder, last


def attach(clocks: Clocks) -> None:
    """Put clocks on the functions of the product. There is no way back."""
    import keras

    from vl3d_lite import pipeline
    from vl3d_lite.dataset import batches as dataset
    from vl3d_lite.prediction import votes as predict

    for part, names in PARTS.items():
        for name in names:
            holder, attribute = place(name)
            timed = clocks.timed(part, getattr(holder, attribute))
            setattr(holder, attribute, timed)
    for part, name in ((STEP, "train_on_batch"), (NETWORK, "predict_on_batch")):
        method = clocks.timed(part, getattr(keras.Model, name), listed=True)
        setattr(keras.Model, name, method)
    predict.ahead = functools.partial(
        predict.ahead, waited=functools.partial(clocks.add, NETWORK)
    )
    make = pipeline._validator

    def validator(*arguments):
        return clocks.timed(VALIDATION, make(*arguments))

    pipeline._validator = validator
    for batches in (dataset.TrainingBatches, dataset.SweepBatches):
        attach_to_batches(clocks, batches)


def attach_to_batches(clocks: Clocks, batches: type) -> None:
    """Count the waiting for batches, and what the threads that make them do."""
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
    began = time.perf_counter()
    target, sys.argv[1:] = Path(sys.argv[1]), sys.argv[2:]
    from vl3d_lite.cli import app as cli

    clocks = Clocks()
    clocks.timed(
        "importing", lambda: importlib.import_module("vl3d_lite.pipeline.train")
    )()
    attach(clocks)
    try:
        cli.main()
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
