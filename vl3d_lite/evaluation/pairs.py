"""A predicted cloud beside the labels of its source."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.clouds.reading import describe_las, read_las
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.spec import Spec

if TYPE_CHECKING:  # it imports Keras, which comparing runs does not need
    pass
from vl3d_lite.prediction.outcomes import PredictedCloud
from vl3d_lite.prediction.writing import PREDICTION_RAW


@dataclass(frozen=True)
class Pair:
    """A predicted cloud beside the labels of its source.

    Attributes:
        name: Name of the output file.
        outcome: How its points came by their classes.
        xyz: ``(n, 3)`` float64, meters, relative to `origin`.
        origin: ``(3,)`` float64, in the cloud's coordinates.
        reference: ``(n,)`` int32 class index, -1 where there is none.
        prediction: ``(n,)`` int32 class index; 0, without a reference, where a
            kept code stands.
        confidence: ``(n,)`` float32, or None where it was not written.
        sure: ``(n,)`` bool, False where a point was written as unsure; None where
            every point has its class. `prediction` has the class in any case.
    """

    name: str
    outcome: PredictedCloud
    xyz: np.ndarray
    origin: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray | None
    sure: np.ndarray | None = None


def read_pair(spec: Spec, folder: Path, outcome: PredictedCloud) -> Pair:
    """Read a predicted cloud and the labels of the cloud it was made from.

    Raises:
        DataError: A file is gone, or the two do not belong together.
    """
    output, source = folder / outcome.output, Path(outcome.source)
    for path in (output, source):
        if not path.is_file():
            raise DataError(f"{path}: is gone; predict again with --overwrite")
    has = describe_las(output).dimensions
    column = outcome.column
    if not column or column not in has:
        raise DataError(
            f"{output}: holds no predicted classes; predict again with --overwrite and "
            "`prediction` or `classification` in `prediction.write`"
        )
    classes = column if outcome.min_confidence is None else PREDICTION_RAW
    wanted = {column, classes, "confidence"} & set(has)
    if classes not in has:
        raise DataError(
            f"{output}: has no dimension `{PREDICTION_RAW}`, the classes of unsure "
            "points; predict again with --overwrite"
        )
    predicted = read_las(output, dimensions=sorted(wanted))
    truth = read_las(
        source,
        dimensions=["classification"],
        classes=spec.class_codes,
        ignored=spec.ignored_flags,
    )
    if len(predicted) != len(truth):
        raise DataError(
            f"{output}: has {len(predicted):,} points and {source} {len(truth):,}; "
            "predict again with --overwrite"
        )
    index_of_code = np.full(65536, -1, np.int32)
    for index, entry in enumerate(spec.classes.values()):
        index_of_code[entry.code] = index
    prediction = index_of_code[predicted.attributes[classes].astype(np.int64)]
    sure = None
    if outcome.min_confidence is not None:
        sure = predicted.attributes[column] != outcome.reject_code
    # A code that was kept is no prediction of the network's.
    kept = prediction < 0
    if column == "classification":
        kept |= np.isin(truth.attributes["classification"], outcome.kept)
    reference = np.where(kept, -1, truth.labels)
    return Pair(
        outcome.output,
        outcome,
        predicted.local,
        predicted.origin,
        reference,
        np.maximum(prediction, 0),
        predicted.attributes.get("confidence"),
        sure,
    )
