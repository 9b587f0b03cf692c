"""What a run folder holds, and what it refuses."""

import json
from contextlib import suppress

import pytest

from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.runs import folder
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system.hashing import file_hash
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
        (lambda run: None, {"resume": True}, "no run to resume"),
        (lambda run: write_json(run.provenance, {}), {}, "--overwrite"),
        (lambda run: write_text(run.root / "x", ""), {"overwrite": True}, "not a run"),
        (lambda run: run.root.write_text(""), {}, "is a file"),
        (
            lambda run: write_text(run.root / "x", ""),
            {"resume": True},
            "no run to resume",
        ),
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


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it runs."""


def kill_at(monkeypatch, number):
    """Stop at the `number`th change of a file system by `RunFolder`."""
    done = []

    def counted(change):
        def call(*arguments, **keywords):
            if len(done) == number:
                raise KilledError
            done.append(change)
            return change(*arguments, **keywords)

        return call

    for owner, name in (
        (folder.shutil, "rmtree"),
        (folder.Path, "unlink"),
        (folder, "write_bytes"),
        (folder, "write_json"),
    ):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))


def write_run(run, text, *, overwrite):
    run.create(overwrite=overwrite)
    write_text(run.checkpoints / "last.npz", text)
    run.begin({"seed": 1})
    for path in (run.spec, run.features, run.model, run.predictions / "a.laz"):
        write_text(path, text)


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwritten"])
@pytest.mark.parametrize("number", range(12))
def test_a_kill_before_run_json_blocks_nothing_and_leaves_nothing(
    tmp_path, monkeypatch, number, overwrite
):
    run = RunFolder(tmp_path)
    if overwrite:
        write_run(run, "old", overwrite=False)
        write_text(tmp_path / "notes.txt", "mine")
    with monkeypatch.context() as patch, suppress(KilledError):
        kill_at(patch, number)
        write_run(run, "half", overwrite=overwrite)
    begun = run.exists()
    for flags in (
        {"resume": True, "overwrite": False},
        {"resume": False, "overwrite": True},
        {"resume": False, "overwrite": False},
    ):
        if begun and not any(flags.values()):
            continue  # a run that has begun is never overwritten by default
        run.refuse_if_present(**flags)
    write_run(run, "new", overwrite=begun)
    assert {path.name for path in tmp_path.iterdir()} - {"notes.txt"} == {
        "checkpoints",
        "features.json",
        "model.keras",
        "predictions",
        "run.json",
        "spec.yaml",
    }
    assert run.predictions.joinpath("a.laz").read_text() == "new"
    assert (tmp_path / "notes.txt").exists() == overwrite


def test_a_run_is_locked_and_its_leftovers_are_removed(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.locked():
        write_text(run.checkpoints / ".1-00000000.part-last.npz", "half")
        write_text(run.root / ".1.part-model.keras", "half")
        with pytest.raises(ResourceError, match=r"run: process \d+ on host"):
            lock_again(run)
    assert run.root.exists()
    with run.locked():
        pass
    assert list(run.checkpoints.iterdir()) == []
    assert [path.name for path in run.root.iterdir()] == ["checkpoints"]


def lock_again(run):
    with run.locked():
        pass


def test_a_folder_that_was_made_for_its_lock_is_removed(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.locked():
        run.refuse_if_present(resume=True, overwrite=False)
    assert not run.root.exists()


def test_a_run_is_locked_for_what_is_written_into_its_folder_alone(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create(overwrite=False)
    lock = run.root / ".lock"
    for target, locks in (
        (run.root, True),
        (run.kernels, True),
        (tmp_path / "run2", False),
        (tmp_path, False),
    ):
        with run.locked_for(target):
            assert lock.exists() == locks


def test_a_file_is_held_against_the_hash_that_run_json_records(tmp_path):
    run = RunFolder(tmp_path)
    write_text(run.features, "{}")
    run.require_recorded(run.features)  # nothing is recorded yet
    run.update_provenance(files={"features.json": file_hash(run.features)})
    run.require_recorded(run.features)
    write_text(run.features, "{ }")
    with pytest.raises(DataError, match=r"features\.json: is not the file of this run"):
        run.require_recorded(run.features)
    run.features.unlink()
    with pytest.raises(DataError, match=r"features\.json: cannot be read"):
        run.require_recorded(run.features)
