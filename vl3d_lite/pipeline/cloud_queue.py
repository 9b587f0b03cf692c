"""Clouds predicted one after the other: read ahead, written behind."""

import contextlib
import functools
import logging
from concurrent.futures import Future
from pathlib import Path

from vl3d_lite.dataset import SweepBatches, fits_beside
from vl3d_lite.errors import InterruptedRunError, VL3DError
from vl3d_lite.pipeline.failures import add_error, collected
from vl3d_lite.prediction import Classifier, CloudPrediction, Outputs
from vl3d_lite.system import LookAhead

logger = logging.getLogger(__name__)

CONTINUE = "interrupted; predict the other clouds with --resume"

Sweeps = LookAhead[tuple[Path, int], SweepBatches]


class CloudQueue:
    """Predicts the remaining clouds of an output folder, and records each of them.

    With several threads the next cloud is read, and the last one written, while the
    network predicts the current one.

    Args:
        classifier: The network.
        outputs: The output folder.
    """

    def __init__(self, classifier: Classifier, outputs: Outputs):
        self.classifier, self.outputs = classifier, outputs
        self._beside = classifier.options.threads > 1
        self._errors: list[VL3DError] = []
        self._writing: list[Future] = []

    def predict(self) -> list[VL3DError]:
        """Predict all clouds.

        Returns:
            The errors of clouds that failed, in the order of the clouds. All but the
            first are logged.

        Raises:
            InterruptedRunError: A signal came; finished clouds are recorded.
        """
        spec = self.classifier.spec
        keys = [
            (path, grid)
            for path in self.outputs.remaining
            for grid in range(spec.prediction.grids)
        ]
        with LookAhead(
            lambda key: self.classifier.sweep(*key),
            keys,
            lambda key: self._beside and fits_beside(key[0], spec),
        ) as sweeps:
            try:
                for path in self.outputs.remaining:
                    self._predict_cloud(path, sweeps)
                    self._finish_writing(pending=1)
                    self.classifier.interrupts.check(CONTINUE)
                self._finish_writing()
                self.classifier.interrupts.check(CONTINUE)
            except BaseException as error:
                with contextlib.suppress(InterruptedRunError):
                    self._finish_writing()
                if isinstance(error, InterruptedRunError):
                    for first in self._errors[:1]:  # the others are logged already
                        logger.error("%s", first)
                raise
        return self._errors

    def _predict_cloud(self, path: Path, sweeps: Sweeps) -> None:
        """Predict a cloud, and write it now or in the background."""

        def take(path: Path, grid: int) -> SweepBatches:
            return sweeps.take((path, grid))

        try:
            predicted = self.classifier.vote(path, take)
            write = functools.partial(self._write, path, predicted)
            # After a signal nothing may wait behind the next cloud.
            if self._beside and self.classifier.interrupts.received is None:
                self._writing.append(sweeps.defer(write))
            else:
                self._finish_writing()
                write()
        except InterruptedRunError:
            raise
        except VL3DError as error:
            self._finish_writing()  # errors are in the order of the clouds
            add_error(self._errors, error)

    def _write(self, path: Path, predicted: CloudPrediction) -> None:
        target = self.outputs.targets[path]
        announce = self.outputs.announce
        outcome = self.classifier.write(path, target, predicted, announce)
        self.outputs.record(outcome)

    def _finish_writing(self, pending: int = 0) -> None:
        """Wait until at most `pending` clouds are being written."""
        while len(self._writing) > pending:
            with collected(self._errors):
                self._writing.pop(0).result()
