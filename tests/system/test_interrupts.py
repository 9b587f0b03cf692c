"""Signals are recorded once, and stop the work with their exit code."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from vl3d_lite.errors import InterruptedRunError
from vl3d_lite.system.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _stay(handed_on):
    """No signal ends the process of the tests."""


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_stopped_nothing_is_handed_on(number, handed_on):
    with Interrupts():
        os.kill(os.getpid(), number)
        assert handed_on == []
    assert handed_on == [number]


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, []), (signal.SIGTERM, [signal.SIGTERM])]
)
def test_sigterm_ends_a_program_that_calls_the_library(number, expected, handed_on):
    def work():
        with Interrupts() as interrupts:
            os.kill(os.getpid(), number)
            interrupts.check("stopped")

    with pytest.raises(InterruptedRunError):
        work()
    assert handed_on == expected


# What the main thread does when the signal comes, and what the process then prints.
MOMENTS = {
    "in a call that does not return": ("lock.acquire()", "no partial files remain"),
    "where errors are swallowed": (
        "\nwhile True:\n    try: spin()\n    except Exception: pass",
        "no partial files remain",
    ),
    "between safe points": (
        "\nwhile True: spin(); safe_point('saved; continue')",
        "saved; continue",
    ),
    "in work that never checks": (
        "\nwith Interrupts():\n    while True: spin()",
        "no partial files remain",
    ),
}
PROGRAM = """\
import sys, threading, time
from pathlib import Path
from vl3d_lite.errors import InterruptedRunError
from vl3d_lite.system import Interrupts, catch_signals, safe_point
from vl3d_lite.system import interrupts
interrupts.PATIENCE, interrupts.IDLE_PATIENCE = 1.0, 0.5
draft = Path(sys.argv[1])
def spin(): [None for _ in range(1000)]
catch_signals(draft.unlink)
lock = threading.Lock(); lock.acquire()
print("ready", flush=True)
try:
    {code}
except InterruptedRunError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_program_ends_with_its_code_at_any_moment(moment, number, code, tmp_path):
    work, message = MOMENTS[moment]
    draft = tmp_path / ".1.part-cloud.laz"
    draft.touch()
    program = PROGRAM.format(code=work.strip().replace("\n", "\n    "))
    process = subprocess.Popen(
        [sys.executable, "-c", program, draft],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert time.monotonic() - began < 10
    assert message in errors
    assert "Traceback" not in errors
    # Only a process that ends without an error removes what is unfinished itself.
    assert draft.exists() == (moment == "between safe points")
