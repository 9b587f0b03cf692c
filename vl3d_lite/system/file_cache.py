"""What was found in files that have not changed since."""

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Generic, TypeVar

# File systems count time in ticks of up to 10 ms. A file that changed just now may
# change again within the tick, which its times do not show.
SETTLED_SECONDS = 0.1
# Of file systems that count whole seconds, or two of them.
SETTLED_WHOLE_SECONDS = 4.0

Identity = tuple[str, int, int, int, int, int]
Value = TypeVar("Value")


class FileCache(Generic[Value]):
    """Values of the files that were read last. Threads may share one.

    A value is found by the identity of the open file (resolved path, device, inode,
    size, times of change), never by its name alone: a file that was replaced or
    rewritten is another one.

    Args:
        most: Values to keep; those used longest ago are dropped first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[tuple[Identity, str], Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, identity: Identity, settings: str = "") -> Value | None:
        """The value of this very file; None where it is not known.

        Args:
            identity: That of the file.
            settings: What else the value depends on.
        """
        key = identity, settings
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(
        self,
        identity: Identity,
        value: Value,
        settings: str = "",
        *,
        began: float | None = None,
    ) -> None:
        """Keep a value, unless its file may have changed while it was read.

        Args:
            identity: That of the file before it was read.
            value: What was found in it.
            settings: What else the value depends on.
            began: When the reading began, by `time.time`; just now by default.
        """
        began = time.time() if began is None else began
        if not is_settled(identity, began):
            return
        with self._lock:
            self._values[identity, settings] = value
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()


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


def is_settled(identity: Identity, began: float) -> bool:
    """Whether a later change of a file would show in its identity.

    Args:
        identity: That of the file before it was read.
        began: When the reading began, by `time.time`.
    """
    changed = max(identity[-2:])
    whole = not any(moment % 10**9 for moment in identity[-2:])
    needed = SETTLED_WHOLE_SECONDS if whole else SETTLED_SECONDS
    return abs(began - changed / 1e9) >= needed
