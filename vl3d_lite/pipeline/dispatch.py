"""Send tasks to workers, a few at a time, and take their answers as they come."""

import logging
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vl3d_lite.errors import ResourceError
from vl3d_lite.system import Interrupts, call, request_stop, worker_facts

if TYPE_CHECKING:
    from distributed import Client, Future

logger = logging.getLogger(__name__)

_AHEAD = 2  # tasks that wait at the workers, beside one for each of them
_TICK = 0.5  # seconds between two looks at signals and workers
_LOOK = 5.0  # seconds for which the number of workers is not asked again
_GATHER = 60  # seconds for an answer to arrive
_STOPPING = 2  # seconds for workers that still import Keras to take a message
STOPPED = "interrupted; predict the other clouds with --resume"


class Dispatcher:
    """Sends the tasks of a campaign to the workers of a scheduler.

    Args:
        client: The client of the scheduler.
        campaign: Name of the campaign.
        interrupts: Checked for a signal twice a second.
        work: Module and name of the function that does a task, as of `call`.
    """

    def __init__(
        self,
        client: "Client",
        campaign: str,
        interrupts: Interrupts,
        work: tuple[str, str],
    ):
        self.client, self.campaign = client, campaign
        self.interrupts, self.work = interrupts, work
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._flying: dict[str, tuple[Future, str]] = {}
        self._looked, self._count, self._sent = 0.0, 0, 0

    def facts(self) -> dict[str, dict | BaseException]:
        """Wait for a worker, and ask each for its `worker_facts`.

        Returns:
            The facts by the address of the worker; the error of one that has none.

        Raises:
            InterruptedRunError: A signal came.
            ResourceError: The scheduler has ended.
        """
        began, waits = time.monotonic(), False
        while not self._workers():
            if not waits and time.monotonic() - began > _LOOK:
                logger.info("waiting for the first worker")
                waits = True
            self._check()
            time.sleep(_TICK)
            self._looked = 0.0
        return self._run(worker_facts)

    def missing(self, paths: list[str]) -> dict[str, dict | BaseException]:
        """The `worker_facts` of each worker, with those of some paths it lacks."""
        return self._run(worker_facts, paths)

    def answers(
        self, payloads: Mapping[str, dict], again: Callable[[str], bool]
    ) -> Iterator[tuple[str, dict | None]]:
        """Send all tasks, at most two more than there are workers at a time.

        Args:
            payloads: The payload of each task, by its key.
            again: Whether a task is sent again whose workers ended.

        Yields:
            Key and answer of each task, as they come; None where its workers ended.

        Raises:
            InterruptedRunError: A signal came.
            ResourceError: The scheduler has ended, or a worker lacks the program.
        """
        waiting = deque(payloads)
        try:
            while waiting or self._flying:
                while waiting and len(self._flying) < self._workers() + _AHEAD:
                    key = waiting.popleft()
                    self._send(key, payloads[key])
                self._check()
                with suppress(queue.Empty):
                    key, answer = self._take(self._done.get(timeout=_TICK))
                    if answer is None and again(key):
                        waiting.appendleft(key)
                    elif key:
                        yield key, answer
        except BaseException:
            self._stop()
            raise

    def _send(self, key: str, payload: dict) -> None:
        self._sent += 1
        future = self.client.submit(
            call,
            *self.work,
            payload,
            key=f"vl3d-{self.campaign}-{self._sent}",
            pure=False,
        )
        self._flying[str(future.key)] = future, key
        future.add_done_callback(self._done.put)

    def _take(self, future: "Future") -> tuple[str, dict | None]:
        """Key and answer of a task; an empty key where the answer is still to come."""
        from distributed import KilledWorker

        _, key = self._flying[str(future.key)]
        answer = None
        try:
            answer = future.result(timeout=_GATHER)
        except KilledWorker:
            pass
        except TimeoutError:
            if future.status == "error":
                raise  # the error of the task itself
            # Its worker ended before the answer had arrived, so it is done again.
            future.add_done_callback(self._done.put)
            return "", {}
        except (ImportError, AttributeError) as error:
            raise ResourceError(
                f"a worker cannot run the program ({error}); install the same version "
                "of vl3d_lite there"
            ) from error
        except Exception:
            self._check(ended=future.status in ("cancelled", "lost"))
            raise
        # At once: an answer that a worker still holds is computed again if it ends.
        del self._flying[str(future.key)]
        future.release()
        return key, answer

    def _workers(self) -> int:
        if time.monotonic() - self._looked > _LOOK or not self._count:
            with suppress(OSError, RuntimeError):
                self._count = len(self.client.nthreads())
            self._looked = time.monotonic()
        return self._count

    def _check(self, *, ended: bool = False) -> None:
        self.interrupts.check(STOPPED)
        if ended or self.client.status in ("closed", "closing"):
            raise ResourceError(
                "the scheduler of the workers has ended; start it again, and predict "
                "the other clouds with --resume"
            )

    def _run(self, function: Callable, *arguments: Any) -> dict[str, Any]:
        return self.client.run(function, *arguments, on_error="return")

    def _stop(self) -> None:
        """End the tasks: those that wait now, those that run at a safe point."""
        with suppress(Exception):
            self.client.cancel([future for future, _ in self._flying.values()])
            self.client.sync(
                self.client._run,
                request_stop,
                self.campaign,
                on_error="ignore",
                callback_timeout=_STOPPING,
            )
        self._flying.clear()
