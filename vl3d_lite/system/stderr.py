"""Suppress what C++ libraries write to stderr."""

import contextlib
import os
import sys
from collections.abc import Iterator

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
STDERR = 2  # the descriptor: C++ does not write to `sys.stderr`


@contextlib.contextmanager
def silenced_stderr() -> Iterator[None]:
    """Discard what is written to the stderr of the process while a block runs.

    TensorFlow reports CPU features and absent GPUs before any setting of its own
    can be applied. Nothing is discarded where the environment variable
    ``TF_CPP_MIN_LOG_LEVEL`` is set. Exceptions propagate.
    """
    if LOG_LEVEL in os.environ:
        yield
        return
    sys.stderr.flush()
    original = os.dup(STDERR)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, STDERR)
    os.environ[LOG_LEVEL] = "2"
    try:
        yield
    finally:
        del os.environ[LOG_LEVEL]
        os.dup2(original, STDERR)
        os.close(original)
        os.close(null)
