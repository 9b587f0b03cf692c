"""Try hostile inputs: `python -m tests.fuzz KINDS --count N --seed S`.

An input is wrong where it leaves a traceback, an exit code of an internal error, a
message that is missing, too long or steers the terminal, a changed input, an output
after an error, or where it hangs or ends the process. Each depends on seed and number
alone; `--only NUMBER` repeats one and keeps its files.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.harness import SECONDS, fuzz
from tests.fuzz.kinds import KINDS
from vl3d_lite.cli import app  # noqa: F401 - once, instead of in each child


def main() -> int:
    """Run the fuzzer; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=[*KINDS, "all"])
    parser.add_argument("--count", type=int, default=100, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="repeat one input")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one input")
    parser.add_argument("--base", type=Path, help="folder of run, clouds and spec.yaml")
    args = parser.parse_args()
    # Children inherit it: TensorFlow's notes would hide the findings.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    numbers = range(args.count)
    if args.only is not None:
        numbers = range(args.only, args.only + 1)
    found = 0
    for name in KINDS if "all" in args.kinds else args.kinds:
        began = time.monotonic()
        room = Path(tempfile.mkdtemp(prefix=f"fuzz_{name}_"))
        if args.base:  # instead of training a run
            shutil.copytree(args.base, room / "shared")

        def report(number, text, name=name):
            print(f"--- {name} {number} of seed {args.seed}\n{text}", flush=True)

        result = fuzz(KINDS[name], numbers, args.seed, room, args.seconds, report)
        if args.only is not None:
            print(f"files in {room}", *result.messages, sep="\n---\n")
        found += len(result.findings)
        seconds = time.monotonic() - began
        codes = ", ".join(f"{c}: {n}" for c, n in sorted(result.codes.items()))
        if not result.findings and args.only is None:
            shutil.rmtree(room)
        print(
            f"{name}: {result.inputs} inputs, {len(result.findings)} findings, "
            f"{seconds:.0f} s, exit codes {{{codes}}}",
            flush=True,
        )
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
