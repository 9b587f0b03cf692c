"""From the measured seconds of some steps to those of a whole run."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vl3d_lite.dataset import FIELDS_PER_CELL
from vl3d_lite.guide.plan.cloud_facts import CloudFacts
from vl3d_lite.spec import LoadedSpec, Spec
from vl3d_lite.system import silenced_stderr

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Estimated seconds of a run.

    Attributes:
        preparation: Preparing the training and validation clouds and the network.
        training: Training, with compilation and validation.
        prediction: Predicting the clouds to predict.
        step: One training step.
        load: Load of the machine before the measurement, if other programs slowed it
            down; None otherwise.
    """

    preparation: float
    training: float
    prediction: float
    step: float
    load: float | None = None


def measure_timing(
    loaded: LoadedSpec, clouds: Sequence[CloudFacts], steps: int, threads: int
) -> Timing:
    """Time some steps of the run and extrapolate to all of it; imports Keras.

    Args:
        loaded: The spec.
        clouds: The clouds of all groups.
        steps: Training steps per epoch.
        threads: CPU threads.
    """
    load = disturbing_load(threads)
    logger.info("measuring, for about a minute; large networks compile for longer")
    with silenced_stderr():
        from vl3d_lite.guide.plan.measure import measure

    spec = loaded.spec
    seconds = measure(loaded, steps, threads)
    points = sum(
        c.points * (spec.training.augmentation.grids if c.group == "train" else 1)
        for c in clouds
        if c.group != "predict"
    )
    swept = swept_fields(clouds)
    validated = -(-swept // spec.prediction_batch) * spec.training.epochs
    predicted = sum(c.points for c in clouds if c.group == "predict")
    return Timing(
        preparation=seconds.preparation * points + seconds.building,
        training=seconds.compiling
        + seconds.step * steps * spec.training.epochs
        + (seconds.validation_compiling + seconds.validation * validated) * bool(swept)
        + seconds.ending,
        prediction=seconds.preparation * predicted * spec.prediction.grids
        + seconds.validation * prediction_batches(clouds, spec)
        + seconds.validation_compiling * bool(predicted),
        step=seconds.step,
        load=load,
    )


def disturbing_load(threads: int) -> float | None:
    """The load of the machine, where it leaves fewer processors than are used.

    Args:
        threads: Processors that are used.

    Returns:
        The mean of the last minute; None where it is lower, or unknown.
    """
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # not every system has it
        return None
    crowded = load + threads > (os.cpu_count() or 1)
    return load if load > threads and crowded else None


def swept_fields(clouds: Sequence[CloudFacts]) -> int:
    """Number of fields in one pass over the validation clouds."""
    return sum(
        len(c.swept) for c in clouds if c.group == "validation" and c.swept is not None
    )


def prediction_batches(clouds: Sequence[CloudFacts], spec: Spec) -> int:
    """Number of batches that predict all clouds, with every vote."""
    cells = sum(c.cells[0] for c in clouds if c.group == "predict")
    points = cells * _fields_per_cell(clouds)
    points *= spec.prediction.votes * spec.prediction.grids
    fields = points / (spec.model.stages[0].points * max(_fill(clouds, spec), 0.01))
    return int(np.ceil(fields / spec.prediction_batch))


def _fields_per_cell(clouds: Sequence[CloudFacts]) -> float:
    """Fields that hold a cell in one pass, as in the validation clouds."""
    swept = [
        (c.swept.sum(), c.cells[0])
        for c in clouds
        if c.group == "validation" and c.swept is not None
    ]
    if not swept:
        return FIELDS_PER_CELL
    return float(sum(points for points, _ in swept) / sum(cells for _, cells in swept))


def _fill(clouds: Sequence[CloudFacts], spec: Spec) -> float:
    """Share of the slots of swept fields that hold a point."""
    swept = [c.swept for c in clouds if c.swept is not None]
    if not swept:
        return 1.0
    return float(np.concatenate(swept).mean()) / spec.model.stages[0].points
