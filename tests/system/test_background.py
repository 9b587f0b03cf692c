import threading
import time

import pytest

from vl3d_lite.errors import DataError, ResourceError
from vl3d_lite.system.background import LookAhead, prefetch


def always(_):
    return True


def here():
    return threading.current_thread().name.partition("_")[0]


def test_the_next_item_is_made_while_this_one_is_used():
    made = {}

    def make(key):
        made[key] = here()
        return key * 10

    with LookAhead(make, [1, 2, 3], always) as items:
        assert items.take(1) == 10
        while 2 not in made:
            time.sleep(0.001)
        assert 3 not in made
        assert [items.take(2), items.take(3)] == [20, 30]
    assert made == {1: "MainThread", 2: "lookahead", 3: "lookahead"}


def test_an_item_that_may_not_be_made_ahead_is_made_when_it_is_taken():
    made = []

    def make(key):
        made.append(here())

    with LookAhead(make, "abc", lambda key: key == "c") as items:
        for key in "abc":
            items.take(key)
    assert made == ["MainThread", "MainThread", "lookahead"]


def test_a_skipped_item_is_finished_before_another_is_made():
    begun, running = threading.Event(), []

    def make(key):
        running.append(key)
        if key == "skipped":
            begun.set()
            time.sleep(0.05)
        assert running == [key]
        running.clear()
        return key

    with LookAhead(make, ["first", "skipped", "wanted", "last"], always) as items:
        items.take("first")
        begun.wait()
        assert items.take("wanted") == "wanted"
        assert items.take("last") == "last"


def test_an_error_is_raised_where_its_item_is_taken():
    def make(key):
        if key == "bad":
            raise ValueError("no such cloud")
        return key

    with LookAhead(make, ["good", "bad", "fine"], always) as items:
        assert items.take("good") == "good"
        with pytest.raises(ValueError, match="no such cloud"):
            items.take("bad")
        assert items.take("fine") == "fine"


def test_deferred_work_is_done_before_the_next_item_and_before_leaving():
    done = []
    with LookAhead(done.append, [1, 2], always) as items:
        items.defer(lambda: (time.sleep(0.02), done.append("written")))
        items.take(1)
        items.take(2)
        late = items.defer(lambda: time.sleep(0.02))
    assert done.index("written") < done.index(2)
    assert late.done()


def test_an_item_that_does_not_fit_beside_another_is_made_again_alone():
    tries = []

    def make(key):
        tries.append((key, here()))
        if key == "large" and here() == "lookahead":
            raise ResourceError("no room")
        return key

    with LookAhead(make, ["small", "large"], always) as items:
        items.take("small")
        assert items.take("large") == "large"
    assert tries[1:] == [("large", "lookahead"), ("large", "MainThread")]


def test_a_few_items_are_made_ahead_and_come_in_order():
    made, waits = [], []

    def make(number):
        made.append(number)
        return number * number

    items = prefetch(make, range(50), 2, waits.append)
    assert next(items) == 0
    time.sleep(0.05)
    assert len(made) <= 5
    assert list(items) == [n * n for n in range(1, 50)]
    assert len(waits) == 50
    assert min(waits) >= 0


def test_waiting_for_slow_items_is_counted():
    waits = []
    list(prefetch(lambda _: time.sleep(0.02), range(3), 1, waits.append))
    assert sum(waits) >= 0.04


def test_an_error_in_a_thread_is_raised_where_its_item_is_due():
    def make(number):
        if number == 3:
            raise DataError("town.laz: broken")
        return number

    items = prefetch(make, range(9), 2, lambda _: None)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="broken"):
        next(items)
