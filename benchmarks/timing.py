"""Shared by the benchmarks: a fixed allocator, calls in turns, reports."""

import datetime
import os
import re
import statistics
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

MACHINE = "2 shared cores, 24 GiB"
# Freed memory stays with the process; otherwise each step maps its pages again.
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "MALLOC_ARENA_MAX": "1",
}


def restart_quietly(threads: int, **more: str) -> None:
    """Restart this program with a fixed allocator and number of threads."""
    wanted = {
        **ALLOCATOR,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
        **more,
    }
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, sys.orig_argv[:1] + sys.orig_argv[1:])


def take_turns(
    contestants: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each call, one call each per round; the first round is excluded."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            begin = time.perf_counter()
            contestant()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(one: list[float], other: list[float]) -> float:
    """Median over the rounds of the ratio of two times."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def peak_megabytes() -> int:
    """Peak memory of this process in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024


def wrapped(text: str) -> str:
    """The text with paragraphs of at most 100 columns; tables and commands stay."""
    return "\n".join(
        line if line.startswith(("|", "    ")) else textwrap.fill(line, 100)
        for line in text.split("\n")
    )


def publish(title: str, command: str, lines: list[str], store: Path | None) -> None:
    """Print a report and, if asked, store it."""
    import keras
    import tensorflow as tf

    today = datetime.datetime.now(tz=datetime.UTC).date()
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    head = [f"# {title}", "", f"{today}, {MACHINE}; {versions}.", "", f"    {command}"]
    text = wrapped("\n".join([*head, "", *lines, ""]))
    sys.stdout.write(text)
    if store:
        store.write_text(text, encoding="utf-8")
