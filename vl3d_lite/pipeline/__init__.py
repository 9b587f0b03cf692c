"""The commands, one per file: where files meet models."""

# Eager: a lazy name that is also the name of its module would give the module.
from vl3d_lite.pipeline.auto import predict_with_fitting_models
from vl3d_lite.pipeline.ensemble import ensemble
from vl3d_lite.pipeline.evaluate import evaluate, rotations, score
from vl3d_lite.pipeline.export import export
from vl3d_lite.pipeline.opening import load_network, open_calibration, open_run
from vl3d_lite.pipeline.predict import predict, repeat_predictions
from vl3d_lite.pipeline.run import run
from vl3d_lite.pipeline.train import train
from vl3d_lite.pipeline.verify import incomplete, verify

__all__ = [
    "ensemble",
    "evaluate",
    "export",
    "incomplete",
    "load_network",
    "open_calibration",
    "open_run",
    "predict",
    "predict_with_fitting_models",
    "repeat_predictions",
    "rotations",
    "run",
    "score",
    "train",
    "verify",
]
