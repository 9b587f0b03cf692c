"""Scores say which clouds are no independent test of the network."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import laspy
import numpy as np
import pytest
from pyproj import CRS

from tests.pipeline.commands import OPTIONS, copy_of
from vl3d_lite import pipeline
from vl3d_lite.pipeline.independence import caveats, input_records
from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.report.score_tables import caveat_lines
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system import file_hash

pytestmark = pytest.mark.usefixtures("nothing_twice")


@pytest.fixture(scope="module")
def loaded(place):
    return read_spec(place / "spec.yaml")


@pytest.fixture
def run(loaded, tmp_path):
    """A folder with the record of a run on the place's clouds, and nothing else."""
    folder = RunFolder(tmp_path / "run")
    folder.root.mkdir()
    folder.provenance.write_text(json.dumps({"inputs": input_records(loaded)}))
    return folder


@pytest.fixture
def caveat(run, trained):
    """The caveat on a source that was predicted."""
    (outcome,) = read_outcomes(trained.predictions)

    def of(source, unit=None, **changes):
        run.update_provenance(**changes)
        one = dataclasses.replace(
            outcome, source=str(source), source_sha256=file_hash(source), unit=unit
        )
        return caveats(run, [one]).get(one.output, "")

    return of


def test_the_record_names_the_role_and_the_place_of_each_cloud(run, place):
    train, validation = run.read_provenance()["inputs"]
    assert (train["role"], validation["role"]) == ("train", "validation")
    assert train["sha256"] == file_hash(place / "train.laz")
    las = laspy.read(place / "train.laz")
    np.testing.assert_allclose(
        train["extent"], [las.xyz.min(axis=0), las.xyz.max(axis=0)], atol=1e-6
    )


def test_a_cloud_of_its_own_has_no_caveat(caveat, place):
    assert caveat(place / "test.laz") == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train", "the network was trained on this cloud"),
        ("val", "this cloud chose the epoch and fitted the temperature"),
    ],
)
def test_a_copy_of_an_input_is_reported_by_its_role(
    caveat, place, tmp_path, name, text
):
    copy = shutil.copy(place / f"{name}.laz", tmp_path / "fresh.laz")
    assert caveat(copy) == f"{text}: its scores are optimistically biased"


def test_an_input_with_other_labels_shares_its_points(caveat, place, tmp_path):
    las = laspy.read(place / "train.laz")
    las.classification[::2] = 2
    las.write(tmp_path / "relabeled.laz")
    text = caveat(tmp_path / "relabeled.laz")
    assert "shares points (100.0% of the smaller one) with the training cloud" in text


def test_a_cloud_is_compared_in_the_unit_that_it_was_predicted_in(
    caveat, place, tmp_path
):
    las = laspy.read(place / "train.laz")
    las.classification[::2] = 2
    for part in (las.header, las.points):
        part.scales, part.offsets = part.scales * 100, part.offsets * 100
    las.write(tmp_path / "cm.laz")
    assert caveat(tmp_path / "cm.laz") == ""
    text = caveat(tmp_path / "cm.laz", unit="cm")
    assert "shares points (100.0% of the smaller one) with the training cloud" in text


def test_what_the_initial_weights_learned_is_no_test(caveat, place, run):
    before = run.read_provenance()["inputs"]
    text = caveat(
        place / "train.laz", inputs=[], initial_weights={"inputs": before[:1]}
    )
    assert text.startswith("the initial weights were made with this cloud")


def test_inputs_of_an_earlier_version_have_no_role(caveat, place, run):
    old = [
        {key: entry[key] for key in ("path", "bytes", "sha256")}
        for entry in run.read_provenance()["inputs"]
    ]
    assert "was used in the training" in caveat(place / "val.laz", inputs=old)
    assert caveat(place / "test.laz", inputs=old) == ""


def test_the_extent_of_a_cloud_that_is_not_found_is_compared(caveat, place, tmp_path):
    las = laspy.read(place / "test.laz")
    las.header.add_crs(CRS.from_epsg(25832))
    las.write(tmp_path / "named.laz")
    extent = [[450000, 5410000, 90], [450020, 5410040, 120]]
    record = {"path": "gone.laz", "sha256": "0", "role": "train", "extent": extent}
    named = {**record, "crs": las.header.parse_crs().name}
    text = caveat(tmp_path / "named.laz", inputs=[named])
    assert re.match(r"100% of the extent .* training cloud gone\.laz", text)
    assert caveat(tmp_path / "named.laz", inputs=[{**record, "crs": ""}]) == ""
    apart = {**named, "extent": [[0, 0, 0], [9, 9, 9]]}
    assert caveat(tmp_path / "named.laz", inputs=[apart]) == ""


def test_a_training_cloud_that_changed_under_its_name_counts_as_it_was(
    caveat, place, run, tmp_path, caplog
):
    path = Path(shutil.copy(place / "test.laz", tmp_path / "train.laz"))
    las = laspy.read(path)
    record = {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": file_hash(path),
        "role": "train",
        "crs": "",
        "extent": [las.xyz.min(axis=0).tolist(), las.xyz.max(axis=0).tolist()],
    }
    las.classification[::2] = 2
    las.write(tmp_path / "relabeled.laz")
    shutil.copy(place / "val.laz", path)
    text = caveat(tmp_path / "relabeled.laz", inputs=[record])
    assert re.match(r"100% of the extent .*train\.laz, which has changed since", text)
    assert caveat(place / "val.laz", inputs=[record]) == ""
    (note,) = caplog.messages
    assert note.startswith(f"{place}/val.laz: may be no independent test")
    assert f"the training cloud {path}, which has changed since" in note
    caplog.clear()
    far = {**record, "extent": [[0, 0, 0], [9, 9, 9]]}
    assert caveat(place / "val.laz", inputs=[far]) == ""
    assert not caplog.messages


@pytest.mark.slow
def test_scores_and_report_name_the_validation_cloud(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    clouds = [place / "val.laz", place / "test.laz"]
    pipeline.predict(copy, clouds, tmp_path / "out", OPTIONS)
    result = pipeline.evaluate(copy, tmp_path / "out")
    (line,) = caveat_lines(result)
    assert line.startswith("val.laz: this cloud chose the epoch and fitted")
    metrics = json.loads(copy.metrics.read_text())
    assert list(metrics["caveats"]) == ["val.laz"]
    page = copy.report.read_text()
    assert '<ul class="caveats">' in page
    assert re.search(r'<tr class="caveat"[^>]*><th>val\.laz', page)
    assert not re.search(r'<tr class="caveat"[^>]*><th>test\.laz', page)
    assert not pipeline.verify(copy).differences
