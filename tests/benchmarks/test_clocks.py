import json
import threading
import time

import numpy as np
import pytest

from benchmarks.clocks import (
    NETWORK,
    PARTS,
    VALIDATION,
    WAITING,
    Clocks,
    attach_to_batches,
    locate,
)


class ManualClock:
    """A clock that tests advance."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time

    def work(self, seconds, then=lambda: None):
        self.time += seconds
        return then()


@pytest.fixture
def hand():
    return ManualClock()


@pytest.fixture
def clocks(hand):
    return Clocks(hand)


@pytest.mark.parametrize("name", [name for names in PARTS.values() for name in names])
def test_every_timed_function_exists(name):
    holder, attribute = locate(name)
    assert callable(getattr(holder, attribute))


def test_the_innermost_clock_runs_alone(hand, clocks):
    inner = clocks.timed("inner", lambda: hand.work(2))
    outer = clocks.timed("outer", lambda: (hand.work(1), inner(), hand.work(4)))
    outer()
    inner()
    assert clocks.seconds == {"outer": 5, "inner": 4}


def test_a_whole_part_includes_the_parts_it_calls(hand, clocks):
    inner = clocks.timed(NETWORK, lambda: hand.work(2), listed=True)
    whole = clocks.timed(VALIDATION, lambda: hand.work(1, inner))
    whole()
    assert clocks.seconds == {VALIDATION: 3}
    assert clocks.calls == {NETWORK: [2]}


def test_added_seconds_are_subtracted_from_the_outer_part(hand, clocks):
    def wait():
        hand.work(3)
        clocks.add("waiting", 3)

    clocks.timed("outer", lambda: hand.work(1, wait))()
    assert clocks.seconds == {"waiting": 3, "outer": 1}


def test_a_function_that_raises_is_timed(hand, clocks):
    def fail():
        hand.work(2)
        raise ValueError("no")

    failing = clocks.timed("failing", fail)
    with pytest.raises(ValueError, match="no"):
        failing()
    clocks.timed("after", lambda: hand.work(1))()
    assert clocks.seconds == {"failing": 2, "after": 1}


def test_background_threads_do_not_run_clocks(hand, clocks):
    thread = threading.Thread(target=clocks.timed("part", lambda: hand.work(1)))
    thread.start()
    thread.join()
    assert not clocks.seconds
    clocks.add_beside("one", seconds=0.5, slots=3)
    clocks.add_beside("other", seconds=4)
    clocks.add_beside("one", seconds=0.25)
    assert clocks.beside == {
        "one": {"seconds": 0.75, "slots": 3},
        "other": {"seconds": 4},
    }


def test_a_timed_function_returns_the_same_value():
    timed = Clocks(time.perf_counter).timed("part", json.dumps)
    assert timed([1], indent=None) == "[1]"
    assert timed.__name__ == "dumps"


def test_batches_count_waits_and_slots(clocks):
    class Batches:
        waited = 0.0

        def _waited(self, seconds):
            self.waited += seconds

        def _batch(self, number):
            rows = np.full((1, 4, 2), -1)
            rows[0, :number, 0] = 0
            return {"neighbors_0": rows}, "labels"

    attach_to_batches(clocks, Batches)
    batches = Batches()
    batches._waited(2.5)
    assert batches._batch(3)[1] == "labels"
    batches._batch(1)
    assert batches.waited == 2.5
    assert clocks.seconds == {WAITING: 2.5}
    found = clocks.beside["Batches"]
    assert (found["present"], found["slots"]) == (4, 8)
    assert 0 <= found["seconds"] < 60
