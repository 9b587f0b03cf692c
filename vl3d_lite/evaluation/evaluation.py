"""Evaluation of classified clouds: what metrics.json, tables and CSV hold."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.coverage import Coverage
from vl3d_lite.evaluation.scores import PER_CLASS, Scores, confusion_matrix
from vl3d_lite.prediction.calibration import BINS, ReliabilityCounts

__all__ = [
    "CloudResult",
    "Evaluation",
    "ReliabilityCounts",
    "Scores",
    "confusion_matrix",
    "evaluate",
]

METRICS_FORMAT = 1
OVERALL = ("overall_accuracy", "mean_accuracy", "mean_iou", "mcc", "kappa")
ALL_CLOUDS = "(all clouds)"
ALL_CLASSES = "(all classes)"


class Scored(NamedTuple):
    """A cloud's predictions beside its references.

    Args:
        name: Of the cloud.
        reference: ``(n,)`` int class index, -1 where a point is ignored.
        prediction: ``(n,)`` int class index.
        confidence: ``(n,)`` float, probability of the predicted class.
        uncalibrated: Counts of the confidences before calibration.
        sure: ``(n,)`` bool, False where a point was left unclassified.
    """

    name: str
    reference: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray | None = None
    uncalibrated: ReliabilityCounts | None = None
    sure: np.ndarray | None = None


@dataclass(frozen=True)
class CloudResult:
    """Counts of one cloud, or of many together.

    Args:
        confusion: ``(C, C)`` int64, from `confusion_matrix`.
        ignored: Points without a reference.
        calibration: Counts of confidences; empty when none were given.
        uncalibrated: The same before calibration; empty where there was none.
        coverage: Counts of what thresholds on confidence leave.
        sure: ``(C, C)`` int64, the confusion of the sure points; None where no
            point was left unclassified on purpose.
    """

    confusion: np.ndarray
    ignored: int = 0
    calibration: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    uncalibrated: ReliabilityCounts = field(default_factory=ReliabilityCounts)
    coverage: Coverage = field(default_factory=Coverage)
    sure: np.ndarray | None = None

    def __add__(self, other: "CloudResult") -> "CloudResult":
        sure = None
        if self.sure is not None or other.sure is not None:
            sure = self.sure_confusion + other.sure_confusion
        return CloudResult(
            self.confusion + other.confusion,
            self.ignored + other.ignored,
            self.calibration + other.calibration,
            self.uncalibrated + other.uncalibrated,
            self.coverage + other.coverage,
            sure,
        )

    @property
    def sure_confusion(self) -> np.ndarray:
        """``(C, C)`` int64; all points where none was left unclassified."""
        return self.confusion if self.sure is None else self.sure

    @property
    def uncalibrated_error(self) -> float | None:
        """Calibration error before; None where some of the points lack it."""
        before = self.uncalibrated
        whole = 0 < before.count.sum() == self.calibration.count.sum()
        return before.expected_error if whole else None

    @property
    def scores(self) -> Scores:
        """What the confusion matrix says."""
        return Scores(self.confusion)


@dataclass(frozen=True)
class Evaluation:
    """Results by cloud, and of all clouds pooled.

    ``a + b`` adds the counts of clouds of the same name (chunks of one file)
    and keeps the others side by side.

    Args:
        class_names: ``C`` different names.
        clouds: Result by cloud name, in the order they came.

    Raises:
        DataError: A class name occurs twice; or, on ``+``, classes differ.
    """

    class_names: tuple[str, ...]
    clouds: dict[str, CloudResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if len(set(self.class_names)) != len(self.class_names):
            raise DataError(f"class names must differ. Received: {self.class_names}")

    def __add__(self, other: "Evaluation") -> "Evaluation":
        if self.class_names != other.class_names:
            raise DataError(
                "evaluations of different classes cannot be added. "
                f"Received: {self.class_names} and {other.class_names}"
            )
        clouds = dict(self.clouds)
        for name, result in other.clouds.items():
            clouds[name] = clouds[name] + result if name in clouds else result
        return Evaluation(self.class_names, clouds)

    @property
    def pooled(self) -> CloudResult:
        """All clouds as if they were one."""
        n = len(self.class_names)
        return sum(self.clouds.values(), CloudResult(np.zeros((n, n), np.int64)))

    @property
    def scores(self) -> Scores:
        """Scores of all clouds pooled."""
        return self.pooled.scores

    def to_dict(self) -> dict:
        """What ``metrics.json`` holds: numbers, lists and None, no NaN.

        ::

            format       1
            class_names  [name]
            pooled       result
            clouds       {cloud: result}

            result       points, ignored, overall_accuracy, mean_accuracy,
                         mean_iou, mcc, kappa,
                         macro, weighted {precision, recall, f1, iou},
                         per_class {class: support, predicted, precision,
                                    recall, f1, iou},
                         confusion [[points]], a row per reference class,
                         calibration or null {expected_error,
                             uncalibrated_error or null,
                             bins [{upper, count, accuracy, confidence}]},
                         coverage or null [{confidence, coverage, accuracy}],
                         sure or null {points, coverage, overall_accuracy,
                             mean_accuracy, mean_iou, mcc, kappa,
                             per_class {class: as above}, confusion}
        Every score but those of `sure` counts unsure points as the class that
        they would have had.
        """
        return {
            "format": METRICS_FORMAT,
            "class_names": list(self.class_names),
            "pooled": self._result_dict(self.pooled),
            "clouds": {
                name: self._result_dict(result) for name, result in self.clouds.items()
            },
        }

    def table(self) -> str:
        """Plain text: a line per class, the means, and the overall scores."""
        pooled, scores = self.pooled, self.scores
        rows = [["class", "points", "predicted", "IoU", "P", "R", "F1"]]
        columns = ("iou", "precision", "recall", "f1")
        values = np.stack([getattr(scores, metric) for metric in columns], axis=1)
        for index, name in enumerate(self.class_names):
            counts = scores.support[index], scores.predicted[index]
            rows.append([name, *map("{:,}".format, counts), *map(_text, values[index])])
        for name, mean in (("mean", scores.macro), ("weighted mean", scores.weighted)):
            rows.append([name, "", "", *(_text(mean(metric)) for metric in columns)])
        lines = _aligned(rows)
        summary = {
            "mIoU": scores.mean_iou,
            "OA": scores.overall_accuracy,
            "mean accuracy": scores.mean_accuracy,
            "MCC": scores.mcc,
            "kappa": scores.kappa,
        }
        if pooled.calibration.count.any():
            summary["calibration error"] = pooled.calibration.expected_error
            if pooled.uncalibrated_error is not None:
                summary["uncalibrated"] = pooled.uncalibrated_error
        lines += ["", "   ".join(f"{key} {_text(x)}" for key, x in summary.items())]
        if pooled.sure is not None:
            sure = Scores(pooled.sure)
            share = sure.points / max(scores.points, 1)
            lines.append(
                f"sure points only ({100 * share:.1f} %)   mIoU {_text(sure.mean_iou)}"
                f"   OA {_text(sure.overall_accuracy)}"
            )
        lines.append(
            f"{len(self.clouds)} cloud{'s' * (len(self.clouds) != 1)}, "
            f"{scores.points:,} points, {pooled.ignored:,} ignored"
        )
        return "\n".join(lines) + "\n"

    def write_csv(self, path: Path) -> None:
        """Write a row per cloud and class, and one per cloud over all classes.

        The first rows are of all clouds pooled. Rows over all classes hold
        macro means and the overall scores; undefined scores are empty.
        """
        from vl3d_lite.system.writing import write_text

        overall = ("overall_accuracy", "mean_accuracy", "mcc", "kappa")
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["cloud", "class", "points", "predicted", *PER_CLASS, *overall])
        for cloud, result in {ALL_CLOUDS: self.pooled, **self.clouds}.items():
            entry = self._result_dict(result)
            rows = {
                **entry["per_class"],
                ALL_CLASSES: {
                    "support": entry["points"],
                    "predicted": entry["points"],
                    **entry["macro"],
                    **{key: entry[key] for key in overall},
                },
            }
            columns = ("support", "predicted", *PER_CLASS, *overall)
            for name, row in rows.items():
                writer.writerow([cloud, name, *(row.get(key) for key in columns)])
        write_text(Path(path), stream.getvalue())

    def _per_class(self, scores: Scores) -> dict[str, dict]:
        columns = {
            "support": scores.support.tolist(),
            "predicted": scores.predicted.tolist(),
            **{metric: _nulls(getattr(scores, metric)) for metric in PER_CLASS},
        }
        return dict(zip(self.class_names, _records(columns), strict=True))

    def _sure_dict(self, result: CloudResult) -> dict | None:
        if result.sure is None:
            return None
        scores = Scores(result.sure)
        return {
            "points": scores.points,
            "coverage": scores.points / max(result.scores.points, 1),
            **{key: _null(getattr(scores, key)) for key in OVERALL},
            "per_class": self._per_class(scores),
            "confusion": result.sure.tolist(),
        }

    def _result_dict(self, result: CloudResult) -> dict:
        scores, calibration = result.scores, result.calibration
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
            "per_class": self._per_class(scores),
            "confusion": result.confusion.tolist(),
            "calibration": {
                "expected_error": _null(calibration.expected_error),
                "uncalibrated_error": result.uncalibrated_error,
                "bins": _records(bins),
            }
            if calibration.count.any()
            else None,
            "coverage": result.coverage.table()
            if result.coverage.count.any()
            else None,
            "sure": self._sure_dict(result),
        }


def evaluate(pairs: Iterable[tuple], class_names: Sequence[str]) -> Evaluation:
    """Compare predictions with references, a cloud at a time.

    Args:
        pairs: Entries of `Scored`, or tuples of its first three or more parts.
            Entries of the same name add up.
        class_names: Name of each class index.

    Raises:
        DataError: Arrays do not fit each other; the message names the cloud.
    """
    evaluation = Evaluation(tuple(class_names))
    for entry in pairs:
        cloud = Scored(*entry)
        try:
            result = _score(cloud, len(class_names))
        except DataError as error:
            raise DataError(f"{cloud.name}: {error}") from None
        evaluation += Evaluation(evaluation.class_names, {str(cloud.name): result})
    return evaluation


def _score(cloud: Scored, n_classes: int) -> CloudResult:
    reference, prediction = cloud.reference, cloud.prediction
    matrix = confusion_matrix(reference, prediction, n_classes)
    calibration, coverage, sure = ReliabilityCounts(), Coverage(), None
    if cloud.confidence is not None:
        calibration = ReliabilityCounts.measure(reference, prediction, cloud.confidence)
        coverage = Coverage.measure(reference, prediction, cloud.confidence)
    if cloud.sure is not None:
        known = np.where(cloud.sure, reference, -1)
        sure = confusion_matrix(known, prediction, n_classes)
    return CloudResult(
        matrix,
        len(reference) - int(matrix.sum()),
        calibration,
        cloud.uncalibrated or ReliabilityCounts(),
        coverage,
        sure,
    )


def _null(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _nulls(values: np.ndarray) -> list[float | None]:
    return [_null(value) for value in values]


def _records(columns: dict[str, list]) -> list[dict]:
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def _text(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
