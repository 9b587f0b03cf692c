import time

import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.system.background import ahead


def test_items_are_made_few_ahead_and_come_in_order():
    made, waits = [], []

    def make(number):
        made.append(number)
        return number * number

    items = ahead(make, range(50), 2, waits.append)
    assert next(items) == 0
    time.sleep(0.05)
    assert len(made) <= 5
    assert list(items) == [n * n for n in range(1, 50)]
    assert len(waits) == 50
    assert min(waits) >= 0


def test_waiting_for_slow_items_is_counted():
    waits = []
    list(ahead(lambda _: time.sleep(0.02), range(3), 1, waits.append))
    assert sum(waits) >= 0.04


def test_an_error_in_a_thread_reaches_the_consumer_where_it_was_due():
    def make(number):
        if number == 3:
            raise DataError("town.laz: broken")
        return number

    items = ahead(make, range(9), 2, lambda _: None)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match="broken"):
        next(items)
