"""Headers of files that were read before and have not changed since."""

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path

from vl3d_lite.clouds.header import FileHeader

# A header takes a few kilobytes: the clouds of a large survey are kept, and a
# file made of records fills no memory.
MOST_HEADERS = 4096
MOST_RECORDS = 256
# File systems count time in ticks of up to 10 ms. A file that changed just now may
# change again within the tick, which its times do not show.
SETTLED_SECONDS = 0.1

Identity = tuple[str, int, int, int, int, int]


class HeaderCache:
    """The headers of the files that were read last. Threads may share one.

    A header is found by the identity of the open file (resolved path, device, inode,
    size, times of change), never by its name alone: a file that was replaced or
    rewritten is another one.
    """

    def __init__(self, most: int = MOST_HEADERS) -> None:
        self._most = most
        self._headers: OrderedDict[Identity, FileHeader] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, identity: Identity) -> FileHeader | None:
        """The header of this very file; None where it is not known."""
        with self._lock:
            if identity in self._headers:
                self._headers.move_to_end(identity)
            return self._headers.get(identity)

    def put(self, identity: Identity, header: FileHeader) -> None:
        """Keep a header, unless its file may be changing or it is very long."""
        changed = max(identity[-2:]) / 1e9
        if abs(time.time() - changed) < SETTLED_SECONDS:
            return
        if len(header.vlrs) + len(header.evlrs) > MOST_RECORDS:
            return
        with self._lock:
            self._headers[identity] = header
            if len(self._headers) > self._most:
                self._headers.popitem(last=False)

    def clear(self) -> None:
        """Forget all headers."""
        with self._lock:
            self._headers.clear()


def identity_of(path: Path, descriptor: int) -> Identity:
    """Identify the content of an open file without reading it.

    Args:
        path: Its path.
        descriptor: Its file descriptor, so that a file that is replaced meanwhile
            is not taken for the open one.
    """
    stat = os.fstat(descriptor)
    return (
        os.path.realpath(path),
        stat.st_dev,
        stat.st_ino,
        stat.st_size,
        stat.st_mtime_ns,
        # Copying over a file may restore the time of its content, not this one.
        stat.st_ctime_ns,
    )
