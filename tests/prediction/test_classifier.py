"""What a classifier records of each cloud."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from vl3d_lite.pipeline import cloud_queue
from vl3d_lite.prediction import classifier as classify
from vl3d_lite.prediction.votes import CellPrediction
from vl3d_lite.system.interrupts import Interrupts


def test_each_record_names_how_its_own_cloud_was_compiled(monkeypatch):
    begun = threading.Event()

    class Network:
        xla = False

        def batches_at_once(self, threads):
            return 1

        def view(self, n_batches):
            self.xla = n_batches > 1
            if not self.xla:
                begun.set()

    class Sweep:
        def __init__(self, path):
            self.length = 3 if path.name == "large" else 1
            cloud = SimpleNamespace(
                xyz=np.zeros((1, 3)),
                point_labels=np.array([-1]),
                cell_of_point=np.array([0]),
            )
            self.source = SimpleNamespace(prepared=cloud)

        def __len__(self):
            return self.length

    class Classifier(classify.Classifier):
        def sweep(self, path, grid, cloud=None):
            return Sweep(path)

    monkeypatch.setattr(cloud_queue, "fits_beside", lambda *_: True)
    prediction = CellPrediction(np.ones((1, 1), np.float32), np.ones(1, bool))
    for name, replacement in {
        "predict_cells": lambda *_, **__: prediction,
        "write_prediction": lambda *_, **__: begun.wait(5),
        "class_column": lambda _: "prediction",
    }.items():
        monkeypatch.setattr(classify, name, replacement)
    monkeypatch.setattr(classify.provenance, "file_hash", lambda _: "")
    settings = SimpleNamespace(
        grids=1, votes=1, keep_codes=(), min_confidence=None, model_dump=lambda **_: {}
    )
    paths, done = [Path("large"), Path("small")], []
    outputs = SimpleNamespace(
        remaining=paths, targets={path: path for path in paths}, record=done.append
    )
    with Interrupts() as interrupts:
        classifier = Classifier(
            Network(),
            SimpleNamespace(prediction=settings),
            None,
            classify.Options(threads=2, quiet=True),
            interrupts,
        )
        cloud_queue.CloudQueue(classifier, outputs).predict()
    assert [outcome.xla for outcome in done] == [True, False]
