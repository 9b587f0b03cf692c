"""What a classifier records of each cloud."""

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import laspy
import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.pipeline import cloud_queue
from vl3d_lite.prediction import classifier as classify
from vl3d_lite.prediction import source_hash
from vl3d_lite.prediction.origin import Origin
from vl3d_lite.prediction.votes import CellPrediction
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.hashing import file_hash
from vl3d_lite.system.interrupts import Interrupts

ORIGIN = Origin("town", "w" * 64, "n" * 64, "f" * 64, {"votes": 2}, "", 0.7)


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
                excluded=None,
            )
            self.source = SimpleNamespace(prepared=cloud)

        def __len__(self):
            return self.length

    def write_prediction(*_, before_rename, **__):
        begun.wait(5)
        before_rename(Path("draft"))

    class Classifier(classify.Classifier):
        def sweep(self, path, grid, cloud=None):
            return Sweep(path)

    monkeypatch.setattr(cloud_queue, "fits_beside", lambda *_: True)
    prediction = CellPrediction(np.ones((1, 1), np.float32), np.ones(1, bool))
    for name, replacement in {
        "predict_cells": lambda *_, **__: prediction,
        "write_prediction": write_prediction,
        "class_column": lambda _: "prediction",
        "class_totals": lambda *_: {},
    }.items():
        monkeypatch.setattr(classify, name, replacement)
    monkeypatch.setattr(classify, "file_hash", lambda _: "")
    monkeypatch.setattr(source_hash, "file_hash", lambda _: "")
    settings = SimpleNamespace(
        grids=1, votes=1, keep_codes=(), min_confidence=None, model_dump=lambda **_: {}
    )
    paths, announced, done = [Path("large"), Path("small")], [], []
    outputs = SimpleNamespace(
        remaining=paths,
        targets={path: path for path in paths},
        announce=announced.append,
        record=done.append,
    )
    with Interrupts() as interrupts:
        classifier = Classifier(
            Network(),
            SimpleNamespace(prediction=settings, clouds=SimpleNamespace(unit=None)),
            None,
            classify.Options(threads=2, quiet=True),
            interrupts,
        )
        cloud_queue.CloudQueue(classifier, outputs).predict()
    assert [outcome.xla for outcome in done] == [True, False]
    assert announced == done


@pytest.fixture
def classifier(place):
    spec = read_spec(place / "spec.yaml").spec
    options = classify.Options(threads=1, quiet=True)
    return classify.Classifier(
        SimpleNamespace(xla=False), spec, None, options, Interrupts(), origin=ORIGIN
    )


def test_the_hash_of_a_cloud_is_that_of_the_file_as_it_was_read(
    classifier, place, tmp_path, monkeypatch
):
    def prepare_file(path, *_, **__):
        shutil.copy(place / "val.laz", path)  # replaced as soon as it was opened

    monkeypatch.setattr(classify, "prepare_file", prepare_file)
    for name in ("impute_constant_features", "SweepBatches"):
        monkeypatch.setattr(classify, name, lambda *_, **__: None)
    source = Path(shutil.copy(place / "test.laz", tmp_path))
    classifier.sweep(source, 0)
    classifier.sweep(source, 1)
    assert classifier.read_hashes == {source: file_hash(place / "test.laz")}


def test_a_cloud_replaced_while_it_was_predicted_is_not_written(
    classifier, place, tmp_path
):
    source = Path(shutil.copy(place / "test.laz", tmp_path))
    target, announced = tmp_path / "out.laz", []
    n = laspy.read(source).header.point_count
    predicted = classify.CloudPrediction(
        CellPrediction(np.full((1, 3), 1 / 3, np.float32), np.ones(1, bool)),
        np.zeros(n, int),
        np.full(n, -1),
        seconds=0.0,
        xla=False,
        source_sha256=file_hash(source),
    )

    def announce(outcome):
        announced.append(outcome)
        assert not target.exists()

    shutil.copy(place / "val.laz", source)  # as many points
    with pytest.raises(DataError, match=r"test\.laz: was replaced or changed while"):
        classifier.write(source, target, predicted, announce)
    assert announced == []
    assert [path.name for path in tmp_path.iterdir()] == ["test.laz"]
    shutil.copy(place / "test.laz", source)
    outcome = classifier.write(source, target, predicted, announce)
    assert announced == [outcome]
    assert outcome.sha256 == file_hash(target)
    assert outcome.source_sha256 == file_hash(source)
    header = laspy.read(target).header
    assert header.generating_software == f"vl3d_lite {ORIGIN.version} town"
    (signed,) = (vlr for vlr in header.vlrs if vlr.user_id == "vl3d_lite")
    assert json.loads(signed.record_data)["weights_sha256"] == "w" * 64


@pytest.mark.parametrize(("hidden", "nearest"), [([], 2), ([0, 1, 3], 4)])
def test_excluded_points_count_as_filled_from_the_nearest_cell(
    classifier, place, hidden, nearest
):
    cells = CellPrediction(
        np.full((3, 3), 1 / 3, np.float32), np.array([1, 1, 0], bool)
    )
    excluded = np.isin(np.arange(6), hidden)
    predicted = classify.CloudPrediction(
        cells, np.array([0, 1, 0, 2, 2, 1]), np.full(6, -1), 0.0, False, excluded
    )
    source = place / "test.laz"
    outcome = classifier._outcome(source, source, predicted, classifier.spec, 0.0)
    assert (outcome.points, outcome.nearest, outcome.voted) == (6, nearest, 6 - nearest)
