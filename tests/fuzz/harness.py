"""Inputs tried in child processes, so that crashes and hangs are findings too."""

import contextlib
import faulthandler
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from tests.fuzz.judging import Judge

SECONDS = 30.0  # of processor time for one input
WAITING = 10  # times that long an input may take where other processes are busy
START_SECONDS = 900.0  # for the imports of a child
BROKEN = "the fuzzer fails"
MEMORY = 6 << 30  # bytes of address space, so that a bomb is a finding, not an outage


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        prepare: Makes what all inputs need, in a room of its own; slow.
        attempt: Makes an input from a generator in the folder of the judge, and tries
            it.
    """

    prepare: Callable[[Path], None]
    attempt: Callable[[np.random.Generator, Judge, Path], None]


@dataclass
class Result:
    """What was tried, and what was found.

    Attributes:
        inputs: How many inputs were tried.
        codes: How often commands ended with each exit code.
        findings: The number of the input, and what it did.
        messages: What commands printed to stderr.
    """

    inputs: int = 0
    codes: Counter = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def fuzz(
    kind: Kind,
    numbers: range,
    seed: int,
    room: Path,
    seconds: float = SECONDS,
    found: Callable[[int, str], None] = lambda number, text: None,
) -> Result:
    """Try inputs of a kind; each depends on seed and number alone.

    Args:
        kind: The kind.
        numbers: The inputs to try.
        seed: Of all of them.
        room: An empty folder.
        seconds: Processor time after which an input counts as a hang; waiting for
            `WAITING` times that long is one too.
        found: Called with each finding.
    """
    result, shared = Result(), room / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    left = list(numbers)
    while left:
        done = 0
        for event in _child(kind, left, seed, room, shared, seconds):
            for text in event["findings"]:
                number = left[done] if done < len(left) else -1
                result.findings.append((number, text))
                found(number, text)
                if text.startswith(BROKEN):
                    result.inputs += done
                    return result
            done += 1
            result.codes.update(event.get("codes", ()))
            result.messages += event.get("messages", ())
        result.inputs += min(done, len(left))
        left = left[max(done, 1) :]
    return result


def _child(kind, numbers, seed, room, shared, seconds) -> Iterator[dict]:
    """What a child found for each input, until it ends, crashes or hangs."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reading)
        _work(kind, numbers, seed, room, shared, writing)
    os.close(writing)
    child, rest = psutil.Process(process), b""
    limit, began, used = START_SECONDS, time.monotonic(), 0.0
    try:
        while True:
            ready = select.select([reading], [], [], 0.5)[0]
            chunk = os.read(reading, 1 << 16) if ready else None
            if chunk == b"":
                break
            if chunk:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if "ready" not in event:
                        yield event
                    limit, began, used = seconds, time.monotonic(), _used(child)
            elif (
                _used(child) - used > limit
                or time.monotonic() - began > WAITING * limit
            ):
                os.kill(process, signal.SIGKILL)
                yield {"findings": [f"hang: more than {limit:.0f} s"]}
                break
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            if sys.exc_info()[0] is not None:
                os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        yield {"findings": [f"crash: the process ended with {code}"]}


def _used(process: psutil.Process) -> float:
    """Processor time of a process and its children that ended, in seconds."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(process.cpu_times()[:4])
    return 0.0


def _work(kind, numbers, seed, room, shared, writing) -> None:
    """The child: never returns."""

    def send(**event):
        os.write(writing, json.dumps(event).encode() + b"\n")

    code = 1
    try:
        faulthandler.enable()
        with open(os.devnull) as null:
            os.dup2(null.fileno(), 0)
        # Most kinds make these files in the first child only.
        kind.prepare(shared)
        _limit_memory()
        send(ready=True)  # from here on the limit is that of one input
        for number in numbers:
            folder = room / "input"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            os.chdir(folder)
            judge = Judge(folder)
            kind.attempt(np.random.default_rng([seed, number]), judge, shared)
            send(findings=judge.findings, messages=judge.messages, codes=judge.codes)
        code = 0
    except BaseException:
        send(findings=[f"{BROKEN}: {traceback.format_exc()}"])
        code = 0
    finally:
        os._exit(code)


def _limit_memory():
    import resource

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
