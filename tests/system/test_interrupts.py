"""Signals are recorded once, and stop the work with their exit code."""

import os
import signal
import threading

import pytest

from vl3d_lite.errors import InterruptedRunError
from vl3d_lite.system.interrupts import Interrupts


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_the_first_signal_is_recorded_and_stops_at_the_next_check(number, code):
    with Interrupts() as interrupts:
        interrupts.check("not yet")
        os.kill(os.getpid(), number)
        assert interrupts.received == number
        with pytest.raises(InterruptedRunError, match="saved") as caught:
            interrupts.check("saved; resume")
    assert caught.value.exit_code == code


def test_a_second_signal_stops_immediately():
    with Interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(InterruptedRunError, match="interrupted twice"):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before


def test_other_threads_leave_the_handlers_alone():
    handler, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with Interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]
