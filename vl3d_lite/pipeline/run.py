"""Run a whole spec: train, export, predict and evaluate."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.dataset import check_clouds
from vl3d_lite.errors import InterruptedRunError, VL3DError
from vl3d_lite.evaluation import Evaluation
from vl3d_lite.pipeline.evaluate import evaluate_locked
from vl3d_lite.pipeline.predict import predict
from vl3d_lite.pipeline.train import train_locked
from vl3d_lite.prediction import Outputs, check_additions, class_column, read_outcomes
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import LoadedSpec, Spec

logger = logging.getLogger(__name__)


def run(loaded: LoadedSpec, folder: RunFolder, options: Options) -> Evaluation | None:
    """Train, export, predict and evaluate everything that a spec describes.

    Args:
        loaded: The spec, with the files of its clouds.
        folder: The run folder.
        options: Options of the command.

    Returns:
        The evaluation; None where no predicted cloud has labels.

    Raises:
        VL3DError: The error of the first step that failed. A cloud that cannot be
            predicted does not keep the others from being scored.
    """
    clouds = loaded.clouds["predict"]
    # Output names that clash are an error before the training, not after it.
    Outputs(folder.predictions, clouds, resume=True, overwrite=options.overwrite)
    _check_predictable(clouds, loaded.spec, options)
    folder.refuse_if_present(resume=options.resume, overwrite=options.overwrite)
    with folder.locked():
        train_locked(loaded, folder, options)
        return _predict_and_evaluate(loaded, folder, options)


def _predict_and_evaluate(
    loaded: LoadedSpec, folder: RunFolder, options: Options
) -> Evaluation | None:
    clouds = loaded.clouds["predict"]
    if not clouds:
        return None
    try:
        predict(folder, clouds, folder.predictions, options)
    except InterruptedRunError:
        raise
    except VL3DError:
        if read_outcomes(folder.predictions):
            _evaluate_run(loaded.spec, folder)
        raise
    return _evaluate_run(loaded.spec, folder)


def _check_predictable(clouds: Sequence[Path], spec: Spec, options: Options) -> None:
    """Warn before the training of clouds that cannot be predicted after it.

    Raises:
        VL3DError: The error of the first cloud, if none can be predicted.
    """
    errors: list[VL3DError] = []
    for path in clouds:
        try:
            check_clouds([path], spec, count_classes=False)
            check_additions(path, spec, replace=options.replace)
        except InterruptedRunError:
            raise
        except VL3DError as error:
            errors.append(error)
    if errors and len(errors) == len(clouds):
        raise errors[0]
    for one in errors:
        logger.warning("this cloud will not be predicted: %s", one)


def _evaluate_run(spec: Spec, folder: RunFolder) -> Evaluation | None:
    if not class_column(spec):
        logger.info(
            "`prediction.write` names neither `prediction` nor `classification`; "
            "there is nothing to evaluate"
        )
        return None
    return evaluate_locked(folder, folder.predictions)
