"""Scores as aligned text for a terminal."""

from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.evaluation import Evaluation, Scores
from vl3d_lite.report.text import percent, table

if TYPE_CHECKING:  # Its module imports Keras, which takes seconds.
    from vl3d_lite.evaluation import RotationReport

__all__ = ["caveat_lines", "rotation_table", "score_table"]


def score_table(evaluation: Evaluation) -> str:
    """Format the pooled scores of an evaluation.

    Returns:
        One line per class, the means, the overall scores, and the number of
        clouds and points; an undefined score is ``-``.
    """
    pooled, scores = evaluation.pooled, evaluation.scores
    rows = [["class", "points", "predicted", "IoU", "P", "R", "F1"]]
    columns = ("iou", "precision", "recall", "f1")
    values = np.stack([getattr(scores, metric) for metric in columns], axis=1)
    for index, name in enumerate(evaluation.class_names):
        counts = scores.support[index], scores.predicted[index]
        rows.append([name, *map("{:,}".format, counts), *map(_score, values[index])])
    for name, mean in (("mean", scores.macro), ("weighted mean", scores.weighted)):
        rows.append([name, "", "", *(_score(mean(metric)) for metric in columns)])
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
    lines = [table(rows), ""]
    lines.append("   ".join(f"{key} {_score(value)}" for key, value in summary.items()))
    if pooled.accepted is not None:
        accepted = Scores(pooled.accepted)
        share = percent(accepted.points / max(scores.points, 1))
        lines.append(
            f"accepted points only ({share})   mIoU {_score(accepted.mean_iou)}"
            f"   OA {_score(accepted.overall_accuracy)}"
        )
    clouds = len(evaluation.clouds)
    lines.append(
        f"{clouds} cloud{'s' * (clouds != 1)}, {scores.points:,} points, "
        f"{pooled.ignored:,} ignored"
    )
    return "\n".join(lines) + "\n"


def caveat_lines(evaluation: Evaluation) -> list[str]:
    """One line per cloud whose scores are not those of an independent test."""
    return [f"{name}: {text}" for name, text in evaluation.caveats.items()]


def rotation_table(rotations: "RotationReport") -> str:
    """Format the shares of a rotation test, one line per rotation, means last."""
    group = rotations.group
    rows = [["rotation", f"with {group}", "without"]]
    for name, own, kept, plain in rotations.rows:
        label = f"{name} ({group})" if own else name
        rows.append([label, f"{kept:.2%}", f"{plain:.2%}"])
    for name, own in ((f"mean of {group}", True), ("mean of the others", False)):
        shares = [row[2:] for row in rotations.rows if row[1] == own]
        if shares:
            kept, plain = np.mean(shares, axis=0)
            rows.append([name, f"{kept:.2%}", f"{plain:.2%}"])
    return table(rows)


def _score(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"
