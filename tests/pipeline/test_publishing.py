"""What a run folder holds when a training begins, resumes and ends."""

import hashlib
import time
from types import SimpleNamespace

import keras
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.model.files import save_model
from vl3d_lite.pipeline import publishing
from vl3d_lite.pipeline.publishing import (
    publish,
    require_same_inputs,
    require_unchanged,
)
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.runs import provenance
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system import hashing
from vl3d_lite.system.file_cache import SETTLED_SECONDS
from vl3d_lite.system.hashing import file_hash
from vl3d_lite.system.writing import write_text


@pytest.fixture
def clouds(tmp_path):
    paths = [tmp_path / f"{name}.laz" for name in ("a", "b")]
    for path in paths:
        path.write_text(f"cloud {path.stem}")
    return paths


@pytest.fixture
def run(tmp_path, clouds):
    run = RunFolder(tmp_path / "run")
    run.create(overwrite=False)
    run.begin({"inputs": provenance.inputs(clouds)})
    return run


def loaded(train, validation):
    return SimpleNamespace(clouds={"train": [train], "validation": [validation]})


def test_a_run_resumes_with_the_same_clouds_wherever_they_lie(run, clouds, tmp_path):
    require_same_inputs(loaded(*clouds), run)
    moved = clouds[1].rename(tmp_path / "moved.laz")
    require_same_inputs(loaded(clouds[0], moved), run)


def test_a_cloud_that_changed_under_its_name_ends_resume(run, clouds):
    clouds[1].write_text("another cloud")
    with pytest.raises(DataError, match=r"cannot be resumed.*: \S*b\.laz; restore"):
        require_same_inputs(loaded(*clouds), run)


def test_two_clouds_that_swapped_their_names_are_found(run, clouds):
    before = [
        {**entry, "role": role}
        for entry, role in zip(
            provenance.inputs(clouds), ("train", "validation"), strict=True
        )
    ]
    text = clouds[0].read_text()
    clouds[0].write_text(clouds[1].read_text())
    clouds[1].write_text(text)
    with pytest.raises(DataError, match=r"a\.laz, \S*b\.laz: was replaced"):
        require_unchanged(before)
    for inputs in (before, run.read_provenance()["inputs"]):  # with and without roles
        run.update_provenance(inputs=inputs)
        with pytest.raises(DataError, match=r"cannot be resumed.*a\.laz, \S*b\.laz;"):
            require_same_inputs(loaded(*clouds), run)
        require_same_inputs(loaded(*clouds[::-1]), run)


def test_a_training_cloud_that_is_used_for_validation_ends_resume(run, clouds):
    now = SimpleNamespace(clouds={"train": clouds, "validation": []})
    before = provenance.inputs(clouds)
    run.update_provenance(
        inputs=[{**before[0], "role": "train"}, {**before[1], "role": "validation"}]
    )
    with pytest.raises(DataError, match=r"roles and order: \S*b\.laz; restore"):
        require_same_inputs(now, run)


def test_a_cloud_that_is_no_longer_named_ends_resume(run, clouds):
    with pytest.raises(DataError, match=r"cannot be resumed.*: \S*b\.laz; restore"):
        require_same_inputs(loaded(clouds[0], clouds[0]), run)


def test_a_cloud_replaced_while_it_is_read_is_an_error(clouds):
    before = provenance.inputs(clouds)
    require_unchanged(before)
    clouds[0].write_text("another cloud")
    with pytest.raises(DataError, match=r"a\.laz: was replaced or changed"):
        require_unchanged(before)


def test_a_training_that_resumes_reads_each_cloud_once_for_its_hash(
    run, clouds, monkeypatch
):
    time.sleep(1.5 * SETTLED_SECONDS)
    read, digest = [], hashlib.file_digest

    def counted(file, kind):
        read.append(file.name)
        return digest(file, kind)

    monkeypatch.setattr(hashing.hashlib, "file_digest", counted)
    require_same_inputs(loaded(*clouds), run)
    before = provenance.inputs(clouds)
    require_unchanged(before)
    assert read == list(map(str, clouds))
    clouds[1].write_text("cloud x")  # as many bytes
    with pytest.raises(DataError, match=r"b\.laz: was replaced or changed"):
        require_unchanged(before)
    assert read == [*map(str, clouds), str(clouds[1])]


def test_run_json_describes_the_model_before_the_model_is_there(run, monkeypatch):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    spec = SimpleNamespace(export=SimpleNamespace(kernels=False))
    write_text(run.features, "{}")
    seen = []

    def save(model, path, before_rename):
        def check(draft):
            before_rename(draft)
            seen.append((path.exists(), run.read_provenance()["files"][path.name]))

        save_model(model, path, check)

    monkeypatch.setattr(publishing, "save_model", save)
    publish(run, spec, model, Temperature(), best_epoch=3)
    assert seen == [(False, file_hash(run.model))]
    content = run.read_provenance()
    assert content["best_epoch"] == 3
    assert content["files"]["calibration.json"] == file_hash(run.calibration)
    assert len(content["weights_sha256"]) == 64
