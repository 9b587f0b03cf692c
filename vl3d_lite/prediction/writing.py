"""Classified clouds: the dimensions they get, and writing them."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.clouds.header_check import check_cloud
from vl3d_lite.clouds.rewriting import check_names
from vl3d_lite.clouds.writing import write_las
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.writing import output_errors

if TYPE_CHECKING:  # it imports Keras, which comparing runs does not need
    from vl3d_lite.prediction.votes import CellPrediction

logger = logging.getLogger(__name__)


# The dimension of classes that unsure points would have had.
PREDICTION_RAW = "prediction_raw"


def class_column(spec: Spec) -> str:
    """The dimension that predicted classes are written to; empty without one."""
    for name in ("prediction", "classification"):
        if name in spec.prediction.write:
            return name
    return ""


def check_additions(source: Path, spec: Spec, *, replace: bool) -> None:
    """Complain, before any work, about dimensions a cloud cannot be given.

    Raises:
        DataError: The cloud is damaged, or has a dimension of that name.
    """
    header = check_cloud(source)
    check_names(header, _added_names(spec), replace, logger.debug)


def _added_names(spec: Spec) -> list[str]:
    own = ("prediction", "confidence", "entropy")
    names = [name for name in own if name in spec.prediction.write]
    if "probabilities" in spec.prediction.write:
        names += [f"p_{name}" for name in spec.class_names]
    if spec.prediction.min_confidence is not None and class_column(spec):
        names.append(PREDICTION_RAW)
    return names


def write_prediction(
    source: Path,
    target: Path,
    prediction: "CellPrediction",
    cell_of_point: np.ndarray,
    spec: Spec,
    *,
    replace: bool,
    overwrite: bool,
) -> None:
    """Copy a cloud with the dimensions that the spec asks for.

    Args:
        source: The cloud that was predicted.
        target: Written whole or not at all.
        prediction: Of each cell.
        cell_of_point: ``(n,)`` int, the cell of each point of the file.
        spec: Names classes, codes and dimensions.
        replace: Dimensions of the same name in the source are replaced.
        overwrite: An existing target is replaced.
    """
    codes = np.array([entry.code for entry in spec.classes.values()], np.uint16)
    guesses = written = codes[prediction.classes]
    if spec.prediction.min_confidence is not None:
        sure = prediction.confidence >= np.float32(spec.prediction.min_confidence)
        written = np.where(sure, guesses, np.uint16(spec.reject_code))
    columns = {
        "prediction": (written, np.uint16, "predicted LAS code"),
        PREDICTION_RAW: (guesses, np.uint16, "predicted code, sure or not"),
        "confidence": (prediction.confidence, np.float32, "highest probability"),
        "entropy": (prediction.entropy, np.float32, "normalized entropy"),
    }
    for index, name in enumerate(spec.class_names):
        values = prediction.probabilities[:, index]
        columns[f"p_{name}"] = (values, np.float32, f"probability of {name}"[:31])

    def per_point(values):
        return lambda start, stop: values[cell_of_point[start:stop]]

    classification = None
    if "classification" in spec.prediction.write:
        classification = per_point(written.astype(np.uint8))
    with output_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_las(
        source,
        target,
        {
            name: (per_point(columns[name][0]), *columns[name][1:])
            for name in _added_names(spec)
        },
        classification=classification,
        keep=spec.prediction.keep_codes,
        replace=replace,
        overwrite=overwrite,
        log=logger.info,
    )
