"""Clouds in a queue: what is written and recorded after signals and errors."""

import gc
import os
import signal
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from tests.pipeline.commands import OPTIONS, copies, predicted
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, InterruptedRunError, ResourceError
from vl3d_lite.pipeline import cloud_queue
from vl3d_lite.prediction import classifier as classify
from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.runs.options import Options
from vl3d_lite.system.interrupts import Interrupts

pytestmark = pytest.mark.usefixtures("nothing_twice")


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

    def announce(self, outcome):
        raise AssertionError("the classifier announces")

    def write(self, path, target, vote, announce):
        assert announce == self.announce
        self.in_write(path)
        return path

    def run(self):
        return cloud_queue.CloudQueue(self, self).predict()


@pytest.fixture
def everything_fits(monkeypatch):
    monkeypatch.setattr(cloud_queue, "fits_beside", lambda *_: True)


@pytest.fixture
def interrupts(everything_fits, handed_on):
    with Interrupts() as caught:
        yield caught


def send():
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("beside", [True, False])
def test_clouds_prepared_beside_the_network_are_predicted_alike(
    trained, place, tmp_path, monkeypatch, beside
):
    clouds = copies(place, tmp_path, "a.laz", "broken.laz", "c.laz")
    clouds[1].write_bytes(b"LASF no cloud")
    asked = []

    def fits(path, spec):
        asked.append(path.name)
        return beside

    monkeypatch.setattr(cloud_queue, "fits_beside", fits)
    with pytest.raises(DataError, match="1 of 3 clouds"):
        pipeline.predict(
            trained, clouds, tmp_path / "out", OPTIONS, ["prediction.grids=2"]
        )
    # One question for each grid but the first; the broken cloud fails at its first.
    assert asked == ["a.laz", "broken.laz", "c.laz"]
    first, last = (predicted(tmp_path / "out", name) for name in ("a.laz", "c.laz"))
    np.testing.assert_array_equal(first.confidence, last.confidence)
    once = Options(threads=2, quiet=True, overwrite=True)
    pipeline.predict(
        trained, clouds[:1], tmp_path / "once", once, ["prediction.grids=2"]
    )
    alone = predicted(tmp_path / "once", "a.laz")
    np.testing.assert_array_equal(first.confidence, alone.confidence)
    assert {o.output for o in read_outcomes(tmp_path / "out")} == {"a.laz", "c.laz"}


@pytest.mark.slow
def test_a_cloud_that_cannot_be_written_does_not_stop_the_others(
    trained, place, tmp_path, monkeypatch
):
    clouds = copies(place, tmp_path, "a.laz", "b.laz", "c.laz")
    write = classify.write_prediction

    def full(source, *arguments, **keywords):
        if source.name == "b.laz":
            raise ResourceError("b.laz: no space left")
        write(source, *arguments, **keywords)

    monkeypatch.setattr(classify, "write_prediction", full)
    with pytest.raises(ResourceError, match=r"1 of 3 clouds.*no space left"):
        pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    assert {o.output for o in read_outcomes(tmp_path / "out")} == {"a.laz", "c.laz"}


@pytest.mark.slow
def test_a_cloud_predicted_before_a_signal_is_written_and_noted(
    trained, place, tmp_path, monkeypatch, handed_on
):
    clouds = copies(place, tmp_path, "a.laz", "b.laz", "c.laz")
    predict_cells = classify.predict_cells

    def signalled(*arguments, description, **keywords):
        if "b.laz" in description:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict_cells(*arguments, description=description, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(classify, "predict_cells", signalled)
        with pytest.raises(InterruptedRunError) as stop:
            pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    assert stop.value.exit_code == 143
    assert [o.output for o in read_outcomes(tmp_path / "out")] == ["a.laz"]
    resumed = Options(threads=2, quiet=True, resume=True)
    pipeline.predict(trained, clouds, tmp_path / "out", resumed)
    assert len(read_outcomes(tmp_path / "out")) == 3
