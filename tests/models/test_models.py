"""The shipped models predict a scan, and name no folders of their authors."""

import json
import re
import runpy
import shutil
from pathlib import Path

import laspy
import numpy as np
import pytest
import yaml
from pyproj import CRS

from vl3d_lite import pipeline
from vl3d_lite.pipeline.independence import caveats
from vl3d_lite.pipeline.verify import verify
from vl3d_lite.prediction.outcomes import PredictedCloud
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.system import file_hash

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted(path.parent for path in (ROOT / "models").glob("*/run.json"))
OPTIONS = Options(threads=2, quiet=True)
LARGEST = 25_000_000  # bytes of a model's folder

pytestmark = [
    pytest.mark.skipif(
        not MODELS, reason="models/ holds no run, as in a source distribution"
    ),
    pytest.mark.usefixtures("nothing_twice"),
]


def test_the_models_of_the_table_ship():
    assert [path.name for path in MODELS] == ["als_dense", "als_sparse"]


@pytest.mark.slow
@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_model_classifies_the_town(folder, tmp_path):
    cloud = ROOT / "data" / "town_test.laz"
    fast = ["prediction.grids=1", "prediction.votes=1"]
    (outcome,) = pipeline.predict(
        RunFolder(folder), [cloud], tmp_path / "out", OPTIONS, fast
    )
    assert outcome.points == outcome.voted == len(laspy.read(cloud))
    las = laspy.read(tmp_path / "out" / cloud.name)
    codes = np.asarray(las.prediction)
    assert set(np.unique(codes)) <= {1, 2, 5, 6}
    # The town is simulated, and no model saw it.
    reference = np.asarray(las.classification)
    for code in (2, 6):
        both = np.sum((codes == code) & (reference == code))
        assert both / np.sum((codes == code) | (reference == code)) > 0.4


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_model_is_small_has_a_card_and_names_no_place(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert "Licence" in (folder / "README.md").read_text()
    content = json.loads((folder / "run.json").read_text())
    paths = [content["spec"], *(entry["path"] for entry in content["inputs"])]
    assert all(Path(path).name == path for path in paths)
    for path in files:
        if path.suffix != ".keras":
            assert not re.search(r"/(home|tmp|work|Users)/", path.read_text()), path


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_model_records_the_hashes_of_its_files(folder):
    files = json.loads((folder / "run.json").read_text())["files"]
    names = {"model.keras", "features.json", "calibration.json", "domain.json"}
    assert files.keys() == names
    assert files == {name: file_hash(folder / name) for name in names}


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_a_cloud_where_a_model_was_trained_is_no_test_of_it(folder, tmp_path):
    run = RunFolder(folder)
    names = {"train": "training", "validation": "validation"}
    for record in run.read_provenance()["inputs"]:
        las = laspy.create(point_format=6, file_version="1.4")
        las.header.scales, las.header.offsets = [0.01] * 3, record["extent"][0]
        if record["crs"]:
            las.header.add_crs(CRS.from_epsg(2154))
        las.xyz = np.array(record["extent"])
        las.write(tmp_path / "a.las")
        outcome = PredictedCloud(str(tmp_path / "a.las"), "a.las", 2, 2, 0, 0.0)
        other = f"the {names[record['role']]} cloud {record['path']}, which is not"
        text = caveats(run, [outcome])["a.las"]
        assert text.startswith(f"100% of the extent of this cloud and {other} found")


@pytest.fixture
def ship():
    return runpy.run_path(str(ROOT / "models" / "ship.py"))["ship"]


@pytest.mark.slow
def test_a_shipped_run_predicts_as_the_run_itself(trained, ship, place, tmp_path):
    ship(trained.root, tmp_path / "shipped")
    assert str(place) not in (tmp_path / "shipped" / "spec.yaml").read_text()
    assert str(place) not in (tmp_path / "shipped" / "run.json").read_text()
    pipeline.predict(
        RunFolder(tmp_path / "shipped"), [place / "test.laz"], tmp_path / "out", OPTIONS
    )
    np.testing.assert_array_equal(
        laspy.read(tmp_path / "out" / "test.laz").p_building,
        laspy.read(trained.predictions / "test.laz").p_building,
    )


@pytest.mark.slow
def test_a_shipped_run_repeats_its_scores_where_its_clouds_lie(
    trained, ship, place, tmp_path, monkeypatch
):
    folder = tmp_path / "shipped"
    ship(trained.root, folder)
    run = RunFolder(folder)
    scored = folder / "scored"
    assert [path.name for path in scored.iterdir()] == ["predictions.json"]
    assert str(place) not in (scored / "predictions.json").read_text()
    monkeypatch.chdir(tmp_path)
    found = verify(run)
    assert found.differences == []
    assert "test.laz" in found.absent
    assert "the evaluation cannot be repeated" in found.notes
    monkeypatch.chdir(place)
    found = verify(run)
    assert found.differences == found.absent == []
    assert "scores of the repeated evaluation" in found.equal
    scores = json.loads(run.metrics.read_text())
    scores["pooled"]["overall_accuracy"] = 1.0
    run.metrics.write_text(json.dumps(scores))
    assert any("overall_accuracy" in text for text in verify(run).differences)


@pytest.mark.slow
def test_what_a_shipped_run_predicts_is_scored_apart_from_what_it_was_scored_on(
    trained, ship, place, tmp_path, monkeypatch
):
    ship(trained.root, tmp_path / "shipped")
    run = RunFolder(tmp_path / "shipped")
    pipeline.predict(run, [place / "val.laz"], run.predictions, OPTIONS)
    monkeypatch.chdir(place)
    before = run.metrics.read_bytes()
    assert list(pipeline.evaluate(run, run.predictions).clouds) == ["val.laz"]
    assert (run.predictions / "metrics.json").is_file()
    assert run.metrics.read_bytes() == before
    found = verify(run)
    assert found.differences == []
    assert "scores of the repeated evaluation" in found.equal


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_scores_of_other_clouds_leave_those_that_came_with_a_shipped_run(
    trained, ship, place, tmp_path
):
    ship(trained.root, tmp_path / "shipped")
    run, out = RunFolder(tmp_path / "shipped"), tmp_path / "out"
    before = contents(run.root)
    pipeline.predict(run, [place / "val.laz"], out, OPTIONS)
    assert list(pipeline.evaluate(run, out).clouds) == ["val.laz"]
    assert contents(run.root) == before
    scores = json.loads((out / "metrics.json").read_text())
    assert list(scores["clouds"]) == ["val.laz"]
    written = {path.name for path in out.iterdir()}
    assert {"metrics.csv", "disagreements.csv", "report.html"} < written


@pytest.mark.slow
def test_scores_of_other_clouds_go_into_a_run_of_ones_own(trained, place, tmp_path):
    run = RunFolder(shutil.copytree(trained.root, tmp_path / "run"))
    pipeline.predict(run, [place / "val.laz"], tmp_path / "out", OPTIONS)
    pipeline.evaluate(run, tmp_path / "out")
    assert list(json.loads(run.metrics.read_text())["clouds"]) == ["val.laz"]
    assert not (tmp_path / "out" / "metrics.json").exists()
    assert run.read_provenance()["evaluated"] == str(tmp_path / "out")
    (tmp_path / "out" / "val.laz").write_bytes(b"other")
    assert any("val.laz: has changed" in text for text in verify(run).differences)


@pytest.mark.slow
def test_a_run_that_was_scored_elsewhere_ships_no_place(
    trained, ship, place, tmp_path, monkeypatch
):
    copy = RunFolder(shutil.copytree(trained.root, tmp_path / "run"))
    elsewhere = shutil.move(copy.predictions, tmp_path / "elsewhere")
    copy.update_provenance(evaluated=str(elsewhere))
    ship(copy.root, tmp_path / "shipped")
    assert str(tmp_path) not in (tmp_path / "shipped" / "run.json").read_text()
    monkeypatch.chdir(place)
    assert verify(RunFolder(tmp_path / "shipped")).differences == []


def test_scores_of_one_temperature_do_not_ship_with_another(trained, ship, tmp_path):
    with pytest.raises(ValueError, match=r"test.laz must have been .* temperature 2.5"):
        ship(trained.root, tmp_path / "shipped", temperature=2.5)
    assert not (tmp_path / "shipped").exists()


@pytest.mark.slow
def test_a_shipped_run_can_be_given_another_temperature(trained, ship, place, tmp_path):
    copy = shutil.copytree(trained.root, tmp_path / "run")
    (copy / "metrics.json").unlink()
    ship(copy, tmp_path / "shipped", temperature=2.5)
    run = RunFolder(tmp_path / "shipped")
    pipeline.predict(run, [place / "test.laz"], tmp_path / "out", OPTIONS)
    raw = ["prediction.calibrate=false"]
    pipeline.predict(trained, [place / "test.laz"], tmp_path / "raw", OPTIONS, raw)
    given, before = (
        laspy.read(tmp_path / name / "test.laz") for name in ("out", "raw")
    )
    names = ["p_ground", "p_vegetation", "p_building"]
    powers = np.stack([before[name] for name in names]) ** (1 / 2.5)
    np.testing.assert_allclose(
        given.confidence, (powers / powers.sum(axis=0)).max(axis=0), atol=1e-5
    )
    np.testing.assert_array_equal(given.prediction, before.prediction)


@pytest.mark.slow
def test_a_shipped_run_names_its_initial_weights_without_their_folder(
    trained, ship, place, tmp_path
):
    shutil.copytree(trained.root, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    spec = yaml.safe_load(run.spec.read_text())
    spec["training"]["initial_weights"] = str(tmp_path / "town")
    run.spec.write_text(yaml.safe_dump(spec))
    run.update_provenance(
        initial_weights={"model": str(tmp_path / "town" / "model.keras")}
    )
    ship(run.root, tmp_path / "shipped")
    shipped = RunFolder(tmp_path / "shipped")
    for text in (shipped.spec.read_text(), shipped.provenance.read_text()):
        assert str(tmp_path) not in text
    assert shipped.read_provenance()["initial_weights"]["model"] == "town"
    pipeline.predict(shipped, [place / "test.laz"], tmp_path / "out", OPTIONS)
    assert (tmp_path / "out" / "test.laz").is_file()
