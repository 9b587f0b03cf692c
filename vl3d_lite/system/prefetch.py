"""Items made in background threads, a few ahead of their consumer."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Source = TypeVar("Source")


def ahead(
    make: Callable[[Source], Item],
    sources: Iterable[Source],
    threads: int,
    waited: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Item]:
    """Make items in background threads, a few ahead of the consumer.

    Items come in order. An error in a thread is raised where its item was
    due. Closing the generator ends the threads.

    Args:
        make: Makes an item from its source.
        sources: Of the items; read in the consumer's thread.
        threads: At least 1; two items a thread are made ahead.
        waited: Called with the seconds that the consumer waited for an item.
    """
    sources = iter(sources)
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        queue = deque()
        try:
            for source in islice(sources, 2 * threads):
                queue.append(pool.submit(make, source))
            while queue:
                begin = time.perf_counter()
                item = queue.popleft().result()
                waited(time.perf_counter() - begin)
                for source in islice(sources, 1):
                    queue.append(pool.submit(make, source))
                yield item
        finally:
            pool.shutdown(cancel_futures=True)
