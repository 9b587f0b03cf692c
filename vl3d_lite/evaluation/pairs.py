"""A predicted cloud and the reference labels of its source cloud."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import describe_las, read_las
from vl3d_lite.errors import DataError
from vl3d_lite.prediction import PREDICTION_RAW, PredictedCloud
from vl3d_lite.spec import Spec

_CODES = 1 << 16  # `prediction` is uint16 at most


@dataclass(frozen=True)
class Pair:
    """A predicted cloud and the reference labels of its source cloud.

    Attributes:
        name: Name of the output file.
        outcome: Record of the prediction.
        xyz: ``(n, 3)`` float64, meters, relative to `origin`.
        origin: ``(3,)`` float64, in the CRS of the cloud.
        reference: ``(n,)`` int32 class index, -1 where a point is unlabeled.
        prediction: ``(n,)`` int32 class index; 0 where a code was kept, and the
            reference is -1 there.
        confidence: ``(n,)`` float32, or None where it was not written.
        accepted: ``(n,)`` bool, False where a point was written as the reject
            code; None without ``prediction.min_confidence``. `prediction` holds
            the most probable class of every point in both cases.
    """

    name: str
    outcome: PredictedCloud
    xyz: np.ndarray
    origin: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray | None
    accepted: np.ndarray | None = None


def read_pair(spec: Spec, folder: Path, outcome: PredictedCloud) -> Pair:
    """Read a predicted cloud and the reference labels of its source cloud.

    Args:
        spec: Spec of the prediction, with its classes merged where they were.
        folder: Folder of the predicted cloud.
        outcome: Record of the prediction.

    Raises:
        DataError: A file is not found, lacks a dimension, or the two clouds have
            different numbers of points.
    """
    output, source = folder / outcome.output, Path(outcome.source)
    for path in (output, source):
        if not path.is_file():
            raise DataError(f"{path}: not found; predict again with --overwrite")
    column, classes, dimensions = _dimensions(output, outcome)
    predicted = read_las(output, dimensions=dimensions)
    truth = read_las(
        source,
        dimensions=["classification"],
        class_codes=spec.class_codes,
        ignored=spec.ignored_flags,
    )
    if len(predicted) != len(truth):
        raise DataError(
            f"{output}: must have as many points as {source}, {len(truth):,}. "
            f"Received: {len(predicted):,} points; predict again with --overwrite"
        )
    prediction = _class_indices(spec, predicted.attributes[classes])
    accepted = None
    if outcome.min_confidence is not None:
        accepted = predicted.attributes[column] != outcome.reject_code
    # A kept code was copied from the source, not predicted.
    kept = prediction < 0
    if column == "classification":
        kept |= np.isin(truth.attributes["classification"], outcome.kept_codes)
    assert truth.labels is not None  # `classes` was given
    reference = np.where(kept, -1, truth.labels)
    return Pair(
        outcome.output,
        outcome,
        predicted.local,
        predicted.origin,
        reference,
        np.maximum(prediction, 0),
        predicted.attributes.get("confidence"),
        accepted,
    )


def _dimensions(output: Path, outcome: PredictedCloud) -> tuple[str, str, list[str]]:
    """The dimension of written codes, that of predicted codes, and all to read."""
    has = describe_las(output).dimensions
    column = outcome.column
    if not column or column not in has:
        raise DataError(
            f"{output}: has no dimension of predicted classes; predict again with "
            "--overwrite and `prediction` or `classification` in `prediction.write`"
        )
    classes = column if outcome.min_confidence is None else PREDICTION_RAW
    if classes not in has:
        raise DataError(
            f"{output}: has no dimension `{PREDICTION_RAW}` with the classes of "
            "rejected points; predict again with --overwrite"
        )
    return column, classes, sorted({column, classes, "confidence"} & set(has))


def _class_indices(spec: Spec, codes: np.ndarray) -> np.ndarray:
    """``(n,)`` int32 class index of each code; -1 where it is of no class."""
    index_of_code = np.full(_CODES, -1, np.int32)
    for index, entry in enumerate(spec.classes.values()):
        index_of_code[entry.code] = index
    return index_of_code[codes.astype(np.int64)]
