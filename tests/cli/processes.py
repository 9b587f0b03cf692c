"""The program in a process of its own, as a user starts it."""

import os
import subprocess
import sys


def vl3d(*args, cwd=None, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "vl3d_lite", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        **kwargs,
    )
