"""Signals at random moments: `python -m tests.signals --count N --seed S`.

Half of the trials send SIGTERM or SIGINT to `run`, `predict` or `evaluate`, half send
SIGKILL to any command. A trial is wrong where the process does not end within 10 s
with 143 or 130 and a message, where it leaves a traceback or a draft, or where the
command does not go on to results equal bit for bit to those without a signal.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.signals.trials import add_twin, make_room, reference, trial
from tests.signals.verbs import LONG, VERBS


def main() -> int:
    """Run the trials; 1 where something was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.signals", description=__doc__
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", choices=VERBS, help="only this command")
    parser.add_argument(
        "--base", type=Path, help="folder of clouds, spec.yaml, run and twin"
    )
    args = parser.parse_args()
    room = Path(tempfile.mkdtemp(prefix="signals_"))
    if args.base:  # instead of training them
        shutil.copytree(args.base, room / "base")
    else:
        make_room(room)
    known: dict = {}
    wrong = 0
    for count in range(args.count):
        rng = np.random.default_rng([args.seed, count])
        names = list(LONG if count % 2 else VERBS)
        name = args.verb or names[rng.integers(len(names))]
        both = [signal.SIGTERM, signal.SIGINT]
        number = both[rng.integers(2)] if count % 2 else signal.SIGKILL
        if name not in known:
            if VERBS[name].needs_twin:
                add_twin(room)
            known[name] = reference(room, name)
        expected, seconds = known[name]
        after = rng.uniform(0, seconds)
        problem = trial(room, name, number, after, expected)
        wrong += bool(problem)
        moment = f"{name}, {number.name} after {after:.2f} of {seconds:.2f} s"
        print(f"{count}: {moment}: {problem or 'right'}", flush=True)
    print(f"{args.count} signals, {wrong} wrong, files in {room}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
