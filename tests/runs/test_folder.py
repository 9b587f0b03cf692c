"""Writing whole or not at all, and what a run folder refuses."""

import errno
import json
from pathlib import Path

import pytest

from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system.writing import replacing, write_json, write_text


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path):
    write_text(tmp_path / "new/deep/note.txt", "größe")
    assert (tmp_path / "new/deep/note.txt").read_bytes() == "größe".encode()
    assert [path.name for path in (tmp_path / "new/deep").iterdir()] == ["note.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, error):
    target = tmp_path / "note.txt"
    write_text(target, "old")

    def fail():
        with replacing(target) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_a_resource_error_with_a_remedy(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match=r"No space left.*free some space"):
        write_text(tmp_path / "note.txt", "text")
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_a_folder_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "file/note.txt", "text")


def test_json_refuses_what_no_reader_could_read(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "run.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_overwriting_removes_an_earlier_run(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create(overwrite=False)
    write_json(run.provenance, {})
    write_text(run.predictions / "old.txt", "")
    run.create(overwrite=True)
    assert not run.exists()
    assert not run.predictions.exists()
    assert run.checkpoints.is_dir()


def test_overwriting_leaves_what_others_put_beside_a_run(tmp_path):
    run = RunFolder(tmp_path)
    run.create(overwrite=False)
    write_json(run.provenance, {})
    write_text(tmp_path / "notes.txt", "mine")
    run.create(overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_with_nothing_but_a_spec_is_no_run(tmp_path):
    run = RunFolder(tmp_path)
    write_text(tmp_path / "spec.yaml", "seed: 1")
    assert not run.exists()
    with pytest.raises(SpecError, match="not a run"):
        run.refuse_if_present(resume=False, overwrite=True)


def test_an_input_inside_the_run_is_refused_before_overwriting(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.require_apart([tmp_path / "a.laz", run.root / "a.laz"])
    with pytest.raises(SpecError, match=r"a\.laz: lies inside the run"):
        run.require_apart([run.predictions / "a.laz"])


@pytest.mark.parametrize(
    ("make", "flags", "message"),
    [
        (lambda run: run.create(overwrite=False), {"resume": True}, "no run to resume"),
        (lambda run: write_json(run.provenance, {}), {}, "--overwrite"),
        (lambda run: write_text(run.root / "x", ""), {"overwrite": True}, "not a run"),
        (lambda run: run.root.write_text(""), {}, "is a file"),
    ],
)
def test_a_folder_that_must_not_be_touched_is_refused(tmp_path, make, flags, message):
    run = RunFolder(tmp_path / "run")
    make(run)
    with pytest.raises(SpecError, match=message):
        run.refuse_if_present(**{"resume": False, "overwrite": False, **flags})


def test_a_receipt_grows_and_is_checked(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_provenance() == {}
    run.update_provenance(seed=1)
    run.update_provenance(best_epoch=2)
    assert json.loads(run.provenance.read_text()) == {"seed": 1, "best_epoch": 2}
    run.provenance.write_text("[]")
    with pytest.raises(DataError, match=r"not a run.s receipt"):
        run.read_provenance()


def test_an_unfinished_training_is_told_apart(tmp_path):
    run = RunFolder(tmp_path)
    for path in (run.spec, run.features, run.last_checkpoint):
        write_text(path, "")
    write_json(run.provenance, {})
    with pytest.raises(DataError, match=r"training did not end.*--resume"):
        run.require_model()
