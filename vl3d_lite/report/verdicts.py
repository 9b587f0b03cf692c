"""A word for each class, by its IoU."""


# The IoU from which on a class deserves the word.
VERDICTS = {
    0.9: ("excellent", "can be used as it is"),
    0.75: ("good", "needs spot checks"),
    0.5: ("fair", "needs checking throughout"),
    0.0: ("poor", "should not be relied on"),
}
FEW_POINTS = 200


def _verdicts(evaluation: Evaluation) -> list[dict]:
    scores = evaluation.scores
    verdicts = []
    for index, name in enumerate(evaluation.class_names):
        iou, support = scores.iou[index], int(scores.support[index])
        word, meaning = next(
            (words for limit, words in VERDICTS.items() if iou >= limit),
            ("not scored", "occurs neither in the reference nor in the prediction"),
        )
        if not support and scores.predicted[index]:
            word, meaning = "false alarms", "does not occur in the reference"
        verdicts.append(
            {
                "name": name,
                "iou": _null(iou),
                "word": word,
                "meaning": meaning,
                "support": support,
                "confusion": _main_confusion(evaluation, index),
            }
        )
    return verdicts


def _main_confusion(evaluation: Evaluation, index: int) -> str | None:
    """Say which other class costs the most: by points missed or by false alarms."""
    scores = evaluation.scores
    missed, alarms = scores.confusion[index].copy(), scores.confusion[:, index].copy()
    missed[index] = alarms[index] = 0
    other = evaluation.class_names[int(np.maximum(missed, alarms).argmax())]
    if missed.max() >= alarms.max() and missed.any():
        share = _percent(missed.max() / scores.support[index])
        return f"{share} of it is taken for {other}"
    if alarms.any():
        share = _percent(alarms.max() / scores.predicted[index])
        return f"{share} of its predictions are {other}"
    return None


def _null(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


