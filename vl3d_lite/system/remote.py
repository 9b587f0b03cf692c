"""What workers of a cluster run by name, before they import anything heavy.

Dask loads a function in the thread that sends heartbeats, where importing Keras would
take too long. So it gets a function of this module, which imports the work in the
thread of the task.
"""

import importlib
import os
import socket
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vl3d_lite.system.stderr import silenced_stderr
from vl3d_lite.system.version import __version__

# Campaigns whose tasks are to end at their next safe point.
STOPPED: set[str] = set()


def call(module: str, function: str, payload: dict) -> dict:
    """Call a function of a module, which is imported now.

    Args:
        module: Its dotted name.
        function: The name of the function.
        payload: Its argument.
    """
    with silenced_stderr():
        loaded = importlib.import_module(module)
    return getattr(loaded, function)(payload)


def worker_facts(paths: Sequence[str] = ()) -> dict:
    """What a worker and the command that sends it work must agree on.

    Args:
        paths: Paths that the worker needs.

    Returns:
        ``host``; ``versions`` of vl3d_lite, Keras and its backend, by name; and
        ``missing``, those of the paths that do not exist there.
    """
    return {
        "host": socket.gethostname(),
        "versions": {
            "vl3d_lite": __version__,
            "keras": _version("keras"),
            "backend of Keras": os.environ.get("KERAS_BACKEND", "") or "tensorflow",
        },
        "missing": [path for path in paths if not Path(path).exists()],
    }


def request_stop(campaign: str) -> None:
    """Make the tasks of a campaign end at their next safe point."""
    STOPPED.add(campaign)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
