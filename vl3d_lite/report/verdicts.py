"""Verdicts on the classes, in words, by their IoU."""

import math
from typing import Any

import numpy as np

from vl3d_lite.evaluation import Evaluation
from vl3d_lite.report.text import percent

__all__ = ["FEW_POINTS", "VERDICTS", "class_verdicts"]

# Verdict and its meaning, by the lowest IoU it is given for.
VERDICTS = {
    0.9: ("excellent", "can be used as is"),
    0.75: ("good", "needs spot checks"),
    0.5: ("fair", "needs a complete check"),
    0.0: ("poor", "should not be used"),
}
FEW_POINTS = 200  # below it, one object decides the score of a class


def class_verdicts(evaluation: Evaluation) -> list[dict[str, Any]]:
    """IoU, verdict and most frequent confusion of each class."""
    scores = evaluation.scores
    verdicts = []
    for index, name in enumerate(evaluation.class_names):
        iou, support = float(scores.iou[index]), int(scores.support[index])
        word, meaning = next(
            (words for limit, words in VERDICTS.items() if iou >= limit),
            ("not scored", "occurs neither in the reference nor in the prediction"),
        )
        if not support and scores.predicted[index]:
            word, meaning = "false alarms", "does not occur in the reference"
        verdicts.append(
            {
                "name": name,
                "iou": iou if math.isfinite(iou) else None,
                "word": word,
                "meaning": meaning,
                "support": support,
                "confusion": _main_confusion(evaluation, index),
            }
        )
    return verdicts


def _main_confusion(evaluation: Evaluation, index: int) -> str | None:
    """The confusion with another class that affects the most points, in words."""
    scores = evaluation.scores
    missed, alarms = scores.confusion[index].copy(), scores.confusion[:, index].copy()
    missed[index] = alarms[index] = 0
    other = evaluation.class_names[int(np.maximum(missed, alarms).argmax())]
    if missed.max() >= alarms.max() and missed.any():
        share = percent(missed.max() / scores.support[index])
        return f"{share} of its points are predicted as {other}"
    if alarms.any():
        share = percent(alarms.max() / scores.predicted[index])
        return f"{share} of its predictions are {other} in the reference"
    return None
