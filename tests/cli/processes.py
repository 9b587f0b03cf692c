"""The program in a process, of its own or of a server, and in the one of the tests."""

import multiprocessing
import os
import subprocess
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from vl3d_lite.cli import app

SERVER = multiprocessing.get_context("forkserver")
# Most of the processor time of a short command; TensorFlow has computed nothing yet.
SERVER.set_forkserver_preload(["keras", "tensorflow", "vl3d_lite.pipeline.train"])


def vl3d(*args, cwd=None, **kwargs):
    """Run the program as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "vl3d_lite", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        env={k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"},
        **kwargs,
    )


def start(errors: Path, *args) -> BaseProcess:
    """Start the program in a fork of a server that has imported Keras.

    Args:
        errors: The file of its stderr.
        args: The words of the command.
    """
    process = SERVER.Process(target=_run, args=(errors, [*map(str, args)]))
    process.start()
    return process


def _run(errors: Path, words: list[str]) -> None:
    from vl3d_lite.__main__ import main

    with open(os.devnull, "w") as null, open(errors, "w") as file:
        os.dup2(null.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["vl3d-lite", *words]
    main()


def end(process: BaseProcess) -> int:
    """Wait for the end of a process; kill it where it hangs."""
    process.join(900)  # seconds; the machine may be very busy
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode


def exit_code(*args) -> int:
    """Run the program in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vl3d-lite", *map(str, args)])
        try:
            app.main()
        except SystemExit as left:
            return left.code or 0
    return 0
