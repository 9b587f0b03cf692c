"""Predict the clouds of an output folder with the workers of a cluster."""

import logging
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import vl3d_lite.errors as errors
from vl3d_lite.dataset import Departure
from vl3d_lite.errors import ResourceError, VL3DError
from vl3d_lite.pipeline.dispatch import Dispatcher
from vl3d_lite.pipeline.domain import log_departures, warn_of_no_domain
from vl3d_lite.pipeline.failures import add_error
from vl3d_lite.pipeline.opening import OpenedRun
from vl3d_lite.pipeline.worker_pool import batch_threads, worker_pool
from vl3d_lite.pipeline.worker_task import (
    MOST_STARTS,
    Job,
    Task,
    WrongWorkerError,
    absent,
    unlike,
)
from vl3d_lite.prediction import RECORDS, Outputs, PredictedCloud, Starts
from vl3d_lite.runs import Options, Workers
from vl3d_lite.system import (
    Interrupts,
    ProgressBar,
    parse_record,
    remove_leftovers,
    thread_count,
    worker_facts,
)

logger = logging.getLogger(__name__)

_WORK = ("vl3d_lite.pipeline.worker_task", "predict_task")
_HOPELESS = 3  # clouds that were given up while none was finished


def predict_on_workers(
    opened: OpenedRun, overrides: Sequence[str], outputs: Outputs, options: Options
) -> list[VL3DError]:
    """Predict the remaining clouds of a folder on workers, and record them.

    A cloud whose worker ends is predicted by another one, at most three times.

    Args:
        opened: The run.
        overrides: Changes of its spec.
        outputs: The folder, claimed and decided.
        options: Options of the command; `workers` is set.

    Returns:
        The errors of clouds that failed, first those that ended their workers. All
        but the first are logged.

    Raises:
        SpecError: The YAML file of the workers is not valid.
        ResourceError: No worker can be used, or the scheduler ended.
        InterruptedRunError: A signal came; finished clouds are recorded.
    """
    workers = options.workers
    assert workers is not None  # the caller has seen it
    job = _job(opened, overrides, outputs, options)
    tasks = [
        Task(str(source.resolve()), outputs.targets[source].name)
        for source in outputs.remaining
    ]
    warn_of_no_domain(opened.run)
    try:
        with Interrupts() as interrupts, worker_pool(workers) as client:
            dispatcher = Dispatcher(client, job.campaign, interrupts, _WORK)
            _require_usable(dispatcher, job)
            campaign = _Campaign(job, outputs, tasks, options.quiet)
            campaign.predict(dispatcher)
    finally:
        # Of workers that ended with this command.
        remove_leftovers(outputs.folder)
        remove_leftovers(outputs.folder / RECORDS)
        for task in tasks:
            Starts(outputs.folder, task.output, job.campaign).remove()
    log_departures(campaign.departures, opened.run.root.name)
    return campaign.errors()


def _job(
    opened: OpenedRun, overrides: Sequence[str], outputs: Outputs, options: Options
) -> Job:
    assert options.workers is not None
    return Job(
        campaign=secrets.token_hex(8),
        run=str(opened.run.root.resolve()),
        weights_sha256=opened.origin.weights_sha256,
        folder=str(outputs.folder.resolve()),
        claim=str(Path(str(outputs.claim)).resolve()),
        overrides=tuple(overrides),
        class_groups=opened.class_groups,
        versions=tuple(worker_facts()["versions"].items()),
        threads=_threads(options.workers, options),
        overwrite=options.overwrite,
        replace=options.replace,
    )


def _threads(workers: Workers, options: Options) -> int | None:
    """Processors of each worker; None for all of its machine."""
    if options.worker_threads is not None:
        return options.worker_threads
    if workers.cluster:
        return batch_threads(workers)
    return max(1, thread_count(None) // (workers.count or 1))


def _require_usable(dispatcher: Dispatcher, job: Job) -> None:
    """Check that the workers have the program, its versions and the folders.

    Raises:
        ResourceError: One of them does not. The message names each.
    """
    dispatcher.facts()
    texts = []
    for address, facts in dispatcher.missing([job.run, job.claim]).items():
        if not isinstance(facts, dict):
            text = f"cannot run the program ({facts}); install vl3d_lite there"
        else:
            text = unlike(facts, dict(job.versions)) or absent(facts, job)
        if text:
            texts.append(f"worker {address} {text}")
    if texts:
        raise ResourceError("\n".join(texts))


class _Campaign:
    """The progress of a campaign: records, errors and what lies outside the domain.

    Attributes:
        departures: What of each cloud lies outside the domain of the run.
    """

    def __init__(
        self, job: Job, outputs: Outputs, tasks: Sequence[Task], quiet: bool
    ) -> None:
        self.job, self.outputs, self.quiet = job, outputs, quiet
        self.tasks = {task.key: task for task in tasks}
        self.departures: dict[Path, list[Departure]] = {}
        self._errors: list[VL3DError] = []
        self._ended: list[VL3DError] = []
        self._finished = 0
        self._sent_again: Counter[str] = Counter()

    def predict(self, dispatcher: Dispatcher) -> None:
        """Send all tasks, and take their answers."""
        common = asdict(self.job)
        payloads = {
            key: {"job": common, "task": asdict(task)}
            for key, task in self.tasks.items()
        }
        with ProgressBar(
            desc="predicting",
            quiet=self.quiet,
            total=len(payloads),
            unit="cloud",
            smoothing=0,  # the time left is that of the whole campaign
        ) as bar:
            for key, answer in dispatcher.answers(payloads, self._again):
                self._take(self.tasks[key], answer)
                bar.set_postfix_str(self._failures(), refresh=False)
                bar.update()

    def errors(self) -> list[VL3DError]:
        """All errors, first those of clouds that ended their workers."""
        return [*self._ended, *self._errors]

    def _again(self, key: str) -> bool:
        """Whether a cloud only waited at workers that others ended."""
        self._sent_again[key] += 1
        began = self._starts(self.tasks[key]).count()
        # A worker that ends while it imports Keras never begins.
        return began < MOST_STARTS and self._sent_again[key] <= MOST_STARTS

    def _take(self, task: Task, answer: dict[str, Any] | None) -> None:
        answer = answer or {"ends": True, "starts": MOST_STARTS, "log": ()}
        for level, line in answer["log"]:
            logger.log(level, "%s", line)
        if answer["starts"] > 1 and "ends" not in answer:
            logger.warning(
                "warning: %s: its worker ended; %d workers began it",
                task.source,
                answer["starts"],
            )
        if "outcome" in answer:
            outcome = parse_record(answer["outcome"], PredictedCloud)
            self.outputs.outcomes[outcome.output] = outcome
            self.departures[Path(task.source)] = [
                Departure(**one) for one in answer["departures"]
            ]
            self._finished += 1
        elif "ends" in answer:
            self._give_up(task)
        else:
            self._fail(task, *answer["error"])
        self._starts(task).remove()

    def _fail(self, task: Task, kind: str, message: str) -> None:
        if kind == WrongWorkerError.__name__:
            raise ResourceError(message)
        add_error(self._errors, getattr(errors, kind, VL3DError)(message))

    def _give_up(self, task: Task) -> None:
        text = (
            f"{task.source}: ended its worker {MOST_STARTS} times, so it was given up; "
            "predict it alone to see why, on a machine with more memory or as smaller "
            "tiles"
        )
        add_error(self._ended, ResourceError(text))
        if not self._finished and len(self._ended) >= _HOPELESS:
            raise ResourceError(f"no worker finishes a cloud; {text}")

    def _starts(self, task: Task) -> Starts:
        return Starts(self.outputs.folder, task.output, self.job.campaign)

    def _failures(self) -> str:
        count = len(self._errors) + len(self._ended)
        return f"{count} failed" if count else ""
