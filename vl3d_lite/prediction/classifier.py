"""From the file of a cloud to a copy with predicted classes."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vl3d_lite.dataset import (
    FeatureScaling,
    PreparedCloud,
    SweepBatches,
    exact_labels,
    impute_constant_features,
    prepare_file,
)
from vl3d_lite.prediction.calibration import Temperature, reliability
from vl3d_lite.prediction.class_groups import group_classes
from vl3d_lite.prediction.inference import Inference
from vl3d_lite.prediction.origin import Origin
from vl3d_lite.prediction.outcomes import PredictedCloud
from vl3d_lite.prediction.source_hash import require_same, source_hash
from vl3d_lite.prediction.votes import CellPrediction, mean_over_grids, predict_cells
from vl3d_lite.prediction.writing import (
    check_additions,
    class_column,
    class_totals,
    write_prediction,
)
from vl3d_lite.runs import Options
from vl3d_lite.spec import Spec
from vl3d_lite.system import Interrupts, file_hash

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CloudPrediction:
    """The prediction of a cloud, before it is calibrated and written.

    Attributes:
        prediction: The prediction of each cell, as the network gave it.
        cell_of_point: ``(n,)`` int, the cell of each point of the file; of an
            excluded point the nearest cell.
        labels: ``(n,)`` int16, class index of each point; -1 where it has none.
        seconds: From asking for the cloud to its prediction. Of a cloud that was
            prepared ahead, without the reading.
        xla: Whether XLA compiled the network.
        excluded: ``(n,)`` bool, points that the network did not see; None for none.
        source_sha256: SHA-256 of the file as it was read; empty where it was
            prepared elsewhere.
    """

    prediction: CellPrediction
    cell_of_point: np.ndarray
    labels: np.ndarray
    seconds: float
    xla: bool
    excluded: np.ndarray | None = None
    source_sha256: str = ""


@dataclass(frozen=True)
class Classifier:
    """A trained network, and how it classifies clouds.

    Attributes:
        inference: The network.
        spec: The spec of its run.
        scaling: The scaling of its features.
        options: `threads`, `quiet`, `replace` and `overwrite`.
        interrupts: Checked before every batch for a signal.
        temperature: The calibration.
        class_groups: The groups to merge classes into, as `group_classes` reads
            them; empty for none.
        origin: What the predictions are made with; each output names it.
        outside_domain: For clouds outside the domain of the run what lies outside.
        read_hashes: SHA-256 of the files that were read and are being predicted.
    """

    inference: Inference
    spec: Spec
    scaling: FeatureScaling
    options: Options
    interrupts: Interrupts
    temperature: Temperature = field(default_factory=Temperature)
    class_groups: str = ""
    origin: Origin | None = None
    outside_domain: Mapping[Path, Sequence[str]] = field(default_factory=dict)
    read_hashes: dict[Path, str] = field(default_factory=dict)

    @functools.cached_property
    def _grouping(self) -> tuple[Spec, list[list[int]] | None]:
        """The spec of the classes that are written, and the groups; None for none."""
        if not self.class_groups:
            return self.spec, None
        return group_classes(self.spec, self.class_groups)

    def sweep(
        self, source: Path, grid: int, cloud: PreparedCloud | None = None
    ) -> SweepBatches:
        """The fields that cover a cloud on one of its grids.

        Args:
            source: The file of the cloud.
            grid: Number of the grid, from 0.
            cloud: The cloud prepared on this grid; by default it is read.

        Raises:
            DataError: The cloud cannot be used.
            ResourceError: It does not fit into memory.
            InterruptedRunError: A signal came.
        """
        if cloud is None:
            if grid == 0:
                # Of what is no cloud, or has no room for the result, nothing is read.
                check_additions(source, self._grouping[0], replace=self.options.replace)
                self.read_hashes[source] = source_hash(source, known=True)
            ahead = threading.current_thread() is not threading.main_thread()
            cloud = prepare_file(
                source,
                self.spec,
                self.options.threads,
                grid=grid,
                # The bar of the cloud that is being predicted is on the terminal.
                quiet=self.options.quiet or ahead,
                check=lambda: self.interrupts.check(
                    f"preparing {source.name} was interrupted; nothing was written"
                ),
            )
            # All grids of a cloud lack the same features, so one warning suffices.
            cloud = impute_constant_features(
                source, cloud, self.spec, self.scaling, warn=grid == 0
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
        action: str = "predicting",
    ) -> CloudPrediction:
        """Predict every point of a cloud.

        Args:
            source: The file of the cloud.
            sweep: Returns its fields on a grid; by default the method `sweep`.
            action: Text before the name of the cloud in progress bar and messages.

        Raises:
            DataError: The cloud cannot be used, or an output is not finite.
            ResourceError: The cloud does not fit into memory.
            InterruptedRunError: A signal came.
        """
        began = time.monotonic()
        grids = self._grids(source, sweep or self.sweep, f"{action} {source.name}")
        same: list = []  # labels and excluded points, the same on every grid

        def parts() -> Iterator[tuple[CellPrediction, np.ndarray]]:
            for prediction, cell_of_point, *same[:] in grids:
                yield prediction, cell_of_point

        prediction, cell_of_point = mean_over_grids(parts())
        seconds = time.monotonic() - began
        labels, excluded = same
        return CloudPrediction(
            prediction,
            cell_of_point,
            labels,
            seconds,
            self.inference.xla,
            excluded,
            source_sha256=self.read_hashes.pop(source, ""),
        )

    def _grids(
        self,
        source: Path,
        sweep: Callable[[Path, int], SweepBatches],
        description: str,
    ) -> Iterator[tuple[CellPrediction, np.ndarray, np.ndarray, np.ndarray | None]]:
        """For each grid its prediction, the points' cells and labels, and the mask."""
        grids = self.spec.prediction.grids
        for grid in range(grids):
            batches = sweep(source, grid)
            cloud = batches.source.prepared
            view = self.inference.view(len(batches) * grids)
            prediction = predict_cells(
                view,
                batches,
                cloud.xyz,
                at_once=self.inference.batches_at_once(self.options.threads),
                interrupts=self.interrupts,
                quiet=self.options.quiet,
                description=description,
            )
            cell_of_point, labels = cloud.cell_of_point, cloud.point_labels
            excluded = cloud.excluded
            del batches, cloud  # or two prepared grids would be in memory at once
            yield prediction, cell_of_point, labels, excluded

    def write(
        self,
        source: Path,
        target: Path,
        predicted: CloudPrediction,
        announce: Callable[[PredictedCloud], None] = lambda outcome: None,
    ) -> PredictedCloud:
        """Calibrate the prediction of a cloud, merge its classes, and write it.

        Args:
            source: The file of the cloud.
            target: Its copy with the predicted dimensions.
            predicted: What `vote` returned.
            announce: Called with the record when the copy is complete and gets its
                name next.

        Returns:
            The record of the predicted cloud.

        Raises:
            DataError: The cloud has a dimension of the same name, or its file was
                replaced while it was predicted.
            ResourceError: The target cannot be written.
        """
        began = time.monotonic()
        spec, groups = self._grouping
        prediction = predicted.prediction.calibrated(self.temperature)
        if groups is not None:
            prediction = prediction.grouped(groups)
        source_sha256 = predicted.source_sha256 or source_hash(source)
        outcomes = []

        def complete(draft: Path) -> None:
            # The copy holds points of `source` as it is now, not as it was read.
            require_same(source, source_sha256)
            seconds = predicted.seconds + time.monotonic() - began
            outcome = self._outcome(source, target, predicted, spec, seconds)
            outcome = replace(
                outcome,
                source_sha256=source_sha256,
                sha256=file_hash(draft),
                classes=class_totals(prediction, predicted.cell_of_point, spec),
            )
            outcomes.append(outcome)
            announce(outcome)

        write_prediction(
            source,
            target,
            prediction,
            predicted.cell_of_point,
            spec,
            replace=self.options.replace,
            overwrite=self.options.overwrite,
            signature=self.origin.signature(source_sha256) if self.origin else None,
            before_rename=complete,
        )
        _log_written(target, outcomes[0])
        return outcomes[0]

    def _outcome(
        self,
        source: Path,
        target: Path,
        predicted: CloudPrediction,
        spec: Spec,
        seconds: float,
    ) -> PredictedCloud:
        settings = self.spec.prediction
        points = len(predicted.cell_of_point)
        voted = predicted.prediction.voted[predicted.cell_of_point]
        if predicted.excluded is not None:
            voted &= ~predicted.excluded
        n_voted = int(np.count_nonzero(voted))
        rejects = settings.min_confidence is not None
        return PredictedCloud(
            source=str(source.resolve()),
            output=target.name,
            points=points,
            voted=n_voted,
            nearest=points - n_voted,
            seconds=round(seconds, 3),
            column=class_column(self.spec),
            kept_codes=list(settings.keep_codes),
            min_confidence=settings.min_confidence,
            reject_code=spec.reject_code if rejects else None,
            temperature=self.temperature.value,
            uncalibrated=self._uncalibrated(predicted),
            class_groups=self.class_groups,
            settings=settings.model_dump(exclude_unset=True),
            xla=predicted.xla,
            threads=self.options.threads,
            **(self.origin.facts() if self.origin else {}),
            outside_domain=list(self.outside_domain.get(source, ())),
            unit=self.spec.clouds.unit,
        )

    def _uncalibrated(self, predicted: CloudPrediction) -> dict | None:
        """Reliability counts before calibration, where the cloud can be scored."""
        # The temperature was fitted on the classes of the run, not on groups.
        if self.temperature.value == 1 or self.class_groups:
            return None
        # Points that keep their code are not scored, and their own class is lost.
        keeps = self.spec.prediction.keep_codes
        kept = class_column(self.spec) == "classification" and keeps
        labels = exact_labels(predicted.labels, self.spec)
        if kept or not np.any(labels >= 0):
            return None
        return reliability(
            predicted.prediction.probabilities, predicted.cell_of_point, labels
        ).to_dict()


def _log_written(target: Path, outcome: PredictedCloud) -> None:
    logger.info(
        "%s: %d points predicted directly, %d filled from the nearest predicted "
        "cell, %.1f s",
        target,
        outcome.voted,
        outcome.nearest,
        outcome.seconds,
    )
