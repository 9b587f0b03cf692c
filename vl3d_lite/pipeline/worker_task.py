"""What a worker does: predict one cloud, and answer with its record.

The unit of work is a `Task`, for now a whole file. Job, task and answer travel as plain
dictionaries, so that Dask imports nothing of this package outside a task's thread.
"""

import json
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vl3d_lite.dataset import Domain, compare_clouds, read_domain
from vl3d_lite.errors import DataError, ResourceError, SpecError, VL3DError
from vl3d_lite.pipeline.opening import OpenedRun, open_to_predict
from vl3d_lite.prediction import (
    Classifier,
    PredictedCloud,
    Starts,
    announce,
    keep,
    settle,
)
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.system import (
    STOPPED,
    Interrupts,
    is_out_of_memory,
    thread_count,
    worker_facts,
)

MOST_STARTS = 3  # a cloud that ends its worker as often is given up
_MOST_LINES = 20  # log messages of a task that are sent to the command


@dataclass(frozen=True)
class Job:
    """What the tasks of a campaign have in common.

    Attributes:
        campaign: Its name, which no other campaign has.
        run: Absolute path of the run folder.
        weights_sha256: SHA-256 of the weights of the run.
        folder: Absolute path of the folder of the outputs.
        claim: The file by which the command claims the outputs; it exists on the
            workers if they share the folder, and until the command ends.
        overrides: Changes of the spec, ``key=value`` each.
        class_groups: The groups that classes are merged into; empty for none.
        versions: As `worker_facts` of the command.
        threads: Processors of each worker; None for all of its machine.
        overwrite: Replace existing outputs.
        replace: Replace dimensions of the same name in the input.
    """

    campaign: str
    run: str
    weights_sha256: str
    folder: str
    claim: str
    overrides: tuple[str, ...]
    class_groups: str
    versions: tuple[tuple[str, str], ...]
    threads: int | None
    overwrite: bool
    replace: bool


@dataclass(frozen=True)
class Task:
    """The unit of work: one file.

    Attributes:
        source: Absolute path of the cloud.
        output: File name of the classified copy.
    """

    source: str
    output: str

    @property
    def key(self) -> str:
        """Its name among the tasks of a campaign."""
        return self.output


class WrongWorkerError(ResourceError):
    """A worker that no task of the campaign can use."""


class _Stop(Interrupts):
    """Interrupts that the command sends instead of the operating system."""

    def __init__(self, campaign: str) -> None:
        super().__init__()
        self.campaign = campaign

    @property
    def received(self) -> signal.Signals | None:
        return signal.SIGTERM if self.campaign in STOPPED else None

    @received.setter
    def received(self, number: signal.Signals) -> None:
        STOPPED.add(self.campaign)


class _Loaded:
    """The network of a job in the memory of this worker."""

    def __init__(self, job: Job) -> None:
        run = RunFolder(Path(job.run))
        self.opened: OpenedRun = open_to_predict(run, job.overrides, job.class_groups)
        if self.opened.origin.weights_sha256 != job.weights_sha256:
            raise WrongWorkerError(f"{job.run}: {_here()} holds another model there")
        self.threads = thread_count(job.threads)
        options = Options(
            self.threads, quiet=True, overwrite=job.overwrite, replace=job.replace
        )
        self.outside: dict[Path, list[str]] = {}
        self.domain: Domain | None = read_domain(run.recorded_domain())
        self.classifier: Classifier = self.opened.classifier(
            options, _Stop(job.campaign), self.outside
        )


_LOADED: dict[Job, _Loaded] = {}  # of the last job alone
_ONE_TASK = threading.Lock()


def predict_task(payload: dict) -> dict:
    """Predict the cloud of a task.

    Args:
        payload: ``job`` and ``task``, as dictionaries.

    Returns:
        ``outcome``, the record as JSON, with ``departures`` from the domain
        of the run; or ``error``, the name of its class and its message; or ``ends``
        where the cloud ended too many workers. Always ``starts``, how many workers
        began it, and ``log``, messages with their levels.
    """
    job, task = Job(**payload["job"]), Task(**payload["task"])
    starts = Starts(Path(job.folder), task.output, job.campaign)
    with _ONE_TASK, _logged() as lines:
        try:
            answer = _answer(job, task, starts)
        except VL3DError as error:
            answer = {"error": (type(error).__name__, str(error))}
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            text = f"{task.source}: memory does not suffice on {_here()}"
            answer = {"error": (ResourceError.__name__, text)}
        return {**answer, "starts": starts.count(), "log": lines}


def _answer(job: Job, task: Task, starts: Starts) -> dict:
    source, folder = Path(task.source), Path(job.folder)
    _require_usable(job, task)
    began = starts.count()
    if began and (done := _finished(job, task)):
        return {"outcome": _text(done), "departures": []}
    if began >= MOST_STARTS:
        return {"ends": True}
    starts.add()  # before the network is loaded, which may end the worker as well
    if job not in _LOADED:
        _LOADED.clear()
        _LOADED[job] = _Loaded(job)
    loaded = _LOADED[job]
    departures = []
    if loaded.domain is not None:
        spec = loaded.opened.spec
        found = compare_clouds(loaded.domain, [source], spec, loaded.threads)
        departures = found.get(source, [])
    loaded.outside.clear()
    loaded.outside[source] = [one.quantity for one in departures]
    predicted = loaded.classifier.vote(source)
    try:
        outcome = loaded.classifier.write(
            source, folder / task.output, predicted, lambda made: announce(folder, made)
        )
    except SpecError:
        # Another worker, thought dead, has finished it meanwhile.
        if done := _finished(job, task):
            return {"outcome": _text(done), "departures": []}
        raise
    keep(folder, outcome.output)
    return {
        "outcome": _text(outcome),
        "departures": [asdict(one) for one in departures],
    }


def _text(outcome: PredictedCloud) -> str:
    return json.dumps(asdict(outcome), allow_nan=False)


def _finished(job: Job, task: Task) -> PredictedCloud | None:
    """The record of an output that another worker of this campaign finished."""
    return settle(Path(job.folder), task.output, recorded=not job.overwrite)


def _require_usable(job: Job, task: Task) -> None:
    """Check that this worker sees what the command sees."""
    if job.campaign in STOPPED:
        raise WrongWorkerError("the campaign was stopped")
    facts = worker_facts([job.run, job.claim])
    text = unlike(facts, dict(job.versions)) or absent(facts, job)
    if text:
        raise WrongWorkerError(f"{_here()} {text}")
    if not Path(task.source).is_file():
        raise DataError(
            f"{task.source}: {_here()} finds no such file; mount its folder there "
            "under the same path"
        )


def unlike(facts: dict, versions: dict[str, str]) -> str:
    """How the versions of a worker differ from those of the command; empty if not."""
    texts = [
        f"{name} {facts['versions'].get(name, 'none')} instead of {version}"
        for name, version in versions.items()
        if facts["versions"].get(name) != version
    ]
    if not texts:
        return ""
    return f"has {', '.join(texts)}; install the same versions there"


def absent(facts: dict, job: Job) -> str:
    """Which folders of a job a worker does not find; empty if it finds all."""
    names = {job.run: job.run, job.claim: job.folder}
    missing = [names[path] for path in facts["missing"]]
    if not missing:
        return ""
    return f"does not share {' and '.join(missing)}; mount them under the same path"


def _here() -> str:
    return f"the worker on {worker_facts()['host']}"


@contextmanager
def _logged() -> Iterator[list[tuple[int, str]]]:
    """Collect the messages of a block, which nobody reads here."""
    lines: list[tuple[int, str]] = []

    class _Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(lines) < _MOST_LINES:
                lines.append((record.levelno, record.getMessage()))

    logger, handler = logging.getLogger("vl3d_lite"), _Lines()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
