"""The next item made in a background thread while its consumer uses this one."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice, pairwise
from typing import Generic, TypeVar

from vl3d_lite.errors import ResourceError

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


class LookAhead(Generic[Key, Item]):
    """Items in order, the next one made ahead; and work that is put off.

    One background thread does both, one thing after the other. Leaving the block
    waits for what is under way and drops what has not begun.

    Args:
        make: Makes the item of a key; runs in either thread, never twice at once.
        keys: Of the items, each once, in the order they are asked for. Some may
            never be asked for.
        ahead: Whether the item of a key may be made while the one before it is used.
    """

    def __init__(
        self,
        make: Callable[[Key], Item],
        keys: Sequence[Key],
        ahead: Callable[[Key], bool],
    ):
        self._make, self._ahead = make, ahead
        self._following = dict(pairwise(keys))
        self._begun: tuple[Key, Future] | None = None
        self._put_off: list[Future] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="clouds")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(cancel_futures=True)

    def take(self, key: Key) -> Item:
        """The item of a key; then the next one is begun.

        Raises:
            Exception: What making it raised, wherever it was made.
        """
        item = self._made(key)
        following = self._following.get(key)
        if following is not None and self._ahead(following):
            self._begun = following, self._pool.submit(self._make, following)
        return item

    def later(self, work: Callable[[], Item]) -> Future:
        """Do some work in the background, before any item that is begun after it."""
        self._put_off = [one for one in self._put_off if not one.done()]
        self._put_off.append(self._pool.submit(work))
        return self._put_off[-1]

    def _made(self, key: Key) -> Item:
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == key:
            # What did not fit beside another may well fit alone.
            with contextlib.suppress(MemoryError, ResourceError):
                return begun[1].result()
        elif begun is not None:
            wait([begun[1]])  # nobody asked for it
        del begun
        wait(self._put_off)
        return self._make(key)


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
