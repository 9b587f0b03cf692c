"""A predicted cloud and the reference labels of its source cloud."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import Frame, PointCloud, describe_las, read_las
from vl3d_lite.dataset import exclusion, scored_labels
from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.matching import match_clouds
from vl3d_lite.prediction import PREDICTION_RAW, PredictedCloud
from vl3d_lite.spec import Spec, cloud_labels, has_groups, is_named
from vl3d_lite.system import file_hash

logger = logging.getLogger(__name__)

_CODES = 1 << 16  # `prediction` is uint16 at most
# Share of points at the same place as another one, which are left out of the scores.
_MOST_AMBIGUOUS = 0.01


@dataclass(frozen=True)
class Pair:
    """A predicted cloud and the reference labels of its source cloud.

    Attributes:
        name: Name of the output file.
        outcome: Record of the prediction.
        xyz: ``(n, 3)`` float64, meters, local to `frame`.
        frame: The place and the unit of the cloud in its file.
        reference: ``(n,)`` int32 class index, -1 where a point is unlabeled; of a
            partial label as `scored_labels` counts it.
        prediction: ``(n,)`` int32 class index; 0 where a code was kept, and the
            reference is -1 there.
        confidence: ``(n,)`` float32, or None where it was not written.
        accepted: ``(n,)`` bool, False where a point was written as the reject
            code; None without ``prediction.min_confidence``. `prediction` holds
            the most probable class of every point in both cases.
        partial: ``(n,)`` bool, True where a point has a partial label.
    """

    name: str
    outcome: PredictedCloud
    xyz: np.ndarray
    frame: Frame
    reference: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray | None
    accepted: np.ndarray | None = None
    partial: np.ndarray | None = None


def read_pair(
    spec: Spec, folder: Path, outcome: PredictedCloud, *, warn: bool = True
) -> Pair:
    """Read a predicted cloud and the reference labels of its source cloud.

    Points are paired by row where both files are those that the record names, by
    their SHA-256. Otherwise they are paired by their coordinates.

    Args:
        spec: Spec of the prediction, with its classes merged where they were.
        folder: Folder of the predicted cloud.
        outcome: Record of the prediction.
        warn: Whether to log a warning where a file has changed.

    Raises:
        DataError: A file is not found, lacks a dimension, holds a code of no class or
            changes while it is read, or the clouds do not hold the same points.
    """
    output, source = folder / outcome.output, Path(outcome.source)
    for path in (output, source):
        if not path.is_file():
            raise DataError(f"{path}: not found; predict again with --overwrite")
    column, classes, dimensions = _dimensions(output, outcome)
    before = _states(output, source)
    changed = _changed(output, source, outcome)
    predicted = read_las(output, dimensions=dimensions, unit=outcome.unit)
    truth = _read_source(spec, source, outcome.unit, warn)
    _require_states(output, source, before)
    if len(predicted) != len(truth):
        raise DataError(
            f"{output}: must have as many points as {source}, {len(truth):,}. "
            f"Received: {len(predicted):,} points; predict again with --overwrite"
        )
    if changed:
        rows = _rows_of_source(output, source, predicted, truth)
        predicted = _in_order(predicted, truth, rows)
        if warn:
            _warn(changed, rows)
    prediction = _class_indices(spec, predicted.attributes[classes])
    accepted = None
    if outcome.min_confidence is not None:
        accepted = predicted.attributes[column] != outcome.reject_code
    kept = prediction < 0  # a kept code was copied from the source, not predicted
    _require_known(output, classes, predicted.attributes[classes][kept], outcome)
    if column == "classification":
        kept |= np.isin(truth.attributes["classification"], outcome.kept_codes)
    assert truth.labels is not None  # `classes` was given
    reference = np.where(kept, -1, truth.labels)
    prediction = np.maximum(prediction, 0)
    return Pair(
        outcome.output,
        outcome,
        predicted.local,
        predicted.frame,
        scored_labels(reference, prediction, spec),
        prediction,
        predicted.attributes.get("confidence"),
        accepted,
        reference >= len(spec.classes),
    )


def _read_source(spec: Spec, source: Path, unit: str | None, warn: bool) -> PointCloud:
    """A source cloud with its labels."""
    labels = cloud_labels(spec, source)
    if warn and has_groups(spec) and not is_named(spec, source):
        logger.warning(
            "%s: is read with the codes of `classes`, because `clouds` of the spec "
            "does not name it, and some of the clouds it names have codes of their "
            "own; if this one has, add it to their `files` in spec.yaml of the run",
            source,
        )
    return read_las(
        source,
        dimensions=["classification"],
        class_codes=labels.codes,
        label_dimension=labels.dimension,
        ignored=spec.ignored_flags,
        excluded=exclusion(spec, labels),
        unit=unit,
    )


def _in_order(predicted: PointCloud, truth: PointCloud, rows: np.ndarray) -> PointCloud:
    """The predicted points in the order of `truth`.

    A point without a certain partner is no reference: it loses its label in `truth`.
    """
    truth.labels[rows < 0] = -1
    ordered = predicted.select(np.maximum(rows, 0))
    return replace(ordered, local=truth.local, origin=truth.origin)


def _changed(output: Path, source: Path, outcome: PredictedCloud) -> list[Path]:
    """The files that are not those of the record, by their SHA-256."""
    recorded = {source: outcome.source_sha256, output: outcome.sha256}
    return [path for path, digest in recorded.items() if file_hash(path) != digest]


def _states(*paths: Path) -> list[tuple[int, ...]]:
    """What changes with the content of files, at no cost; their hashes are known."""
    stats = [path.stat() for path in paths]
    return [(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]


def _require_states(output: Path, source: Path, before: list[tuple[int, ...]]) -> None:
    if _states(output, source) != before:
        raise DataError(
            f"{output}: this file or {source} was replaced or changed while it was "
            "read; evaluate again, and do not change it meanwhile"
        )


def _require_known(
    output: Path, dimension: str, strange: np.ndarray, outcome: PredictedCloud
) -> None:
    """Check that codes of no class are those that were copied from the source."""
    copied = outcome.kept_codes if dimension == "classification" else ()
    codes, counts = np.unique(strange[~np.isin(strange, copied)], return_counts=True)
    if len(codes):
        most = int(np.argmax(counts))
        more = f" and {len(codes) - 1} more codes" if len(codes) > 1 else ""
        raise DataError(
            f"{output}: `{dimension}` has the code {codes[most]} in {counts[most]:,} "
            f"points{more}, which no class of the run is written as; restore the file "
            "from a copy, or predict again with --overwrite"
        )


def _rows_of_source(
    output: Path, source: Path, predicted: PointCloud, truth: PointCloud
) -> np.ndarray:
    """``(n,)`` int64 row of `predicted` of each point of `truth`; -1 if uncertain."""
    rows = match_clouds([source, output], [truth, predicted])
    remedy = "restore the file from a copy, or predict again with --overwrite"
    if rows is None:
        raise DataError(
            f"{source}: does not hold the points of its prediction {output}: one of "
            f"the files has changed since the prediction; {remedy}"
        )
    ambiguous = np.count_nonzero(rows < 0)
    if ambiguous > _MOST_AMBIGUOUS * len(rows):
        raise DataError(
            f"{source}: its points are in another order than those of its prediction "
            f"{output}, and {ambiguous:,} of {len(rows):,} share their coordinates "
            f"with others, so they cannot be paired; {remedy}"
        )
    return rows


def _warn(changed: list[Path], rows: np.ndarray) -> None:
    names = " and ".join(map(str, changed))
    if np.array_equal(rows, np.arange(len(rows))):
        logger.warning(
            "%s: changed since the prediction; points and their order are the same, "
            "and the labels are those of today",
            names,
        )
        return
    ambiguous = np.count_nonzero(rows < 0)
    logger.warning(
        "%s: changed since the prediction, and the points are in another order; they "
        "are paired by their coordinates%s",
        names,
        f", without {ambiguous:,} points that share theirs" if ambiguous else "",
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
    known = (codes >= 0) & (codes < _CODES)
    return np.where(known, index_of_code[np.where(known, codes, 0).astype(int)], -1)
