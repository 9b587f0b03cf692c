"""Evaluation of classified clouds: what metrics.json, tables and CSV hold."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.scores import BINS, PER_CLASS, Calibration, Scores, confusion_matrix

__all__ = [
    "Calibration",
    "CloudResult",
    "Evaluation",
    "Scores",
    "confusion_matrix",
    "evaluate",
]

METRICS_FORMAT = 1
ALL_CLOUDS = "(all clouds)"
ALL_CLASSES = "(all classes)"


@dataclass(frozen=True)
class CloudResult:
    """Counts of one cloud, or of many together.

    Args:
        confusion: ``(C, C)`` int64, from `confusion_matrix`.
        ignored: Points without a reference.
        calibration: Counts of confidences; empty when none were given.
    """

    confusion: np.ndarray
    ignored: int = 0
    calibration: Calibration = field(default_factory=Calibration)

    def __add__(self, other: "CloudResult") -> "CloudResult":
        return CloudResult(
            self.confusion + other.confusion,
            self.ignored + other.ignored,
            self.calibration + other.calibration,
        )

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
                             bins [{upper, count, accuracy, confidence}]}
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
        lines += ["", "   ".join(f"{key} {_text(x)}" for key, x in summary.items())]
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
        from vl3d_lite.run_folder import write_text

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

    def _result_dict(self, result: CloudResult) -> dict:
        scores, calibration = result.scores, result.calibration
        columns = {
            "support": scores.support.tolist(),
            "predicted": scores.predicted.tolist(),
            **{metric: _nulls(getattr(scores, metric)) for metric in PER_CLASS},
        }
        bins = {
            "upper": (np.arange(1, BINS + 1) / BINS).tolist(),
            "count": calibration.count.tolist(),
            "accuracy": _nulls(calibration.accuracy),
            "confidence": _nulls(calibration.confidence),
        }
        overall = ("overall_accuracy", "mean_accuracy", "mean_iou", "mcc", "kappa")
        return {
            "points": scores.points,
            "ignored": result.ignored,
            **{key: _null(getattr(scores, key)) for key in overall},
            "macro": {key: _null(scores.macro(key)) for key in PER_CLASS},
            "weighted": {key: _null(scores.weighted(key)) for key in PER_CLASS},
            "per_class": dict(zip(self.class_names, _records(columns), strict=True)),
            "confusion": result.confusion.tolist(),
            "calibration": {
                "expected_error": _null(calibration.expected_error),
                "bins": _records(bins),
            }
            if calibration.count.any()
            else None,
        }


def evaluate(pairs: Iterable[tuple], class_names: Sequence[str]) -> Evaluation:
    """Compare predictions with references, a cloud at a time.

    Args:
        pairs: ``(name, reference, prediction)`` or ``(name, reference,
            prediction, confidence)``; arrays ``(n,)``: class indices, -1 in
            `reference` where a point is ignored, and the probability of the
            predicted class. Entries of the same name add up.
        class_names: Name of each class index.

    Raises:
        DataError: Arrays do not fit each other; the message names the cloud.
    """
    evaluation = Evaluation(tuple(class_names))
    for name, reference, prediction, *confidence in pairs:
        try:
            matrix = confusion_matrix(reference, prediction, len(class_names))
            calibration = (
                Calibration.measure(reference, prediction, confidence[0])
                if confidence and confidence[0] is not None
                else Calibration()
            )
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        ignored = len(reference) - int(matrix.sum())
        result = CloudResult(matrix, ignored, calibration)
        evaluation += Evaluation(evaluation.class_names, {str(name): result})
    return evaluation


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
