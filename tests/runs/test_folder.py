"""What a run folder holds, and what it refuses."""

import json

import pytest

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system.writing import write_json, write_text


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
    with pytest.raises(SpecError, match=r"a\.laz: is inside the run"):
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


def test_provenance_grows_and_is_checked(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_provenance() == {}
    run.update_provenance(seed=1)
    run.update_provenance(best_epoch=2)
    assert json.loads(run.provenance.read_text()) == {"seed": 1, "best_epoch": 2}
    run.provenance.write_text("[]")
    with pytest.raises(
        DataError, match=r"run\.json: cannot be used \(.*; restore it from a copy"
    ):
        run.read_provenance()


def test_an_unfinished_training_has_its_own_message(tmp_path):
    run = RunFolder(tmp_path)
    for path in (run.spec, run.features, run.last_checkpoint):
        write_text(path, "")
    write_json(run.provenance, {})
    with pytest.raises(DataError, match=r"training is not finished.*--resume"):
        run.require_model()


def test_a_folder_with_drafts_of_a_killed_process_counts_as_empty(tmp_path):
    (tmp_path / ".123.part-model.keras").write_text("half")
    RunFolder(tmp_path).refuse_if_present(resume=False, overwrite=False)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SpecError, match="holds files that are not a run"):
        RunFolder(tmp_path).refuse_if_present(resume=False, overwrite=False)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"files": {"../spec.yaml": "0"}}',
        '{"files": ["model.keras"]}',
        '{"inputs": [{"path": "a.laz"}]}',
        '{"ensemble": [{}]}',
        '{"peak_memory": 1e400}',
        '{"parameters": "many"}',
        '{"vl3d_lite": ["0.2.0"]}',
        '{"evaluated": 3}',
        '{"machine": "large"}',
        '{"a":' * 200 + "1" + "}" * 200,
    ],
)
def test_a_damaged_provenance_is_one_message(tmp_path, content):
    run = RunFolder(tmp_path)
    run.provenance.write_text(content)
    with pytest.raises(DataError, match=r"run\.json: cannot be used"):
        run.read_provenance()


def test_entries_of_a_later_version_are_kept(tmp_path):
    run = RunFolder(tmp_path)
    write_json(run.provenance, {"shipped": True, "domain": {"density": [3, 40]}})
    assert run.read_provenance() == {"shipped": True, "domain": {"density": [3, 40]}}
