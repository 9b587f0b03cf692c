"""Verification: an unchanged run passes, every change is named."""

import importlib
import json
import shutil
from pathlib import Path

import pytest

from vl3d_lite import pipeline
from vl3d_lite.cli import runs as cli
from vl3d_lite.errors import DataError, VL3DError
from vl3d_lite.pipeline.verify import Verification, verify
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.system.hashing import file_hash
from vl3d_lite.system.writing import write_json

pytestmark = pytest.mark.usefixtures("nothing_twice")


@pytest.fixture
def copy(trained, tmp_path):
    shutil.copytree(trained.root, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


@pytest.mark.slow
def test_an_unchanged_run_is_equal_in_any_folder(copy):
    found = verify(copy)
    assert found.differences == []
    assert found.notes == []
    assert {
        "spec.yaml",
        "model.keras",
        "features.json",
        "calibration.json",
        "test.laz, predicted again",
        "scores of the repeated evaluation",
    } <= set(found.equal)
    assert sum(text.endswith("train.laz") for text in found.equal) == 1


@pytest.mark.slow
def test_a_change_of_the_model_is_seen_in_what_it_predicts(copy):
    content = json.loads(copy.calibration.read_text())
    write_json(copy.calibration, {**content, "temperature": 3.0})
    lines = verify(copy).differences
    assert "calibration.json: has changed" in lines
    assert any("is not the file of this run" in line for line in lines)
    digest = file_hash(copy.calibration)
    files = copy.read_provenance()["files"]
    copy.update_provenance(files={**files, "calibration.json": digest})
    lines = verify(copy).differences
    assert "test.laz, predicted again: the prediction has changed" in lines
    assert any(
        text.startswith("metrics.json: pooled.calibration.expected_error was")
        for text in lines
    )


def test_what_is_missing_or_changed_is_named(copy, tmp_path):
    content = copy.read_provenance()
    gone, other = content["inputs"]
    gone["path"] = str(tmp_path / "gone.laz")
    other["sha256"] = "0"
    copy.update_provenance(inputs=[gone, other])
    record = copy.predictions / ".records/test.laz.json"
    content = json.loads(record.read_text())
    write_json(record, {**content, "source": str(tmp_path / "away.laz")})
    found = verify(copy)
    lines = found.differences
    assert found.absent == [str(tmp_path / "gone.laz")]
    assert f"ABSENT   {tmp_path / 'gone.laz'}" in found.lines()
    assert f"{other['path']}: has changed" in lines
    assert f"{tmp_path / 'away.laz'}: is missing" in lines
    assert "the evaluation cannot be repeated" in lines
    assert len(lines) == 3


@pytest.fixture
def same_predictions(monkeypatch):
    """Repeated predictions equal the existing ones."""
    monkeypatch.setattr(
        importlib.import_module("vl3d_lite.pipeline.verify"),
        "repeat_predictions",
        lambda run, outcomes, folder, quiet, threads: [
            shutil.copy(run.predictions / outcome.output, folder) and outcome
            for outcome in outcomes
        ],
    )


@pytest.mark.slow
@pytest.mark.usefixtures("same_predictions")
def test_scores_that_were_written_by_hand_are_found(copy):
    metrics = json.loads(copy.metrics.read_text())
    metrics["pooled"]["mean_iou"] = 0.99
    write_json(copy.metrics, metrics)
    (lines,) = verify(copy).differences
    assert lines.startswith("metrics.json: pooled.mean_iou was 0.99, is 0.")


def test_a_run_without_an_evaluation_has_its_provenance_checked(copy):
    shutil.rmtree(copy.predictions)
    lines = verify(copy).differences
    assert lines == [f"{copy.predictions}: the scored predictions are not found"]
    copy.metrics.unlink()
    found = verify(copy)
    assert found.differences == []
    assert found.notes == ["there is no evaluation to repeat"]


@pytest.mark.slow
@pytest.mark.usefixtures("same_predictions")
def test_predictions_that_nobody_scored_are_no_difference(copy):
    copy.metrics.unlink()
    assert verify(copy).differences == ["metrics.json: is missing"]
    content = copy.read_provenance()
    del content["evaluated"]
    write_json(copy.provenance, content)
    found = verify(copy)
    assert found.differences == []
    assert found.notes == ["the predictions were not scored"]


@pytest.mark.slow
@pytest.mark.usefixtures("same_predictions")
def test_another_number_of_threads_is_a_note(copy):
    notes = verify(copy, threads=1).notes
    assert "threads were 2, are 1; last digits may differ by that" in notes
    assert not any("threads" in note for note in verify(copy, threads=2).notes)


def test_another_spec_and_other_versions_are_notes(copy):
    shutil.rmtree(copy.predictions)
    copy.metrics.unlink()
    copy.spec.write_text(copy.spec.read_text().replace("votes: 2", "votes: 3"))
    copy.update_provenance(
        python="2.7",
        packages={"numpy": "0.1"},
        machine={"processor": "abacus"},
        files={},
    )
    found = verify(copy)
    assert "python was 2.7, is" in found.notes[0]
    assert found.notes[1].startswith("the machine's processor was abacus, is ")
    assert any(note.startswith("numpy was 0.1, is") for note in found.notes)
    assert any(note.startswith("keras was absent, is") for note in found.notes)
    assert found.differences[0] == "spec.yaml: has changed"
    assert "has no hash of it" in found.differences[1]


def test_the_command_fails_where_something_differs(trained, monkeypatch, capsys):
    found = Verification(equal=["spec.yaml"], notes=["new numpy"])
    monkeypatch.setattr(pipeline, "verify", lambda run, quiet, threads: found)
    monkeypatch.setattr(cli, "configure_logging", lambda quiet: None)
    cli.verify(trained.root)
    assert capsys.readouterr().out == "equal    spec.yaml\nnote     new numpy\n"
    found.differences.append("model.keras: has changed")
    with pytest.raises(VL3DError, match="1 differences") as raised:
        cli.verify(trained.root)
    assert raised.value.exit_code == 1
    assert "DIFFERS  model.keras: has changed" in capsys.readouterr().out


def test_a_shipped_run_is_checked_without_its_clouds(
    copy, place, tmp_path, monkeypatch, capsys
):
    shutil.rmtree(copy.predictions)
    copy.metrics.unlink()
    named = copy.read_provenance()["inputs"]
    bare = [{**entry, "path": Path(entry["path"]).name} for entry in named]
    copy.update_provenance(inputs=bare)
    monkeypatch.setattr(cli, "configure_logging", lambda quiet: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"2 of the clouds .* are not found") as raised:
        cli.verify(copy.root)
    assert raised.value.exit_code == 3
    assert "verify from there" in str(raised.value)
    lines = capsys.readouterr().out
    assert "equal    spec.yaml" in lines
    assert "equal    model.keras" in lines
    assert "ABSENT   train.laz" in lines
    monkeypatch.chdir(place)
    cli.verify(copy.root)
    assert "equal    train.laz" in capsys.readouterr().out
    copy.calibration.write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VL3DError, match="1 differences") as raised:
        cli.verify(copy.root)
    assert raised.value.exit_code == 1
