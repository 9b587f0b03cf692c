"""Evaluation of classified clouds against their reference labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.evaluation.coverage import ThresholdCounts
from vl3d_lite.evaluation.scores import CloudResult, Scores, confusion_matrix
from vl3d_lite.evaluation.tables import result_record, scores_csv
from vl3d_lite.prediction import ReliabilityCounts
from vl3d_lite.system import write_text

__all__ = ["Evaluation", "ScoredCloud", "evaluate"]

METRICS_FORMAT = 1


class ScoredCloud(NamedTuple):
    """Predictions and reference labels of a cloud.

    Args:
        name: Name of the cloud.
        reference: ``(n,)`` int class index, -1 where a point is ignored.
        prediction: ``(n,)`` int class index.
        confidence: ``(n,)`` float in [0, 1], probability of the predicted class.
        uncalibrated: Counts of the confidences before calibration.
        accepted: ``(n,)`` bool, False where the confidence is below
            ``prediction.min_confidence`` and the point was left unclassified.
        partial: ``(n,)`` bool, True where the label of a point was partial. Such a
            point counts in the confusion matrix alone: a probability of one class is
            not that of being right.
    """

    name: str
    reference: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray | None = None
    uncalibrated: ReliabilityCounts | None = None
    accepted: np.ndarray | None = None
    partial: np.ndarray | None = None


@dataclass(frozen=True)
class Evaluation:
    """Results by cloud, and of all clouds pooled.

    ``a + b`` adds the counts of clouds of the same name (chunks of one file)
    and keeps all other clouds.

    Args:
        class_names: ``C`` different names.
        clouds: Result by cloud name, in the order of evaluation.
        caveats: A sentence on each cloud whose scores must not be read as those of
            an independent test, by cloud name.

    Raises:
        DataError: A class name occurs twice; or, on ``+``, classes differ.
    """

    class_names: tuple[str, ...]
    clouds: dict[str, CloudResult] = field(default_factory=dict)
    caveats: dict[str, str] = field(default_factory=dict)

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
        caveats = {**self.caveats, **other.caveats}
        return Evaluation(self.class_names, clouds, caveats)

    @property
    def pooled(self) -> CloudResult:
        """Result of the points of all clouds together."""
        n = len(self.class_names)
        return sum(self.clouds.values(), CloudResult(np.zeros((n, n), np.int64)))

    @property
    def scores(self) -> Scores:
        """Scores of all clouds pooled."""
        return self.pooled.scores

    def to_dict(self) -> dict:
        """Content of ``metrics.json``: numbers, lists and None, no NaN.

        ::

            format       1
            class_names  [name]
            pooled       result
            clouds       {cloud: result}
            caveats      {cloud: sentence}, where there is one

            result       points, ignored, overall_accuracy, mean_accuracy,
                         mean_iou, mcc, kappa,
                         macro, weighted {precision, recall, f1, iou},
                         per_class {class: support, predicted, precision,
                                    recall, f1, iou},
                         confusion [[points]], one row per reference class,
                         calibration or null {expected_error,
                             uncalibrated_error or null,
                             bins [{upper, count, accuracy, confidence}]},
                         by_threshold or null [{confidence, coverage, accuracy}],
                         accepted or null {points, coverage, overall_accuracy,
                             mean_accuracy, mean_iou, mcc, kappa,
                             per_class {class: as above}, confusion}

        All scores except those of `accepted` count a rejected point by its most
        probable class.
        """
        content: dict[str, Any] = {
            "format": METRICS_FORMAT,
            "class_names": list(self.class_names),
            "pooled": result_record(self.pooled, self.class_names),
            "clouds": {
                name: result_record(result, self.class_names)
                for name, result in self.clouds.items()
            },
        }
        if self.caveats:
            content["caveats"] = dict(self.caveats)
        return content

    def write_csv(self, path: Path) -> None:
        """Write `scores_csv` of the pooled clouds and of each cloud.

        Raises:
            ResourceError: The file cannot be written.
        """
        text = scores_csv(self.pooled, self.clouds, self.class_names)
        write_text(Path(path), text)


def evaluate(clouds: Iterable[tuple], class_names: Sequence[str]) -> Evaluation:
    """Compare predictions with references, one cloud at a time.

    Args:
        clouds: `ScoredCloud` entries, or tuples of their first three or more
            values. Entries of the same name are added.
        class_names: Name of each class index.

    Raises:
        DataError: Lengths differ, or a value is out of range; the message names
            the cloud.
    """
    evaluation = Evaluation(tuple(class_names))
    for entry in clouds:
        cloud = ScoredCloud(*entry)
        try:
            result = _result_of(cloud, len(class_names))
        except DataError as error:
            raise DataError(f"{cloud.name}: {error}") from None
        evaluation += Evaluation(evaluation.class_names, {str(cloud.name): result})
    return evaluation


def _result_of(cloud: ScoredCloud, n_classes: int) -> CloudResult:
    reference, prediction = cloud.reference, cloud.prediction
    matrix = confusion_matrix(reference, prediction, n_classes)
    calibration, by_threshold, accepted = ReliabilityCounts(), ThresholdCounts(), None
    if cloud.confidence is not None:
        exact = reference
        if cloud.partial is not None:
            exact = np.where(cloud.partial, -1, reference)
        calibration = ReliabilityCounts.measure(exact, prediction, cloud.confidence)
        by_threshold = ThresholdCounts.measure(exact, prediction, cloud.confidence)
    if cloud.accepted is not None:
        accepted_reference = np.where(cloud.accepted, reference, -1)
        accepted = confusion_matrix(accepted_reference, prediction, n_classes)
    return CloudResult(
        matrix,
        len(reference) - int(matrix.sum()),
        calibration,
        cloud.uncalibrated or ReliabilityCounts(),
        by_threshold,
        accepted,
    )
