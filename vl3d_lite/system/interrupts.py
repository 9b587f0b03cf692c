"""SIGINT and SIGTERM stop the work at its next safe point, with their exit code.

A command catches both signals from its beginning (`catch_signals`). A signal is only
recorded; the work ends where it asks for one (`safe_point`, `Interrupts.check`). Where
it does not ask in time, a thread ends the process: outputs are written beside their
place and renamed, so nothing is damaged at any moment.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from vl3d_lite.errors import InterruptedRunError

# 128 plus the number of the signal, as shells report it.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# Seconds from a signal to the end of the process. Inside an `Interrupts` block the
# work may finish a step and write a checkpoint; outside there is nothing to finish.
PATIENCE = 8.0
IDLE_PATIENCE = 1.0


class _Process:
    """The signals of this process, and the work that they stop.

    Attributes:
        received: The first signal; None so far.
        catching: Whether `catch_signals` was called.
        blocks: `Interrupts` blocks that run.
        reported: Whether an `InterruptedRunError`, which has a message, was raised.
        idle_since: When the last block ended, in seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.catching = False
        self.blocks = 0
        self.reported = False
        self.idle_since = 0.0

    def record(self, number: int, _frame: object) -> None:
        """The handler: Python calls it in the main thread, between two steps."""
        again = self.received is not None
        self.received = self.received or signal.Signals(number)
        if again and self.blocks and not self.reported:
            self.reported = True
            raise InterruptedRunError(
                "interrupted twice; stopped immediately", EXIT_CODES[self.received]
            )

    def watch(self, signals: int, stderr: int, clean: Callable[[], None]) -> None:
        """End the process where no safe point does; runs in a thread of its own.

        Args:
            signals: Where the interpreter writes the number of each signal at once,
                also while the main thread is inside a library.
            stderr: Where the message goes.
            clean: Removes unfinished outputs.
        """
        number = os.read(signals, 1)[0]
        while number not in EXIT_CODES:
            number = os.read(signals, 1)[0]
        first = time.monotonic()
        while time.monotonic() - first < PATIENCE:
            idle = time.monotonic() - max(first, self.idle_since) > IDLE_PATIENCE
            if idle and not self.blocks and not self.reported:
                break
            time.sleep(0.05)
        try:
            if not self.reported:
                name = "interrupted" if number == signal.SIGINT else "terminated"
                text = f"\n{name}; no partial files remain, finished files stay\n"
                os.write(stderr, text.encode())
            clean()
        finally:
            os._exit(EXIT_CODES[signal.Signals(number)])


_PROCESS = _Process()


def catch_signals(clean: Callable[[], None] = lambda: None) -> None:
    """Catch SIGINT and SIGTERM until the process ends.

    Only a program calls it, at its beginning: a library leaves signals to its caller.
    Further calls do nothing.

    Args:
        clean: Removes unfinished outputs; called where the process ends without
            reaching a safe point.
    """
    if _PROCESS.catching or threading.current_thread() is not threading.main_thread():
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in EXIT_CODES:
        signal.signal(number, _PROCESS.record)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(
        # A copy of stderr, which is silenced while TensorFlow is imported.
        target=_PROCESS.watch,
        args=(reading, os.dup(2), clean),
        name="signals",
        daemon=True,
    ).start()
    _PROCESS.catching = True


def safe_point(message: str = "interrupted; nothing was written") -> None:
    """End the work here if a signal was received.

    Args:
        message: What was saved and how to continue.

    Raises:
        InterruptedRunError: A signal was received, after `catch_signals` or inside an
            `Interrupts` block.
    """
    if _PROCESS.received is not None:
        _stop(_PROCESS.received, message)


def _stop(received: signal.Signals, message: str) -> NoReturn:
    # An error in another thread may never be shown.
    if threading.current_thread() is threading.main_thread():
        _PROCESS.reported = True
    raise InterruptedRunError(message, EXIT_CODES[received])


class Interrupts:
    """Work that stops at its own safe points while a block runs.

    The first signal is recorded, so that the work can stop where nothing is lost; a
    second one raises `InterruptedRunError` immediately. In a process that does not
    call `catch_signals` the block catches signals itself, and afterwards hands
    SIGTERM, and each signal that stopped nothing, on to the handlers of the process.
    Outside the main thread, where Python allows no handlers, it catches none.

    Attributes:
        received: The first signal; None so far.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._caught: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def received(self) -> signal.Signals | None:
        return self._received or _PROCESS.received

    @received.setter
    def received(self, number: signal.Signals) -> None:
        self._received = number

    def __enter__(self) -> "Interrupts":
        _PROCESS.blocks += 1
        main = threading.current_thread() is threading.main_thread()
        if main and not _PROCESS.catching:
            for number in EXIT_CODES:
                self._handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _PROCESS.blocks -= 1
        _PROCESS.idle_since = time.monotonic()
        if self._handlers:
            _PROCESS.received = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
        stopped = kind is not None and issubclass(kind, InterruptedRunError)
        caught, self._caught = self._caught, None
        if caught is not None and not (caught == signal.SIGINT and stopped):
            signal.raise_signal(caught)

    def _record(self, number: int, _frame: object) -> None:
        self._caught = number
        if self.received is not None:
            self.stop("interrupted twice; stopped immediately")
        self._received = _PROCESS.received = signal.Signals(number)

    def check(self, message: str) -> None:
        """Raise `InterruptedRunError` with `message` if a signal was received."""
        if self.received is not None:
            self.stop(message)

    def stop(self, message: str) -> NoReturn:
        """Raise `InterruptedRunError` with the exit code of the signal."""
        assert self.received is not None  # callers have seen it
        _stop(self.received, message)
