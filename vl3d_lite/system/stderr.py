"""Suppress what C++ libraries write to stderr."""

import contextlib
import os
import sys
from collections.abc import Iterator

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ASKS_FOR_MESSAGES = {"0", "1"}
STDERR = 2  # the descriptor: C++ does not write to `sys.stderr`


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Discard what is written to the stderr of the process while a block runs.

    TensorFlow reports CPU features and absent GPUs before any setting of its own
    can be applied, in part whatever ``TF_CPP_MIN_LOG_LEVEL`` is. Nothing is discarded
    where this environment variable asks for messages: 0 or 1. Exceptions propagate.
    """
    level = os.environ.get(LOG_LEVEL)
    if level in ASKS_FOR_MESSAGES:
        yield
        return
    sys.stderr.flush()
    original = os.dup(STDERR)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDERR)
    os.environ.setdefault(LOG_LEVEL, "2")
    try:
        yield
    finally:
        if level is None:
            del os.environ[LOG_LEVEL]
        os.dup2(original, STDERR)
        os.close(original)
        os.close(null)
