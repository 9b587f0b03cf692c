"""Validation of a network after each epoch of its training."""

from collections.abc import Callable

import numpy as np

from vl3d_lite.dataset import SweepBatches, scored_labels
from vl3d_lite.evaluation import Scores, confusion_matrix
from vl3d_lite.pipeline.preparing import TrainingInputs
from vl3d_lite.prediction import Inference, predict_cells
from vl3d_lite.runs import Options
from vl3d_lite.spec import Spec


def make_validator(
    inference: Inference, inputs: TrainingInputs, spec: Spec, options: Options
) -> Callable[[], dict[str, float]] | None:
    """A function that scores the network on the validation clouds.

    The fields of the clouds are laid out once. Each cell of a cloud counts once, on
    a single pass.

    Returns:
        A function without arguments that returns ``miou``, ``accuracy`` and
        ``iou_<class>``; None where no validation cloud has labels. A class without
        validation points is unknown: it has no IoU and no part in the mean. With
        points of a single class there is no ``miou``, since it could not distinguish a
        good network from one that predicts that class everywhere.
    """
    clouds, n_classes = inputs.validation, len(spec.classes)
    if not clouds:
        return None
    sweeps = [
        SweepBatches(
            cloud,
            spec,
            inputs.scaling,
            votes=1,
            batch_size=spec.prediction_batch,
            threads=options.threads,
        )
        for cloud in clouds
    ]
    # XLA compiles once for all epochs, so the batches of all of them count.
    n_batches = sum(map(len, sweeps)) * spec.training.epochs

    def validate() -> dict[str, float]:
        view = inference.view(n_batches)
        at_once = inference.batches_at_once(options.threads)
        counts = np.zeros((n_classes, n_classes), np.int64)
        for cloud, sweep in zip(clouds, sweeps, strict=True):
            cells = predict_cells(view, sweep, cloud.xyz, at_once=at_once)
            reference = scored_labels(cloud.labels, cells.class_index, spec)
            counts += confusion_matrix(reference, cells.class_index, n_classes)
        scores = Scores(counts)
        iou = dict(zip(spec.class_names, scores.known_iou, strict=True))
        found = {
            "miou": scores.known_mean_iou,
            "accuracy": scores.overall_accuracy,
            **{f"iou_{name}": value for name, value in iou.items()},
        }
        return {name: value for name, value in found.items() if not np.isnan(value)}

    return validate
