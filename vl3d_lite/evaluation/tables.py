"""Records of ``metrics.json`` and rows of ``metrics.csv``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vl3d_lite.evaluation.scores import OVERALL, PER_CLASS, CloudResult, Scores
from vl3d_lite.prediction import BINS
from vl3d_lite.system import csv_text

__all__ = ["ALL_CLASSES", "ALL_CLOUDS", "result_record", "scores_csv"]

ALL_CLOUDS = "(all clouds)"
ALL_CLASSES = "(all classes)"
# The columns of metrics.csv that only a row over all classes fills; mean IoU is
# the `iou` of that row.
_OVERALL_COLUMNS = ("overall_accuracy", "mean_accuracy", "mcc", "kappa")


def result_record(result: CloudResult, class_names: Sequence[str]) -> dict[str, Any]:
    """The entry of one result in ``metrics.json``.

    Args:
        result: Counts of one cloud, or of many.
        class_names: ``C`` names.

    Returns:
        The mapping that `Evaluation.to_dict` describes; None replaces NaN.
    """
    scores, calibration = result.scores, result.calibration
    counts = result.by_threshold
    bins = {
        "upper": (np.arange(1, BINS + 1) / BINS).tolist(),
        "count": calibration.count.tolist(),
        "accuracy": _nulls(calibration.accuracy),
        "confidence": _nulls(calibration.confidence),
    }
    return {
        "points": scores.points,
        "ignored": result.ignored,
        **{key: _null(getattr(scores, key)) for key in OVERALL},
        "macro": {key: _null(scores.macro(key)) for key in PER_CLASS},
        "weighted": {key: _null(scores.weighted(key)) for key in PER_CLASS},
        "per_class": _class_records(scores, class_names),
        "confusion": result.confusion.tolist(),
        "calibration": {
            "expected_error": _null(calibration.expected_error),
            "uncalibrated_error": result.uncalibrated_error,
            "bins": _records(bins),
        }
        if calibration.count.any()
        else None,
        "by_threshold": counts.rows() if counts.count.any() else None,
        "accepted": _accepted_record(result, class_names),
    }


def scores_csv(
    pooled: CloudResult, clouds: Mapping[str, CloudResult], class_names: Sequence[str]
) -> str:
    """CSV with one row per cloud and class, and one per cloud over all classes.

    The first rows hold the pooled clouds. Rows over all classes hold macro means
    and the overall scores; undefined scores are empty.
    """
    lines: list[Sequence] = [
        ["cloud", "class", "points", "predicted", *PER_CLASS, *_OVERALL_COLUMNS]
    ]
    columns = ("support", "predicted", *PER_CLASS, *_OVERALL_COLUMNS)
    for cloud, result in {ALL_CLOUDS: pooled, **clouds}.items():
        record = result_record(result, class_names)
        rows = {
            **record["per_class"],
            ALL_CLASSES: {
                "support": record["points"],
                "predicted": record["points"],
                **record["macro"],
                **{key: record[key] for key in _OVERALL_COLUMNS},
            },
        }
        for name, row in rows.items():
            lines.append([cloud, name, *(row.get(key) for key in columns)])
    return csv_text(lines)


def _class_records(scores: Scores, class_names: Sequence[str]) -> dict[str, dict]:
    columns = {
        "support": scores.support.tolist(),
        "predicted": scores.predicted.tolist(),
        **{metric: _nulls(getattr(scores, metric)) for metric in PER_CLASS},
    }
    return dict(zip(class_names, _records(columns), strict=True))


def _accepted_record(result: CloudResult, class_names: Sequence[str]) -> dict | None:
    if result.accepted is None:
        return None
    scores = Scores(result.accepted)
    return {
        "points": scores.points,
        "coverage": scores.points / max(result.scores.points, 1),
        **{key: _null(getattr(scores, key)) for key in OVERALL},
        "per_class": _class_records(scores, class_names),
        "confusion": result.accepted.tolist(),
    }


def _null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _nulls(values: np.ndarray) -> list[float | None]:
    return [_null(value) for value in values]


def _records(columns: dict[str, list]) -> list[dict]:
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]
