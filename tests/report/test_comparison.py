"""Comparison of runs."""

import csv
import io
import json
import re
import shutil

import pytest
import yaml

from vl3d_lite.cli.app import app
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.report.comparison import NOTHING, compare
from vl3d_lite.report.comparison_pages import (
    as_csv,
    as_html,
    as_markdown,
    comparison_text,
)
from vl3d_lite.spec.reader import dump_spec, read_spec


def score(value, points=100):
    return {
        "iou": value,
        "precision": value,
        "recall": value,
        "f1": value,
        "support": points,
        "predicted": points,
    }


def metrics(classes, clouds=("a.laz",), points=1000):
    mean = sum(classes.values()) / len(classes)
    return {
        "format": 1,
        "class_names": list(classes),
        "pooled": {
            "points": points,
            "overall_accuracy": mean,
            "mean_accuracy": mean,
            "mean_iou": mean,
            "mcc": None,
            "kappa": 0.5,
            "macro": {"f1": mean},
            "per_class": {name: score(value) for name, value in classes.items()},
            "calibration": {"expected_error": 1 - mean},
        },
        "clouds": {name: {} for name in clouds},
    }


@pytest.fixture
def make(place, tmp_path):
    """A run folder with the files of training and evaluation, but no network."""

    def make(name, overrides=(), scores=None, **provenance):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        spec = read_spec(place / "spec.yaml", overrides, check_files=False).spec
        (folder / "spec.yaml").write_text(dump_spec(spec))
        (folder / "run.json").write_text(
            json.dumps({"vl3d_lite": "0.1.0", "backend": "tensorflow", **provenance})
        )
        (folder / "history.csv").write_text("epoch,loss\n1,0.9\n2,0.7\n")
        (folder / "model.keras").write_text("")
        if scores is not None:
            (folder / "metrics.json").write_text(json.dumps(scores))
        return folder

    return make


THREE = {"ground": 0.9, "vegetation": 0.8, "building": 0.4}
BETTER = {"ground": 0.9, "vegetation": 0.7, "building": 0.8}


def rows(comparison, title):
    return {row.name: row for row in comparison.tables[title]}


def test_only_differences_of_the_specs_are_listed(make):
    a = make("a")
    b = make("b", ["training.epochs=9", "features=[height]", "fields.radius=12"])
    found = rows(compare([a, b]), "Differences of the specs")
    assert {name: row.cells for name, row in found.items()} == {
        "features": ("height, return_ratio, relative_intensity", "height"),
        "fields.radius": ("8.0", "12.0"),
        "training.epochs": ("3", "9"),
    }


@pytest.mark.slow
def test_missing_stages_are_empty_cells(make):
    a = make("a")
    b = make("b", ["model.stages=[{points: 512, channels: 8, neighbors: 8}]"])
    found = rows(compare([a, b]), "Differences of the specs")
    assert found["model.stages.1.points"].cells == ("128", NOTHING)
    assert "model.stages.0.points" not in found


def test_equal_specs_have_no_table(make):
    tables = compare([make("a"), make("b")]).tables
    assert "Differences of the specs" not in tables


def test_the_best_score_in_each_row_is_marked(make):
    found = compare([make("a", (), metrics(THREE)), make("b", (), metrics(BETTER))])
    scores = rows(found, "Scores")
    assert scores["mean IoU"].cells == ("0.700", "0.800")
    assert scores["mean IoU"].best == {1}
    assert scores["calibration error"].best == {1}  # the lowest
    assert scores["MCC"].cells == (NOTHING, NOTHING)
    assert scores["scored points"].cells == ("1,000", "1,000")
    classes = rows(found, "IoU per class")
    assert [classes[name].best for name in THREE] == [set(), {0}, {1}]
    assert "F1 per class" in found.tables


def test_scores_with_equal_decimals_are_equally_good(make):
    close = {**THREE, "building": 0.4000001}
    worse = {**THREE, "building": 0.3}
    runs = [
        make(name, (), metrics(scores))
        for name, scores in {"a": THREE, "b": close, "c": worse}.items()
    ]
    found = rows(compare(runs), "IoU per class")
    assert found["building"].best == {0, 1}


def test_costs_are_listed_with_their_units(make):
    a = make(
        "a",
        seconds_of_training=3725.2,
        parameters=12345,
        peak_memory=3 << 29,
        best_epoch=2,
        machine={"processors": 2},
    )
    b = make("b", seconds_of_training=75.6)
    found = compare([a, b])
    cost = {name: row.cells for name, row in rows(found, "Cost").items()}
    assert cost["training"] == ("1 h 02 min", "1 min 16 s")
    assert cost["parameters"] == ("12,345", NOTHING)
    assert cost["peak memory"] == ("1.5 GiB", NOTHING)
    assert cost["epochs"] == ("2", "2")
    assert "preparation" not in cost
    assert any("different machines" in note for note in found.notes)


def test_different_classes_are_noted(make):
    a = make("a", (), metrics(THREE))
    two = {"ground": 0.9, "roof": 0.6}
    b = make("b", ["classes={ground: 2, roof: 6}"], metrics(two))
    found = compare([a, b])
    (note,) = [note for note in found.notes if "classes differ" in note]
    assert "`vegetation` only in a" in note
    assert "`roof` only in b" in note
    classes = rows(found, "IoU per class")
    assert classes["roof"].cells == (NOTHING, "0.600")
    assert classes["roof"].best == set()
    assert not any(row.best for row in rows(found, "Scores").values())
    assert any("none of the scores over all classes" in note for note in found.notes)


def test_a_class_of_other_codes_has_no_best_score_and_the_others_have(make):
    a = make("a", (), metrics(THREE))
    b = make("b", ["classes.building=1"], metrics(BETTER))
    classes = rows(compare([a, b]), "IoU per class")
    assert classes["building"].best == set()
    assert classes["vegetation"].best == {0}


def test_scores_of_merged_classes_have_no_best(make):
    merged = {"ground": 0.9, "above": 0.99}
    a, b = make("a", (), metrics(THREE)), make("b", (), metrics(merged))
    found = compare([a, b])
    assert any("`predict --classes` " in note for note in found.notes)
    assert not any(row.best for row in rows(found, "Scores").values())


def test_different_codes_of_a_class_are_noted(make):
    a, b = make("a"), make("b", ["classes.ground=1"])
    assert any("`ground` contains different codes" in n for n in compare([a, b]).notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"clouds": ("b.laz",)}, "different clouds"), ({"points": 7}, "different points")],
    ids=["clouds", "points"],
)
def test_scores_of_different_clouds_are_noted(make, change, words):
    a, b = make("a", (), metrics(THREE)), make("b", (), metrics(BETTER, **change))
    found = compare([a, b])
    assert any(words in note for note in found.notes)
    assert "Therefore no score is marked as the best." in found.notes
    assert not any(row.best for table in found.tables.values() for row in table)


def test_scores_with_other_points_excluded_have_no_best(make):
    a = make("a", (), metrics(THREE))
    b = make("b", ["ignored_flags=[overlap]"], metrics(BETTER))
    found = compare([a, b])
    assert any("differ in `ignored_flags`" in note for note in found.notes)
    assert not any(row.best for table in found.tables.values() for row in table)


def test_clouds_are_reported_apart_by_their_hashes(make):
    folders = [make(name, (), metrics(BETTER)) for name in ("a", "b", "c")]
    for folder, digest in zip(folders, ("1", "2", "1"), strict=True):
        (folder / "predictions").mkdir()
        record = {"source": "a.laz", "output": "a.laz", "points": 9, "voted": 9}
        record |= {"nearest": 0, "seconds": 1.0, "source_sha256": digest}
        text = json.dumps({"clouds": [record]})
        (folder / "predictions/predictions.json").write_text(text)
    a, b, c = folders
    assert any("different clouds" in note for note in compare([a, b]).notes)
    assert compare([a, c]).notes == ()


def test_comparable_runs_have_no_notes(make):
    a, b = make("a", (), metrics(THREE)), make("b", (), metrics(BETTER))
    assert compare([a, b]).notes == ()


def test_runs_without_scores_or_model_are_compared_by_their_other_files(make):
    a, b = make("a", (), metrics(THREE)), make("b")
    (b / "model.keras").unlink()
    found = compare([a, b])
    assert any("b: the training is not finished" in note for note in found.notes)
    assert any("vl3d-lite evaluate" in note for note in found.notes)
    assert rows(found, "Scores")["mean IoU"].cells == ("0.700", NOTHING)


def test_folders_of_equal_name_are_listed_by_path(make, tmp_path):
    a = make("one/run")
    b = make("two/run")
    assert compare([a, b]).runs == (str(a), str(b))
    assert compare([a, make("b")]).runs == ("run", "b")


def test_text_marks_the_best_score_with_an_asterisk(make):
    found = compare([make("a", (), metrics(THREE)), make("b", (), metrics(BETTER))])
    text = comparison_text(found)
    assert re.search(r"^mean IoU +0\.700 +\*0\.800$", text, re.M)
    assert re.search(r"^vegetation +\*0\.800 +0\.700$", text, re.M)


def test_the_csv_contains_every_row(make):
    found = compare([make("a", (), metrics(THREE)), make("b")])
    table = list(csv.reader(io.StringIO(as_csv(found))))
    assert table[0] == ["part", "name", "a", "b"]
    assert ["Scores", "mean IoU", "0.700", NOTHING] in table
    assert {len(row) for row in table} == {4}
    assert sum(row[0] == "note" for row in table) == len(found.notes)


def test_markdown_escapes_column_separators(make):
    runs = [make("a|1", (), metrics(THREE)), make("b", (), metrics(BETTER))]
    text = as_markdown(compare(runs))
    assert "| mean IoU | 0.700 | **0.800** |" in text
    assert "|  | a\\|1 | b |" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 4, line


def test_the_page_makes_no_requests_and_escapes_names(make):
    odd = "<script>a"
    runs = [make(odd, (), metrics(THREE)), make("b", (), metrics(BETTER))]
    page = as_html(compare(runs))
    assert odd not in page
    assert "&lt;script&gt;a" in page
    assert "<b>0.800</b>" in page
    assert "<td>0.700</td>" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


def here(*args):
    app([str(arg) for arg in args], standalone_mode=False)


def test_the_command_prints_and_writes(make, tmp_path, capsys):
    a, b = make("a", (), metrics(THREE)), make("b", (), metrics(BETTER))
    for name, part in (("x.html", "<table "), ("x.csv", "part,name"), ("x.md", "# a")):
        here("compare", a, b, "--output", tmp_path / name)
        assert "*0.800" in capsys.readouterr().out
        assert part in (tmp_path / name).read_text()
    with pytest.raises(SpecError, match="--overwrite"):
        here("compare", a, b, "--output", tmp_path / "x.md")
    with pytest.raises(SpecError, match=r"must end in \.html, \.csv, \.md"):
        here("compare", a, b, "--output", tmp_path / "x.pdf")


def test_a_real_run_can_be_compared(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained.root, copy)
    content = yaml.safe_load((copy / "spec.yaml").read_text())
    content["training"]["epochs"] = 4
    (copy / "spec.yaml").write_text(yaml.safe_dump(content))
    found = compare([trained.root, copy])
    assert rows(found, "Differences of the specs").keys() >= {"training.epochs"}
    cost = rows(found, "Cost")
    for name in ("training", "prediction", "parameters", "peak memory", "epochs"):
        assert NOTHING not in cost[name].cells
    assert rows(found, "Scores")["mean IoU"].cells[0] != NOTHING


def test_invalid_runs_are_errors(make, tmp_path):
    a = make("a")
    with pytest.raises(SpecError, match="at least two"):
        compare([a])
    with pytest.raises(DataError, match="not a run folder"):
        compare([a, tmp_path])
    b = make("b", (), {"pooled": 3})
    with pytest.raises(DataError, match="vl3d-lite evaluate"):
        compare([a, b])
    (b / "metrics.json").unlink()
    (b / "spec.yaml").write_text("classes: 3")
    with pytest.raises(DataError, match=r"spec\.yaml: cannot be read"):
        compare([a, b])
