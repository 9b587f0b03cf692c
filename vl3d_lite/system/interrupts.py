"""SIGINT and SIGTERM stop the work after the current step, with their exit code."""

import signal
import threading
from typing import Any, NoReturn

from vl3d_lite.errors import InterruptedRunError

# 128 plus the number of the signal, as shells report it.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupts:
    """Catches SIGINT and SIGTERM while a block runs.

    The first signal is recorded, so that the work can stop where nothing is lost; a
    second one raises `InterruptedRunError` immediately. Outside the main thread,
    where Python allows no handlers, signals are not caught.

    Attributes:
        received: The first signal; None so far.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._handlers[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _record(self, number: int, _frame: object) -> None:
        if self.received is not None:
            self.stop("interrupted twice; stopped immediately")
        self.received = signal.Signals(number)

    def check(self, message: str) -> None:
        """Raise `InterruptedRunError` with `message` if a signal was received."""
        if self.received is not None:
            self.stop(message)

    def stop(self, message: str) -> NoReturn:
        """Raise `InterruptedRunError` with the exit code of the signal."""
        assert self.received is not None  # callers have seen it
        raise InterruptedRunError(message, EXIT_CODES[self.received])
