import threading
import time

import pytest

from vl3d_lite.errors import ResourceError
from vl3d_lite.system.background import LookAhead


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
    assert made == {1: "MainThread", 2: "clouds", 3: "clouds"}


def test_what_does_not_fit_beside_is_made_when_it_is_asked_for():
    made = []

    def make(key):
        made.append(here())

    with LookAhead(make, "abc", lambda key: key == "c") as items:
        for key in "abc":
            items.take(key)
    assert made == ["MainThread", "MainThread", "clouds"]


def test_an_item_nobody_asks_for_is_finished_before_another_is_made():
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


def test_an_error_is_raised_where_its_item_is_asked_for():
    def make(key):
        if key == "bad":
            raise ValueError("no such cloud")
        return key

    with LookAhead(make, ["good", "bad", "fine"], always) as items:
        assert items.take("good") == "good"
        with pytest.raises(ValueError, match="no such cloud"):
            items.take("bad")
        assert items.take("fine") == "fine"


def test_work_put_off_is_done_before_the_next_item_and_before_leaving():
    done = []
    with LookAhead(done.append, [1, 2], always) as items:
        items.later(lambda: (time.sleep(0.02), done.append("written")))
        items.take(1)
        items.take(2)
        late = items.later(lambda: time.sleep(0.02))
    assert done.index("written") < done.index(2)
    assert late.done()


def test_what_found_no_room_beside_another_is_made_once_more_alone():
    tries = []

    def make(key):
        tries.append((key, here()))
        if key == "large" and here() == "clouds":
            raise ResourceError("no room")
        return key

    with LookAhead(make, ["small", "large"], always) as items:
        items.take("small")
        assert items.take("large") == "large"
    assert tries[1:] == [("large", "clouds"), ("large", "MainThread")]
