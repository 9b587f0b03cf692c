"""Calibration of confidences on the validation clouds of a run."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vl3d_lite.dataset import SweepBatches, exact_labels
from vl3d_lite.errors import InterruptedRunError
from vl3d_lite.pipeline.preparing import LabeledClouds
from vl3d_lite.prediction import Classifier, Temperature, fit_over_places
from vl3d_lite.runs import RunFolder

logger = logging.getLogger(__name__)


def calibrate(
    run: RunFolder, clouds: LabeledClouds, classifier: Classifier
) -> Temperature:
    """Fit the temperature on validation clouds, predicted as other clouds will be.

    Args:
        run: The run; named in messages.
        clouds: Validation clouds with labels, prepared on their first grid.
        classifier: The network, with a temperature of 1.

    Returns:
        With a value of 1 where there is no cloud.

    Raises:
        InterruptedRunError: A signal came; the training is not lost.
    """
    if not clouds:
        logger.info(
            "no validation cloud has labels: confidence is not calibrated "
            "(temperature 1)"
        )
        return Temperature()

    def samples() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for path, cloud in clouds:
            prepared = {0: cloud}  # further grids are prepared when they are needed

            def sweep(path: Path, grid: int, prepared=prepared) -> SweepBatches:
                return classifier.sweep(path, grid, prepared.get(grid))

            votes = classifier.vote(path, sweep, "calibrating on")
            labels = exact_labels(votes.labels, classifier.spec)
            yield votes.prediction.probabilities, votes.cell_of_point, labels

    try:
        names = [path.name for path, _ in clouds]
        temperature = fit_over_places(names, list(samples()))
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"{run.root}: interrupted while confidence was calibrated; the training "
            "itself is finished, continue with --resume",
            error.exit_code,
        ) from None
    _log(temperature)
    return temperature


def _log(temperature: Temperature) -> None:
    logger.info(
        "calibration: temperature %.3f; expected calibration error on the validation "
        "clouds %.4f, %.4f before",
        temperature.value,
        temperature.after.expected_error,
        temperature.before.expected_error,
    )
    if places := temperature.places:
        without = [place.temperature_without for place in places]
        logger.info(
            "calibration: with one of %d clouds left out, temperatures from %.3f to "
            "%.3f; largest error on the cloud left out %.4f, with the one chosen %.4f",
            len(places),
            min(without),
            max(without),
            max(place.error_without for place in places),
            max(place.error for place in places),
        )
