"""Clouds in a queue: what is written and recorded after signals and errors."""

import gc
import os
import signal
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vl3d_lite.errors import DataError, InterruptedRunError, ResourceError
from vl3d_lite.pipeline import cloud_queue
from vl3d_lite.prediction import classifier as classify
from vl3d_lite.prediction import inference
from vl3d_lite.prediction.votes import CellPrediction, predict_cells
from vl3d_lite.system.background import prefetch
from vl3d_lite.system.interrupts import Interrupts


class Vote:
    pass


class Fake:
    """A classifier and its outputs, without network or files."""

    def __init__(self, interrupts, names, threads=2):
        self.interrupts = interrupts
        self.spec = SimpleNamespace(prediction=SimpleNamespace(grids=1))
        self.options = SimpleNamespace(threads=threads)
        self.remaining = names
        self.targets = {name: name for name in names}
        self.recorded = []
        self.votes = {}
        self.in_vote = self.in_write = lambda name: None

    def record(self, outcome):
        self.recorded.append(outcome)

    def sweep(self, path, grid, cloud=None):
        return path

    def vote(self, path, sweep):
        sweep(path, 0)
        vote = Vote()
        self.in_vote(path)
        self.votes[path] = weakref.ref(vote)
        return vote

    def write(self, path, target, vote):
        self.in_write(path)
        return path

    def run(self):
        return cloud_queue.CloudQueue(self, self).predict()


@pytest.fixture(autouse=True)
def everything_fits(monkeypatch):
    monkeypatch.setattr(cloud_queue, "fits_beside", lambda *_: True)


@pytest.fixture
def interrupts():
    with Interrupts() as caught:
        yield caught


def send():
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)


@pytest.mark.parametrize("threads", [1, 2])
def test_votes_of_a_written_cloud_are_freed(interrupts, threads):
    fake = Fake(interrupts, ["a", "b"], threads)
    alive = []

    def in_vote(name):
        if name == "b":
            time.sleep(0.2)
            gc.collect()
            alive.append(fake.votes["a"]() is not None)

    fake.in_vote = in_vote
    fake.run()
    assert alive == [False]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cloud_is_recorded_as_soon_as_it_is_written(interrupts, threads):
    fake = Fake(interrupts, ["a", "b"], threads)
    seen = []

    def in_vote(name):
        if name == "b":
            time.sleep(0.2)
            seen.extend(fake.recorded)

    fake.in_vote = in_vote
    fake.run()
    assert seen == ["a"]
    assert fake.recorded == ["a", "b"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_while_the_last_cloud_is_written_is_not_lost(interrupts, threads):
    fake = Fake(interrupts, ["a"], threads)
    fake.in_write = lambda name: send()
    with pytest.raises(InterruptedRunError, match="--resume"):
        fake.run()
    assert fake.recorded == ["a"]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_second_signal_while_writing_stops(interrupts, threads):
    fake = Fake(interrupts, ["a", "b", "c"], threads)
    begun, written = [], []

    def in_write(name):
        begun.append(name)
        if name == "a":
            send()
            send()
        written.append(name)

    fake.in_write = in_write
    with pytest.raises(InterruptedRunError, match="twice"):
        fake.run()
    assert fake.recorded == written  # what is whole on disk is noted
    assert "c" not in begun


def test_after_a_signal_a_cloud_is_written_without_waiting_for_the_next(interrupts):
    fake = Fake(interrupts, ["a", "b"])
    written = []

    def in_vote(name):
        interrupts.received = signal.SIGTERM

    fake.in_vote = in_vote
    fake.in_write = lambda name: written.append(threading.current_thread())
    with pytest.raises(InterruptedRunError):
        fake.run()
    assert written == [threading.main_thread()]


def test_an_error_before_a_signal_is_logged(interrupts, caplog):
    fake = Fake(interrupts, ["a", "b"])

    def in_write(name):
        raise DataError("the disk is full")

    def in_vote(name):
        if name == "b":
            interrupts.received = signal.SIGTERM
            interrupts.check("interrupted")

    fake.in_vote, fake.in_write = in_vote, in_write
    with pytest.raises(InterruptedRunError):
        fake.run()
    assert caplog.text.count("the disk is full") == 1


@pytest.mark.parametrize(("threads", "fits"), [(1, True), (2, False)])
def test_a_cloud_that_does_not_fit_beside_another_is_read_alone(
    interrupts, monkeypatch, threads, fits
):
    monkeypatch.setattr(cloud_queue, "fits_beside", lambda *_: fits)
    fake = Fake(interrupts, ["a", "b", "c"], threads)
    busy, seen = threading.Event(), []

    def working(name):
        busy.set()
        time.sleep(0.05)
        busy.clear()

    def sweep(path, grid, cloud=None):
        time.sleep(0.02)
        seen.append((busy.is_set(), threading.current_thread().name))

    fake.sweep, fake.in_vote, fake.in_write = sweep, working, working
    fake.run()
    assert seen == [(False, "MainThread")] * 3


@pytest.mark.parametrize("at_once", [1, 2])
def test_threads_end_when_voting_stops(at_once):
    class Network:
        output_shape = (None, 1, 2)

        def predict_on_batch(self, inputs):
            return np.zeros((1, 1, 2))

    class Batches:
        def __len__(self):
            return 50

        def __iter__(self):
            return prefetch(lambda number: (number, np.array([[0]])), range(50), 2)

    class Third:
        calls = 0

        def check(self, message):
            self.calls += 1
            if self.calls == 3:
                raise InterruptedRunError(message, 130)

    with pytest.raises(InterruptedRunError) as kept:
        predict_cells(
            Network(),
            Batches(),
            np.zeros((1, 3)),
            at_once=at_once,
            interrupts=Third(),
        )
    assert kept.traceback  # it holds what the call held
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("prefetch") for name in names)


def test_each_record_names_how_its_own_cloud_was_compiled(monkeypatch):
    begun = threading.Event()

    class Network:
        xla = False

        def batches_at_once(self, threads):
            return 1

        def view(self, n_batches):
            self.xla = n_batches > 1
            if not self.xla:
                begun.set()

    class Sweep:
        def __init__(self, path):
            self.length = 3 if path.name == "large" else 1
            cloud = SimpleNamespace(
                xyz=np.zeros((1, 3)),
                point_labels=np.array([-1]),
                cell_of_point=np.array([0]),
            )
            self.source = SimpleNamespace(prepared=cloud)

        def __len__(self):
            return self.length

    class Classifier(classify.Classifier):
        def sweep(self, path, grid, cloud=None):
            return Sweep(path)

    prediction = CellPrediction(np.ones((1, 1), np.float32), np.ones(1, bool))
    for name, replacement in {
        "predict_cells": lambda *_, **__: prediction,
        "write_prediction": lambda *_, **__: begun.wait(5),
        "class_column": lambda _: "prediction",
    }.items():
        monkeypatch.setattr(classify, name, replacement)
    monkeypatch.setattr(classify.provenance, "file_hash", lambda _: "")
    settings = SimpleNamespace(
        grids=1, votes=1, keep_codes=(), min_confidence=None, model_dump=lambda **_: {}
    )
    paths, done = [Path("large"), Path("small")], []
    outputs = SimpleNamespace(
        remaining=paths, targets={path: path for path in paths}, record=done.append
    )
    with Interrupts() as interrupts:
        classifier = Classifier(
            Network(),
            SimpleNamespace(prediction=settings),
            None,
            classify.Options(threads=2, quiet=True),
            interrupts,
        )
        cloud_queue.CloudQueue(classifier, outputs).predict()
    assert [outcome.xla for outcome in done] == [True, False]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_is_that_of_the_first_cloud(interrupts, threads):
    fake = Fake(interrupts, ["a", "b"], threads)

    def in_write(name):
        time.sleep(0.05)
        raise ResourceError("a: the disk is full")

    def in_vote(name):
        if name == "b":
            raise DataError("b: is damaged")

    fake.in_vote, fake.in_write = in_vote, in_write
    assert [str(error)[0] for error in fake.run()] == ["a", "b"]


def test_the_arrays_of_a_failed_cloud_are_freed(interrupts):
    fake = Fake(interrupts, ["a", "b"])
    held, alive = [], []

    def in_vote(name):
        if name == "a":
            arrays = Vote()
            held.append(weakref.ref(arrays))
            try:
                raise MemoryError(arrays)
            except MemoryError as error:
                error.args = ()
                raise ResourceError("a: no room") from error
        gc.collect()
        alive.append(held[0]() is not None)

    fake.in_vote = in_vote
    assert len(fake.run()) == 1
    assert alive == [False]


def test_only_what_xla_compiled_predicts_two_batches_at_once(monkeypatch):
    monkeypatch.setattr(inference, "uses_accelerator", lambda: False)
    network = inference.Inference(None, None)
    assert [network.batches_at_once(threads) for threads in (1, 2)] == [1, 1]
    network.xla = True
    assert [network.batches_at_once(threads) for threads in (1, 2)] == [1, 2]
    monkeypatch.setattr(inference, "uses_accelerator", lambda: True)
    assert network.batches_at_once(2) == 1
