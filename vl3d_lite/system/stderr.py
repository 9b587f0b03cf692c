"""Keep what C++ libraries write to stderr out of a user's sight."""

import contextlib
import os
import sys
from collections.abc import Iterator

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Drop what is written to the process's stderr while a block runs.

    TensorFlow writes notes about CPU features and absent GPUs before any
    setting of its own can reach it. Where the environment sets
    ``TF_CPP_MIN_LOG_LEVEL`` nothing is dropped. Exceptions pass as usual.
    """
    if LEVEL in os.environ:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.environ[LEVEL] = "2"
    try:
        yield
    finally:
        del os.environ[LEVEL]
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
