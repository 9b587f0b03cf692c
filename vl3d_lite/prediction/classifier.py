"""A cloud from its file to its written classes."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vl3d_lite.dataset.batches import SweepBatches
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.dataset.scaling import FeatureScaling, impute_constant_features
from vl3d_lite.prediction.calibration import Temperature, reliability
from vl3d_lite.prediction.class_groups import fold_spec
from vl3d_lite.prediction.inference import Inference
from vl3d_lite.prediction.outcomes import PredictedCloud
from vl3d_lite.prediction.votes import CellPrediction, mean_over_grids, predict_cells
from vl3d_lite.prediction.writing import class_column, write_prediction
from vl3d_lite.runs import provenance
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CloudPrediction:
    """What the network says of a cloud, before it is written.

    Attributes:
        prediction: As the network gave it, not calibrated.
        cell_of_point: ``(n,)`` the row of each point of the file.
        labels: ``(n,)`` int16 class index of each point; -1 ignored.
        seconds: From asking for the cloud to here; of one that was made ready
            ahead, without the reading.
        xla: Whether the network was compiled by XLA.
    """

    prediction: CellPrediction
    cell_of_point: np.ndarray
    labels: np.ndarray
    seconds: float
    xla: bool


@dataclass(frozen=True)
class Classifier:
    """A trained network, and how clouds are classified with it.

    Attributes:
        inference: The network.
        spec: The run's.
        scaling: Of its features.
        options: Of the verb.
        interrupts: Asked before every batch whether a signal came.
        temperature: That confidence is calibrated with.
        classes: How classes are joined, as `fold_spec` reads it.
    """

    inference: Inference
    spec: Spec
    scaling: FeatureScaling
    options: Options
    interrupts: Interrupts
    temperature: Temperature = field(default_factory=Temperature)
    classes: str = ""

    def sweep(
        self, source: Path, grid: int, cloud: PreparedCloud | None = None
    ) -> SweepBatches:
        """The fields of a cloud on one of its grids; it is read unless given."""
        if cloud is None:
            ahead = threading.current_thread() is not threading.main_thread()
            cloud = prepare_file(
                source,
                self.spec,
                self.options.threads,
                grid=grid,
                quiet=self.options.quiet or ahead,  # one bar at a time
                check=lambda: self.interrupts.check(
                    f"preparing {source.name} was interrupted; nothing was written"
                ),
            )
            # Every grid lacks what the first one does.
            impute_constant_features(
                source, cloud, self.spec, self.scaling, tell=grid == 0
            )
        return SweepBatches(
            cloud,
            self.spec,
            self.scaling,
            votes=self.spec.prediction.votes,
            batch_size=self.spec.prediction_batch,
            threads=self.options.threads,
        )

    def vote(
        self,
        source: Path,
        sweep: Callable[[Path, int], SweepBatches] | None = None,
        doing: str = "predicting",
    ) -> CloudPrediction:
        """What the network says of every point.

        Args:
            source: The cloud.
            sweep: Gives its fields on a grid; by default `sweep`.
            doing: Text before the progress bar.
        """
        began = time.monotonic()
        labels = None

        def grids() -> Iterator[tuple[CellPrediction, np.ndarray]]:
            nonlocal labels
            for grid in range(self.spec.prediction.grids):
                batches = (sweep or self.sweep)(source, grid)
                cloud = batches.source.prepared
                labels = cloud.point_labels
                view = self.inference.view(len(batches) * self.spec.prediction.grids)
                prediction = predict_cells(
                    view,
                    batches,
                    cloud.xyz,
                    at_once=self.inference.batches_at_once(self.options.threads),
                    interrupts=self.interrupts,
                    quiet=self.options.quiet,
                    description=f"{doing} {source.name}",
                )
                cells = cloud.cell_of_point
                del batches, cloud  # one at a time
                yield prediction, cells

        prediction, cell_of_point = mean_over_grids(grids())
        seconds = time.monotonic() - began
        return CloudPrediction(
            prediction, cell_of_point, labels, seconds, self.inference.xla
        )

    def write(
        self, source: Path, target: Path, voted: CloudPrediction
    ) -> PredictedCloud:
        """Calibrate what was said of a cloud, join its classes, and write it."""
        began = time.monotonic()
        spec, written = self.spec, self.spec
        prediction, cell_of_point = voted.prediction, voted.cell_of_point
        uncalibrated = None
        if self.temperature.value != 1 and not self.classes:  # joined are other ones
            uncalibrated = self._uncalibrated(voted)
        prediction = prediction.calibrated(self.temperature)
        if self.classes:
            written, groups = fold_spec(spec, self.classes)
            prediction = prediction.folded(groups)
        write_prediction(
            source,
            target,
            prediction,
            cell_of_point,
            written,
            replace=self.options.replace,
            overwrite=self.options.overwrite,
        )
        points = int(np.count_nonzero(prediction.voted[cell_of_point]))
        outcome = PredictedCloud(
            source=str(source.resolve()),
            output=target.name,
            points=len(cell_of_point),
            voted=points,
            nearest=len(cell_of_point) - points,
            seconds=round(voted.seconds + time.monotonic() - began, 3),
            column=class_column(spec),
            kept=list(spec.prediction.keep_codes),
            min_confidence=spec.prediction.min_confidence,
            reject_code=None
            if spec.prediction.min_confidence is None
            else written.reject_code,
            temperature=self.temperature.value,
            uncalibrated=uncalibrated,
            classes=self.classes,
            settings=spec.prediction.model_dump(exclude_unset=True),
            xla=voted.xla,
            threads=self.options.threads,
            source_sha256=provenance.file_hash(source),
            sha256=provenance.file_hash(target),
        )
        logger.info(
            "%s: %d points by votes, %d from the nearest voted cell, %.1f s",
            target,
            outcome.voted,
            outcome.nearest,
            outcome.seconds,
        )
        return outcome

    def _uncalibrated(self, voted: CloudPrediction) -> dict | None:
        """Counts of confidences as the network gave them, if they can be scored."""
        # Points that keep their code are not scored, and the code is known no more.
        kept = (
            class_column(self.spec) == "classification"
            and self.spec.prediction.keep_codes
        )
        if kept or not np.any(voted.labels >= 0):
            return None
        return reliability(
            voted.prediction.probabilities, voted.cell_of_point, voted.labels
        ).to_dict()
