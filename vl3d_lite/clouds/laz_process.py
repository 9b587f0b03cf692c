"""Decompress LAZ in a process of its own, which a damaged file may end.

lazrs reads and writes outside its memory where compressed points are damaged in certain
ways. The process that decompresses shares with this one a socket and the memory of the
points; if it ends, the file is damaged, and the next file gets another process.
"""

import atexit
import contextlib
import io
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import lazrs

from vl3d_lite.clouds import laz_worker
from vl3d_lite.clouds.laz_worker import DAMAGED, DamagedError, Job, Unpacker, mapped

# Without `site`, which takes longer than all the rest.
_PROGRAM = (
    "import sys; sys.path += sys.argv[1:3]; "
    "import laz_worker; laz_worker.serve(int(sys.argv[3]))"
)
_SHORT = b"memory allocation of "  # then the number of bytes: Rust, before it aborts
_ENDS_WITHIN = 5.0  # seconds

Reader = Callable[[int, int], None]


@contextmanager
def decompressing(
    file: BinaryIO, job: Job, size: int, most: int
) -> Iterator[tuple[mmap.mmap, Reader]]:
    """Decompress the points of a file, step by step.

    Where no process can be started, this one decompresses.

    Args:
        file: The file; its position may change.
        job: How its points are compressed.
        size: Bytes of the records of one step.
        most: Bytes of the file, or of its records if these are more.

    Yields:
        The memory, and a function that puts records into it: it takes the index of
        the first one and their number.

    Raises:
        DamagedError: The points cannot be decompressed. The function raises it too.
        MemoryError: The memory does not suffice.
    """
    with _shared_memory(size) or nullcontext() as shared:
        helper = None if shared is None else _take()
        if shared is None or helper is None:
            unpacker, memory = Unpacker(file, job), mapped(-1, size)
            yield memory, lambda start, count: unpacker.read(start, count, memory)
            return
        try:
            memory = mapped(shared.fileno(), size)
            helper.begin(file, job, size, most, shared)
            yield memory, helper.read
        finally:
            helper.leave()


def _shared_memory(size: int) -> io.FileIO | None:
    """A file in memory; None where there is none, as with a limit of file sizes."""
    try:
        file = io.FileIO(os.memfd_create("points"), "r+")
    except (AttributeError, OSError):
        return None
    try:
        file.truncate(size)
    except OSError:
        file.close()
        return None
    return file


class _Helper:
    """A process that decompresses one file at a time."""

    def __init__(self) -> None:
        self.usable = False  # while a request is not answered, and after any error
        self.most = 0
        folders = Path(lazrs.__file__).parents[1], Path(laz_worker.__file__).parent
        with contextlib.ExitStack() as stack:
            self.connection, theirs = map(stack.enter_context, socket.socketpair())
            self.messages = stack.enter_context(
                io.FileIO(os.memfd_create("messages"), "r")
            )
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-ISc", _PROGRAM, *folders, str(number)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.messages,
                pass_fds=[number],
            )
            stack.pop_all()
            theirs.close()
        _helpers.add(self)

    def begin(
        self, file: BinaryIO, job: Job, size: int, most: int, shared: io.FileIO
    ) -> None:
        """Begin with another file, whose records are put into shared memory."""
        self.most = most
        self.ask({"job": job, "size": size}, file.fileno(), shared.fileno())

    def read(self, start: int, count: int) -> None:
        self.ask({"start": start, "count": count})

    def ask(self, request: dict[str, Any], *descriptors: int) -> None:
        self.usable = False
        text = json.dumps(request).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self.connection, [text[:1]], descriptors)
            self.connection.sendall(text[1:])
        self.wait()

    def wait(self) -> None:
        """Wait for an answer, and raise the error in it."""
        text = b""
        while not text.endswith(b"\n"):
            part = b""
            with contextlib.suppress(ConnectionResetError):
                part = self.connection.recv(1 << 16)
            if not part:
                raise self._error_of_end()
            text += part
        answer = json.loads(text)
        if "memory" in answer:
            raise MemoryError
        if "problem" in answer:
            raise DamagedError(answer["problem"])
        if "error" in answer:
            raise RuntimeError(f"lazrs failed: {answer['error']}")
        self.usable = True

    def _error_of_end(self) -> Exception:
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDS_WITHIN)
        text = os.pread(self.messages.fileno(), 1 << 16, 0)
        amount = text.partition(_SHORT)[2].split(maxsplit=1)[:1]
        # A damaged file may ask for any amount. The system kills where memory is short.
        asked = amount and amount[0].isdigit() and int(amount[0]) <= self.most
        code = self.process.returncode
        if asked or code == -signal.SIGKILL or b"MemoryError" in text:
            return MemoryError()
        if code == 1:  # an error of Python, with its trace
            return RuntimeError(text.decode(errors="replace"))
        return DamagedError(DAMAGED)

    def leave(self) -> None:
        """Keep the process for another file, or end it after an error."""
        if self.usable:
            with contextlib.suppress(OSError):
                self.connection.sendall(b'{"close": true}\n')
            _idle.append(self)
        else:
            self.end(kill=True)

    def end(self, kill: bool) -> None:
        self.connection.close()
        if kill:
            self.process.kill()
        try:
            self.process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.messages.close()

    def forget(self) -> None:
        """Leave the process to another one: this one was forked from it."""
        self.connection.close()
        self.messages.close()
        self.process.returncode = 0


_idle: list[_Helper] = []
_helpers: "weakref.WeakSet[_Helper]" = weakref.WeakSet()


def _take() -> _Helper | None:
    """A process that waits, or a new one; None where none can be started."""
    with contextlib.suppress(IndexError):
        while True:
            helper = _idle.pop()
            if helper.process.poll() is None:
                return helper
            helper.end(kill=False)
    if not sys.executable:
        return None
    try:
        helper = _Helper()
    except OSError:
        return None
    try:
        helper.wait()
    except (DamagedError, MemoryError, RuntimeError):
        return None
    finally:
        if not helper.usable:
            helper.end(kill=True)
    return helper


def _end_idle() -> None:
    while _idle:
        _idle.pop().end(kill=False)


def _forget_all() -> None:
    for helper in list(_helpers):
        helper.forget()
    _helpers.clear()
    _idle.clear()


atexit.register(_end_idle)
os.register_at_fork(after_in_child=_forget_all)
