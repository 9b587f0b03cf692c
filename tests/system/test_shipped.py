"""Shipped models and configs are found by name, in a clone and in a wheel."""

import logging
from pathlib import Path

import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.runs.shipped import find_run, shipped_runs
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system import shipped
from vl3d_lite.system.shipped import find_shipped, shipped_paths

ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_ones_are_those_of_the_top_folders():
    assert list(shipped_paths("models")) == ["als_dense", "als_sparse"]
    assert set(shipped_paths("configs")) == {
        path.stem for path in (ROOT / "configs").iterdir()
    }


def test_an_installed_package_holds_them_inside(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "vl3d_lite"
    run = package / "shipped" / "models" / "mine" / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text("{}")
    # A folder that another package has beside ours.
    (package.parent / "models" / "theirs").mkdir(parents=True)
    (package.parent / "models" / "theirs" / "run.json").write_text("{}")
    monkeypatch.setattr(shipped, "PACKAGE", package)
    assert shipped_paths("models") == {"mine": run.parent}
    assert shipped_paths("configs") == {}


@pytest.mark.parametrize(
    "given", ["town", "runs/als_dense", "als_dense.keras", "..", ".", ""]
)
def test_what_is_no_name_of_a_shipped_model_is_a_path(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_shipped("models", Path(given)) == Path(given)


def test_a_folder_takes_precedence_over_a_shipped_model_and_it_is_reported(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    assert find_shipped("models", Path("als_dense")) == ROOT / "models" / "als_dense"
    assert not caplog.records
    (tmp_path / "als_dense").mkdir()
    with caplog.at_level(logging.WARNING):
        assert find_shipped("models", Path("als_dense")) == Path("als_dense")
    assert "instead of the shipped model of the same name" in caplog.text


def test_inside_the_shipped_folder_nothing_is_ambiguous(monkeypatch, caplog):
    monkeypatch.chdir(ROOT / "models")
    assert find_shipped("models", Path("als_dense")) == Path("als_dense")
    assert not caplog.records


def test_a_model_used_by_name_writes_into_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = find_run(Path("als_dense"))
    assert run.model.is_file()
    for path in (run.predictions, run.kernels, run.rotations):
        assert path.resolve().parent == tmp_path
    by_path = find_run(ROOT / "models" / "als_dense")
    assert by_path.predictions == by_path.root / "predictions"
    assert list(shipped_runs()) == ["als_dense", "als_sparse"]


def test_a_spec_extends_a_shipped_config_by_its_name(tmp_path):
    spec = tmp_path / "own.yaml"
    spec.write_text("extends: dense_als\nseed: 5\n")
    read = read_spec(spec).spec
    assert (read.seed, read.fields.grid_size) == (5, 0.4)
    # A file beside the spec takes precedence.
    (tmp_path / "dense_als").write_text(
        (ROOT / "configs" / "dense_als.yaml")
        .read_text()
        .replace("grid_size: 0.4", "grid_size: 0.8")
    )
    assert read_spec(spec).spec.fields.grid_size == 0.8


def test_a_shipped_config_is_read_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = read_spec("quickstart")
    assert [path.name for path in loaded.clouds["train"]] == ["town_train.laz"]


def test_a_training_starts_from_a_shipped_model_by_its_name(tmp_path):
    spec = tmp_path / "own.yaml"
    text = "extends: dense_als\ntraining: {initial_weights: als_dense}\n"
    spec.write_text(text)
    weights = read_spec(spec).spec.training.initial_weights
    assert weights == str(ROOT / "models" / "als_dense")
    spec.write_text(text.replace("als_dense}", "als_dance}"))
    with pytest.raises(
        SpecError, match=r"als_dance \(shipped models: als_dense, als_s"
    ):
        read_spec(spec)
