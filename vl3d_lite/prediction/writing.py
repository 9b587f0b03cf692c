"""Classified clouds: the dimensions they get, and how they are written."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import (
    LARGEST_OLD_CODE,
    Signature,
    check_names,
    check_room,
    read_header,
    write_las,
)
from vl3d_lite.prediction.outcomes import PREDICTION_RAW, REJECTED, ClassTotal
from vl3d_lite.prediction.votes import CellPrediction
from vl3d_lite.spec import Spec
from vl3d_lite.system import output_errors

logger = logging.getLogger(__name__)

_CODES = ("prediction", PREDICTION_RAW)  # dimensions of class codes, uint16


def class_column(spec: Spec) -> str:
    """The dimension that predicted codes are written to; empty without one."""
    for name in ("prediction", "classification"):
        if name in spec.prediction.write:
            return name
    return ""


def check_additions(source: Path, spec: Spec, *, replace: bool) -> None:
    """Check before any work that a cloud can get the dimensions of a spec.

    Args:
        source: The cloud to predict.
        spec: Its `prediction.write` names the dimensions.
        replace: Whether dimensions of the same name in the cloud are replaced.

    Raises:
        DataError: The cloud is damaged, has a dimension of that name, or no room for
            the dimensions.
    """
    header = read_header(source)
    names = _added_names(spec)
    check_names(header, names, replace, logger.debug)
    codes = [entry.code for entry in spec.classes.values()]
    highest = max([*codes, spec.reject_code or 0])
    raised = highest > LARGEST_OLD_CODE and "classification" in spec.prediction.write
    types = {name: "u2" if name in _CODES else "f4" for name in names}
    check_room(header, types, raised=raised)


def class_totals(
    prediction: CellPrediction, cell_of_point: np.ndarray, spec: Spec
) -> dict[str, ClassTotal]:
    """Points and mean confidence of each class as they are written, by name.

    Args:
        prediction: The calibrated prediction of each cell.
        cell_of_point: ``(n,)`` int, the cell of each point of the file.
        spec: Its class names, codes and `min_confidence`.
    """
    names = {name: entry.code for name, entry in spec.classes.items()}
    index, confidence = prediction.class_index, prediction.confidence
    lowest = spec.prediction.min_confidence
    if lowest is not None and spec.reject_code is not None:
        index = np.where(confidence >= np.float32(lowest), index, len(names))
        names[REJECTED] = spec.reject_code
    points = np.bincount(cell_of_point, minlength=len(index))
    counts = np.bincount(index, points, len(names))
    sums = np.bincount(index, points * confidence.astype(np.float64), len(names))
    means = sums / np.maximum(counts, 1)
    return {
        name: ClassTotal(code, int(count), round(float(mean), 6))
        for (name, code), count, mean in zip(names.items(), counts, means, strict=True)
    }


def _added_names(spec: Spec) -> list[str]:
    names: list[str] = [
        name
        for name in ("prediction", "confidence", "entropy")
        if name in spec.prediction.write
    ]
    if "probabilities" in spec.prediction.write:
        names += [f"p_{name}" for name in spec.class_names]
    if spec.prediction.min_confidence is not None and class_column(spec):
        names.append(PREDICTION_RAW)
    return names


def write_prediction(
    source: Path,
    target: Path,
    prediction: CellPrediction,
    cell_of_point: np.ndarray,
    spec: Spec,
    *,
    replace: bool,
    overwrite: bool,
    signature: Signature | None = None,
    before_rename: Callable[[Path], None] = lambda draft: None,
) -> None:
    """Copy a cloud and add the dimensions that the spec asks for.

    Args:
        source: The cloud that was predicted.
        target: Its copy; it appears completely or not at all.
        prediction: The prediction of each cell.
        cell_of_point: ``(n,)`` int, the cell of each point of the file.
        spec: Its class names, output codes and dimensions.
        replace: Replace dimensions of the same name in the source.
        overwrite: Replace an existing target.
        signature: Describes in the copy how it was made.
        before_rename: Called with the complete copy, which has no name yet.

    Raises:
        DataError: The source has a dimension of that name.
        ResourceError: The target cannot be written.
    """
    columns = _columns(prediction, spec)

    def per_point(values: np.ndarray) -> Callable[[int, int], np.ndarray]:
        return lambda start, stop: values[cell_of_point[start:stop]]

    classification = None
    if "classification" in spec.prediction.write:
        codes, *_ = columns["prediction"]
        classification = per_point(codes.astype(np.uint8))
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
        keep_codes=spec.prediction.keep_codes,
        replace=replace,
        overwrite=overwrite,
        log=logger.info,
        signature=signature,
        before_rename=before_rename,
    )


def _columns(
    prediction: CellPrediction, spec: Spec
) -> Mapping[str, tuple[np.ndarray, type, str]]:
    """Values of cells, type and description of every dimension there can be."""
    codes, raw_codes = _codes(prediction, spec)
    columns = {
        "prediction": (codes, np.uint16, "predicted LAS code"),
        PREDICTION_RAW: (raw_codes, np.uint16, "predicted code, sure or not"),
        "confidence": (prediction.confidence, np.float32, "highest probability"),
        "entropy": (prediction.entropy, np.float32, "normalized entropy"),
    }
    for index, name in enumerate(spec.class_names):
        values = prediction.probabilities[:, index]
        # LAS descriptions of dimensions hold 31 characters and a zero.
        columns[f"p_{name}"] = (values, np.float32, f"probability of {name}"[:31])
    return columns


def _codes(prediction: CellPrediction, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """``(N,)`` uint16 output codes of cells, with and without the reject code."""
    output_codes = [entry.code for entry in spec.classes.values()]
    raw_codes = np.array(output_codes, np.uint16)[prediction.class_index]
    if spec.prediction.min_confidence is None:
        return raw_codes, raw_codes
    assert spec.reject_code is not None  # the spec requires one with `min_confidence`
    sure = prediction.confidence >= np.float32(spec.prediction.min_confidence)
    return np.where(sure, raw_codes, np.uint16(spec.reject_code)), raw_codes
