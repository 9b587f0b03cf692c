"""Items made in background threads, a few ahead of their consumer."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def ahead(
    make: Callable[[int], Item],
    numbers: range,
    threads: int,
    waited: Callable[[float], None],
) -> Iterator[Item]:
    """Make items in background threads, a few ahead of the consumer.

    Items come in order. An error in a thread is raised where its item was
    due. Closing the generator ends the threads.

    Args:
        make: Makes an item from its number.
        numbers: Of the items.
        threads: At least 1; two items a thread are made ahead.
        waited: Called with the seconds that the consumer waited for an item.
    """
    numbers = iter(numbers)
    with ThreadPoolExecutor(threads, thread_name_prefix="fields") as pool:
        queue = deque()
        try:
            for number in islice(numbers, 2 * threads):
                queue.append(pool.submit(make, number))
            while queue:
                begin = time.perf_counter()
                item = queue.popleft().result()
                waited(time.perf_counter() - begin)
                for number in islice(numbers, 1):
                    queue.append(pool.submit(make, number))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
