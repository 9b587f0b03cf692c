"""Work in background threads while its consumer goes on.

`prefetch` makes the items of a stream in several threads, in their order.
`LookAhead` makes one item ahead in a single thread, where a consumer may skip
items, and does deferred work in the same thread.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice, pairwise
from typing import Generic, TypeVar

from vl3d_lite.errors import ResourceError

Source = TypeVar("Source")
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def prefetch(
    make: Callable[[Source], Item],
    sources: Iterable[Source],
    threads: int,
    waited: Callable[[float], None] = lambda seconds: None,
) -> Iterator[Item]:
    """Make items in background threads, a few ahead of their consumer.

    Items come in order. An error in a thread is raised where its item is due.
    Closing the generator ends the threads.

    Args:
        make: Makes an item from its source.
        sources: One for each item; read in the consumer's thread.
        threads: At least 1. Two items for each thread are made ahead.
        waited: Called with the seconds that the consumer waited for an item.

    Yields:
        The items.

    Raises:
        Exception: The error that `make` raised.
    """
    sources = iter(sources)
    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        queue: deque[Future[Item]] = deque()
        try:
            # Two for each thread: one is made while another waits to be taken.
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


class LookAhead(Generic[Key, Item]):
    """Items by key, the next one made ahead; and deferred work.

    One background thread does both, one task after the other, so that at most
    two items are in memory. Leaving the block waits for the task that runs and
    drops those that have not begun.

    Args:
        make: Makes the item of a key. It runs in either thread, never twice at once.
        keys: Each once, in the order in which their items are taken. Items may be
            skipped.
        may_prefetch: Whether the item of a key may be made while the item before
            it is used.
    """

    def __init__(
        self,
        make: Callable[[Key], Item],
        keys: Sequence[Key],
        may_prefetch: Callable[[Key], bool],
    ) -> None:
        self._make, self._may_prefetch = make, may_prefetch
        self._following = dict(pairwise(keys))
        self._begun: tuple[Key, Future[Item]] | None = None
        self._deferred: list[Future] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lookahead")

    def __enter__(self) -> "LookAhead[Key, Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, key: Key) -> Item:
        """Return the item of a key, and begin the next one.

        Raises:
            Exception: The error that `make` raised, in whichever thread.
        """
        item = self._item(key)
        following = self._following.get(key)
        if following is not None and self._may_prefetch(following):
            self._begun = following, self._pool.submit(self._make, following)
        return item

    def defer(self, work: Callable[[], object]) -> Future:
        """Do work in the background, before every item that is begun after it."""
        self._deferred = [future for future in self._deferred if not future.done()]
        self._deferred.append(self._pool.submit(work))
        return self._deferred[-1]

    def _item(self, key: Key) -> Item:
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == key:
            # An item that does not fit into memory beside another may fit alone.
            with contextlib.suppress(MemoryError, ResourceError):
                return begun[1].result()
        elif begun is not None:
            wait([begun[1]])  # a skipped item: `make` never runs twice at once
        del begun  # it holds the skipped item in memory
        wait(self._deferred)
        return self._make(key)
