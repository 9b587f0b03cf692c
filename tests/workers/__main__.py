"""A campaign whose workers are killed: `python -m tests.workers --workers 4`.

Predicts tiny tiles with one process, then with workers of which one gets SIGKILL every
few seconds. It is wrong where an output differs from that of the one process, where a
finished output is written again, where drafts remain, or where the exit code is not 0.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.conftest import write_place
from tests.signals.trials import LIMIT, make_room, start

_LOADED = 300 << 20  # bytes of memory of a worker that has loaded Keras


def main() -> int:
    """Run the campaign; 1 where something was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.workers", description=__doc__
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--points", type=int, default=600, help="per tile")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    room = Path(tempfile.mkdtemp(prefix="workers_"))
    make_room(room)
    base = room / "base"
    (base / "tiles").mkdir()
    names = [f"tiles/{number:04}.laz" for number in range(args.tiles)]
    for number, name in enumerate(names):
        write_place(base / name, number, n=args.points)
    (base / "tiles.txt").write_text("\n".join(names))
    words = ["predict", "run", "@tiles.txt", "--threads", "1", "--quiet", "--output"]
    before = _seconds()
    plain = start(base, *words, "plain")
    _, errors = plain.communicate(timeout=LIMIT + 10 * args.tiles)
    assert plain.returncode == 0, errors
    alone = _seconds() - before
    before = _seconds()
    process = start(base, *words, "out", "--workers", str(args.workers))
    kills, again = _watch(process, base / "out", args.kill_every, args.seed)
    _, errors = process.communicate(timeout=LIMIT)
    problems = [f"{name} was written again" for name in sorted(again)]
    problems += _compare(base, process.returncode, errors)
    for problem in problems:
        print(problem)
    print(
        f"{args.tiles} tiles, {args.workers} workers, {kills} kills, {len(problems)} "
        f"wrong; processor seconds {alone:.0f} alone, {_seconds() - before:.0f} with "
        f"workers; files in {room}"
    )
    return int(bool(problems))


def _watch(
    process: subprocess.Popen, out: Path, every: float, seed: int
) -> tuple[int, set[str]]:
    """Kill workers until a campaign ends.

    Returns:
        The number of kills, and the outputs that were written more than once.
    """
    rng, kills, next_kill = random.Random(seed), 0, time.monotonic() + every
    seen: dict[str, int] = {}
    again: set[str] = set()
    while process.poll() is None:
        for path in out.glob("*.laz"):
            written = path.stat().st_ino
            if seen.setdefault(path.name, written) != written:
                again.add(path.name)
        if time.monotonic() > next_kill and (found := _workers(process.pid)):
            os.kill(rng.choice(found), signal.SIGKILL)
            kills, next_kill = kills + 1, time.monotonic() + every
        time.sleep(0.2)
    return kills, again


def _workers(parent: int) -> list[int]:
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            if child.memory_info().rss > _LOADED:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def _compare(base: Path, code: int, errors: str) -> list[str]:
    """What is wrong with the outputs of the workers."""
    wrong = [f"exit code {code}: {errors}"] if code else []
    expected = {path.name: path for path in (base / "plain").glob("*.laz")}
    for name, path in expected.items():
        output = base / "out" / name
        if not output.is_file() or output.read_bytes() != path.read_bytes():
            wrong.append(f"{name} is missing or different")
    listing = json.loads((base / "out/predictions.json").read_text())
    if [one["output"] for one in listing["clouds"]] != sorted(expected):
        wrong.append("predictions.json lists other clouds")
    left = [
        *(base / "out").glob(".*.part-*"),
        *(base / "out/.records").glob("*.starts"),
    ]
    return wrong + [f"{path} remains" for path in left]


def _seconds() -> float:
    """Processor seconds of the children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(main())
