"""Workers of Dask: processes of this machine, a scheduler that runs, a batch system."""

import importlib
import logging
import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vl3d_lite.errors import ResourceError, SpecError
from vl3d_lite.runs import Workers
from vl3d_lite.system import gpu_names, has_gpu, read_text

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)

_PATIENCE = 30  # seconds to reach a scheduler
# Seconds for workers to end: at the end of a command, and after an error or a signal,
# which must end within 8.
_CLOSING, _STOPPING = 20, 2
# Workers that a cloud ends are counted by `worker_task`. Dask counts clouds that only
# waited on such a worker as well, so its own limit must come later.
_SETTINGS = {"distributed.scheduler.allowed-failures": 5}
SYSTEMS = ("slurm", "pbs", "lsf", "sge", "htcondor", "oar", "moab", "local")


@contextmanager
def worker_pool(workers: Workers) -> Iterator["Client"]:
    """Start or join workers for a block.

    Args:
        workers: Which ones.

    Yields:
        The client of their scheduler. Workers may still be starting.

    Raises:
        SpecError: The YAML file is not valid.
        DataError: It cannot be read.
        ResourceError: The scheduler cannot be reached, or jobs cannot be submitted.
    """
    import dask
    from distributed import Client

    with _quiet(), dask.config.set(_SETTINGS):
        cluster = None
        try:
            if workers.joins:
                client = Client(
                    workers.cluster, timeout=_PATIENCE, set_as_default=False
                )
            else:
                cluster = _batch(workers) if workers.cluster else _local(workers)
                client = Client(cluster, timeout=_PATIENCE, set_as_default=False)
        except (OSError, RuntimeError) as error:
            raise ResourceError(
                f"{workers.cluster or 'workers'}: no Dask scheduler can be reached "
                f"({str(error) or type(error).__name__}); check the address, and that "
                "the scheduler runs"
            ) from error
        _log_dashboard(client)
        patience = _STOPPING
        try:
            yield client
            patience = _CLOSING
        finally:
            if cluster is not None and patience == _STOPPING:
                _kill_processes(cluster)
            with suppress(Exception):  # a scheduler that has ended
                client.close(timeout=patience)
            if cluster is not None:
                with suppress(Exception):
                    cluster.close(timeout=patience)


def local_devices(count: int) -> list[dict[str, str]]:
    """The environment of each local worker: one GPU each, where there are GPUs.

    Args:
        count: Number of workers.
    """
    if not has_gpu():
        return [{} for _ in range(count)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(len(gpu_names()))]
    if visible is not None:
        names = [name.strip() for name in visible.split(",") if name.strip()]
    if count > len(names):
        logger.warning(
            "warning: %d workers: uses %d, one for each GPU", count, len(names)
        )
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:count]]


def _local(workers: Workers) -> Any:
    from distributed import Nanny, Scheduler, SpecCluster

    # Only this machine reaches them. The guard of memory is that of the commands.
    own = {"host": "127.0.0.1", "nthreads": 1, "memory_limit": 0}
    quiet = {"silence_logs": logging.CRITICAL}
    return SpecCluster(
        workers={
            number: {"cls": Nanny, "options": {**own, **quiet, "env": env}}
            for number, env in enumerate(local_devices(workers.count or 1))
        },
        scheduler={
            "cls": Scheduler,
            "options": {
                "host": "127.0.0.1",
                "port": 0,
                "dashboard_address": "127.0.0.1:0",
            },
        },
    )


def _kill_processes(cluster: Any) -> None:
    """End the workers of this machine at once, whatever they are doing.

    One that imports Keras takes no message for seconds, and would outlive the command.
    """
    for worker in cluster.workers.values():
        with suppress(Exception):  # it is starting, ending, or no process of ours
            worker.close_gracefully()  # or it starts another one
            os.kill(worker.process.pid, signal.SIGKILL)


def _batch(workers: Workers) -> Any:
    """A cluster of dask-jobqueue, as a YAML file describes it."""
    path = Path(workers.cluster)
    settings = read_batch_file(path)
    system, jobs = settings.pop("system"), workers.count or settings.pop("workers", 1)
    settings.pop("workers", None)
    kind = batch_class(system)
    _require_command(path, kind)
    extra = [*settings.pop("worker_extra_args", []), "--nthreads", "1"]
    try:
        cluster: Any = kind(worker_extra_args=extra, **settings)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"{path}: dask-jobqueue does not accept it ({error}); its documentation "
            f"lists the options of {kind.__name__}"
        ) from error
    try:
        cluster.scale(n=jobs)
        cluster.sync(cluster._correct_state)  # until all jobs are submitted
    except Exception as error:
        with suppress(Exception):
            cluster.close(timeout=_STOPPING)
        raise ResourceError(
            f"{path}: jobs cannot be submitted to {system} ({error}); run the command "
            "where jobs can be submitted, and check the options"
        ) from error
    return cluster


def _require_command(path: Path, kind: Any) -> None:
    """Check that the command that submits jobs exists."""
    command = getattr(kind.job_cls, "submit_command", None)
    if command and shutil.which(shlex.split(command)[0]) is None:
        raise ResourceError(
            f"{path}: `{command}` is not found; run vl3d-lite where jobs can be "
            "submitted, or correct `system`"
        )


def batch_class(system: str) -> Any:
    """The class of dask-jobqueue for a batch system, by its name in lower case."""
    module = importlib.import_module(f"dask_jobqueue.{system}")
    return {name.lower(): value for name, value in vars(module).items()}[
        f"{system}cluster"
    ]


def read_batch_file(path: Path) -> dict[str, Any]:
    """Read the YAML file of a batch system.

    Returns:
        ``system``, and the options of dask-jobqueue.

    Raises:
        SpecError: It is no mapping, or names no system that is known.
        DataError: It cannot be read.
    """
    try:
        settings = yaml.safe_load(read_text(path, "name a YAML file for dask-jobqueue"))
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise SpecError(f"{path}: is not valid YAML ({line})") from error
    if not isinstance(settings, dict) or settings.get("system") not in SYSTEMS:
        raise SpecError(
            f"{path}: must be a mapping with `system`, one of {', '.join(SYSTEMS)}, "
            "and options of dask-jobqueue such as `cores`, `memory` and `queue`"
        )
    count = settings.get("workers", 1)
    if not isinstance(count, int) or count < 1:
        raise SpecError(f"{path}: `workers` must be at least 1. Received: {count}")
    return settings


def batch_threads(workers: Workers) -> int | None:
    """Processors of each worker, by the YAML file; None where there is none."""
    if not workers.cluster or workers.joins:
        return None
    settings = read_batch_file(Path(workers.cluster))
    cores, processes = settings.get("cores"), settings.get("processes", 1)
    if isinstance(cores, int) and isinstance(processes, int) and processes > 0:
        return max(1, cores // processes)
    return None


def _log_dashboard(client: "Client") -> None:
    with suppress(Exception):  # a scheduler without one
        address = client.dashboard_link
        missing = "" if importlib.util.find_spec("bokeh") else " (its pages need bokeh)"
        logger.info("dashboard of the workers: %s%s", address, missing)


def _top(name: str) -> str:
    return name.split(".")[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the messages of Dask to itself: what they mean is reported elsewhere.

    After an error Dask may still be closing, so its messages stay off. Workers that are
    killed at a signal leave a semaphore, of which Python would warn at its end.
    """
    options = os.environ.get("PYTHONWARNINGS")
    tracker = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = f"{options},{tracker}" if options else tracker
    names = {"distributed", "dask_jobqueue", "tornado", "bokeh", "asyncio"}
    # Dask gives some loggers of its modules a level of their own.
    inner = {name for name in logging.root.manager.loggerDict if _top(name) in names}
    loggers = [logging.getLogger(name) for name in sorted(names | inner)]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    yield
    for one, level in zip(loggers, before, strict=True):
        one.setLevel(level)
    if options is None:
        del os.environ["PYTHONWARNINGS"]
    else:
        os.environ["PYTHONWARNINGS"] = options
