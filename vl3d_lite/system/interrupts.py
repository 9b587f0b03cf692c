"""SIGINT and SIGTERM: finish the step, save, then stop with the right code."""

import signal
import threading
from typing import NoReturn

from vl3d_lite.errors import InterruptedRunError

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interrupts:
    """Catches SIGINT and SIGTERM while a block runs.

    The first signal is only noted, so that the work can stop where nothing is
    lost; a second one raises `InterruptedRunError` at once. Outside the main
    thread signals stay as they are.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number, _frame):
        if self.received is not None:
            self.stop("interrupted twice; stopped at once")
        self.received = signal.Signals(number)

    def check(self, message: str) -> None:
        """Raise `InterruptedRunError` with `message` if a signal came."""
        if self.received is not None:
            self.stop(message)

    def stop(self, message: str) -> NoReturn:
        """Raise `InterruptedRunError` with the exit code of the signal."""
        raise InterruptedRunError(message, EXIT_CODES[self.received])
