"""Evaluation of a small place: what is scored, and how."""

import csv
import dataclasses
import json
import os
import re
import shutil

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from tests.pipeline.commands import OPTIONS, copy_of, predicted, without_calibration
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.evaluation.pairs import read_pair
from vl3d_lite.pipeline.evaluate import require_own
from vl3d_lite.prediction.origin import Origin
from vl3d_lite.prediction.outcomes import read_outcomes, record_path
from vl3d_lite.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("nothing_twice")


def test_scores_are_those_of_the_files(trained, place):
    before, after = laspy.read(place / "test.laz"), predicted(trained.predictions)
    truth = np.where(before.classification == 3, 5, before.classification)
    metrics = json.loads(trained.metrics.read_text())
    expected = []
    for code in (2, 5, 6):
        both = np.sum((truth == code) & (after.prediction == code))
        either = np.sum((truth == code) | (after.prediction == code))
        expected.append(both / either)
    classes = metrics["pooled"]["per_class"]
    ious = [classes[name]["iou"] for name in ("ground", "vegetation", "building")]
    np.testing.assert_allclose(ious, expected, rtol=1e-9)


def test_a_run_that_another_process_writes_is_neither_scored_nor_exported(
    trained, place, tmp_path
):
    run = copy_of(trained, tmp_path / "run")
    who = rf"{run.root}: process {os.getpid()} on host .* has been writing it"
    for command in (
        lambda: pipeline.evaluate(run, run.predictions),
        lambda: pipeline.rotations(run, place / "test.laz", OPTIONS),
        lambda: pipeline.export(run, run.kernels, OPTIONS),
    ):
        with run.locked(), pytest.raises(ResourceError, match=who):
            command()


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        (
            {"weights_sha256": "b" * 64, "model": "als_sparse"},
            r"model `als_sparse` \(b{12}\), now `spec` \(\w{12}\)",
        ),
        ({"network_sha256": "b" * 64}, "the spec of the model is another one"),
        ({"features_sha256": "b" * 64}, "features.json of the model is another one"),
    ],
)
def test_predictions_of_another_model_are_refused(trained, tmp_path, changes, reported):
    copy = copy_of(trained, tmp_path / "copy")
    metrics = copy.metrics.read_bytes()
    (own,) = read_outcomes(copy.predictions)
    folder = tmp_path / "out"
    for record in (own, dataclasses.replace(own, output="b.laz", **changes)):
        path = record_path(folder, record.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(record)))
        shutil.copy(copy.predictions / own.output, folder / record.output)
    with pytest.raises(DataError, match=reported) as caught:
        pipeline.evaluate(copy, folder)
    text = str(caught.value)
    assert text.startswith(f"{folder}: its clouds were predicted with another model")
    assert f"{copy.root}: b.laz (" in text
    assert "; test.laz with this one. Evaluate each model" in text
    assert copy.metrics.read_bytes() == metrics


def test_records_that_name_no_model_are_mentioned(trained, caplog):
    (own,) = read_outcomes(trained.predictions)
    old = dataclasses.replace(own, weights_sha256="", network_sha256="")
    require_own(Origin.of(own), trained, trained.predictions, [own])
    assert not caplog.records
    require_own(Origin.of(own), trained, trained.predictions, [old])
    assert "the record of test.laz does not name the model" in caplog.text


@pytest.mark.slow
def test_scores_hold_the_calibration_error_before_and_after(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    calibration = json.loads(trained.metrics.read_text())["pooled"]["calibration"]
    without_calibration(copy, place, tmp_path / "raw")
    raw = pipeline.evaluate(copy, tmp_path / "raw").to_dict()["pooled"]["calibration"]
    assert calibration["uncalibrated_error"] == pytest.approx(
        raw["expected_error"], abs=1e-6
    )
    assert calibration["expected_error"] != raw["expected_error"]
    assert raw["uncalibrated_error"] is None
    assert "was fitted on" in trained.report.read_text()
    assert "was fitted on" not in copy.report.read_text()
    given = ["prediction.temperature=0.7"]
    pipeline.predict(copy, [place / "test.laz"], tmp_path / "given", OPTIONS, given)
    pipeline.evaluate(copy, tmp_path / "given")
    assert "calibrated with the temperature 0.700" in copy.report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("written", ["prediction", "classification"])
def test_rejected_points_are_written_as_such_and_scored_both_ways(
    trained, place, tmp_path, written
):
    copy = copy_of(trained, tmp_path / "copy")
    before = predicted(trained.predictions)
    threshold = float(np.quantile(before.confidence, 0.3))
    pipeline.predict(
        copy,
        [place / "test.laz"],
        tmp_path / "out",
        OPTIONS,
        [
            f"prediction.write=[{written}, confidence]",
            f"prediction.min_confidence={threshold}",
        ],
    )
    after = predicted(tmp_path / "out")
    rejected = np.asarray(before.confidence) < np.float32(threshold)
    assert 0.2 < rejected.mean() < 0.4
    expected = np.where(rejected, 1, before.prediction)
    np.testing.assert_array_equal(after[written], expected)
    np.testing.assert_array_equal(after.prediction_raw, before.prediction)
    metrics = pipeline.evaluate(copy, tmp_path / "out").to_dict()["pooled"]
    whole = json.loads(trained.metrics.read_text())["pooled"]
    assert metrics["confusion"] == whole["confusion"]
    assert metrics["accepted"]["coverage"] == pytest.approx(1 - rejected.mean())
    truth = laspy.read(place / "test.laz").classification
    truth = np.where(truth == 3, 5, truth)
    right = (truth == after[written])[~rejected]
    assert metrics["accepted"]["overall_accuracy"] == pytest.approx(right.mean())
    assert "were rejected, that is, left unclassified" in copy.report.read_text()


@pytest.mark.slow
def test_disagreements_are_listed_with_their_coordinates(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    las = laspy.read(place / "test.laz")
    roof = (abs(las.x - 450008.5) < 4) & (abs(las.y - 5410010.5) < 4)
    roof &= las.classification == 6
    las.classification[roof] = 2  # a reference that is wrong
    las.write(tmp_path / "wrong.laz")
    pipeline.predict(copy, [tmp_path / "wrong.laz"], tmp_path / "out", OPTIONS)
    pipeline.evaluate(copy, tmp_path / "out")
    with copy.disagreements.open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["reference"], first["prediction"]) == ("ground", "building")
    assert int(first["points"]) > 0.8 * roof.sum()
    assert abs(float(first["x"]) - 450008.5) < 2
    assert abs(float(first["y"]) - 5410010.5) < 2
    summary = json.loads(copy.metrics.read_text())["disagreements"]
    assert summary["count"] >= 1
    assert summary["points"] >= int(first["points"])
    assert summary["link_distance"] == 1.0
    assert "1. ground predicted as building" in re.sub(
        "<[^>]*>", "", copy.report.read_text()
    )


@pytest.mark.slow
def test_unlabeled_codes_are_predicted_and_not_scored(trained, place, tmp_path):
    las = laspy.read(place / "test.laz")
    las.classification[:100] = 9  # 7 would keep the points out of the features
    las.write(tmp_path / "noisy.laz")
    pipeline.predict(trained, [tmp_path / "noisy.laz"], tmp_path / "out", OPTIONS)
    np.testing.assert_array_equal(
        predicted(tmp_path / "out", "noisy.laz").prediction,
        predicted(trained.predictions).prediction,
    )
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(trained.root, copy.root)
    result = pipeline.evaluate(copy, tmp_path / "out")
    assert result.pooled.ignored == 100


@pytest.mark.slow
def test_an_output_without_classes_is_not_scored(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    pipeline.predict(
        copy,
        [place / "test.laz"],
        tmp_path / "out",
        OPTIONS,
        ["prediction.write=[confidence]"],
    )
    with pytest.raises(DataError, match="has no dimension of predicted classes"):
        pipeline.evaluate(copy, tmp_path / "out")


@pytest.mark.slow
def test_kept_codes_are_not_scored_as_predictions(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    pipeline.predict(
        copy,
        [place / "test.laz"],
        tmp_path / "out",
        OPTIONS,
        ["prediction.write=[classification]", "prediction.keep_codes=[6]"],
    )
    result = pipeline.evaluate(copy, tmp_path / "out")
    roofs = int(np.sum(laspy.read(place / "test.laz").classification == 6))
    assert roofs > 0
    assert result.pooled.ignored == roofs


@pytest.mark.slow
def test_scores_of_other_clouds_do_not_stay_beside_the_report(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    las = laspy.read(place / "test.laz")
    las.classification[:] = 0
    las.write(tmp_path / "bare.laz")
    pipeline.predict(copy, [tmp_path / "bare.laz"], tmp_path / "out", OPTIONS)
    assert copy.metrics.is_file()
    assert pipeline.evaluate(copy, tmp_path / "out") is None
    assert not copy.metrics.exists()
    assert not copy.scores.exists()
    assert copy.report.stat().st_mtime > trained.report.stat().st_mtime


@pytest.mark.slow
def test_classes_are_grouped_in_prediction_and_evaluation(trained, place, tmp_path):
    copy = copy_of(trained, tmp_path / "copy")
    class_groups = "ground, above:9=vegetation+building"
    clouds = [place / "test.laz"]
    pipeline.predict(copy, clouds, tmp_path / "out", OPTIONS, class_groups=class_groups)
    before, after = predicted(trained.predictions), predicted(tmp_path / "out")
    summed = before["p_vegetation"] + before["p_building"]
    np.testing.assert_allclose(after["p_above"], summed, atol=1e-6)
    expected = np.where(summed > before["p_ground"], 9, 2)
    np.testing.assert_array_equal(after.prediction, expected)
    result = pipeline.evaluate(copy, tmp_path / "out")
    truth = np.where(laspy.read(clouds[0]).classification == 2, 2, 9)
    assert result.class_names == ("ground", "above")
    assert result.scores.overall_accuracy == pytest.approx((truth == expected).mean())
    write_place(tmp_path / "more.laz", 5)
    pipeline.predict(copy, [tmp_path / "more.laz"], tmp_path / "out", OPTIONS)
    with pytest.raises(DataError, match="predicted with different --classes"):
        pipeline.evaluate(copy, tmp_path / "out")
    with pytest.raises(SpecError, match="no class `trees`"):
        pipeline.predict(
            copy, clouds, tmp_path / "no", OPTIONS, class_groups="trees, b=*"
        )


@pytest.mark.slow
def test_flagged_points_are_not_scored(place, trained, tmp_path):
    (outcome,) = read_outcomes(trained.predictions)
    las = laspy.read(place / "test.laz")
    las.overlap[::3] = 1
    las.withheld[::5] = 1
    las.write(tmp_path / "test.laz")
    moved = dataclasses.replace(outcome, source=str(tmp_path / "test.laz"))
    spec = pipeline.open_run(trained)[0]
    every = read_pair(spec, trained.predictions, moved).reference
    spec = spec.model_copy(update={"ignored_flags": ["overlap"]})
    kept = read_pair(spec, trained.predictions, moved).reference
    # Withheld points are excluded by default.
    np.testing.assert_array_equal(every < 0, np.arange(len(las)) % 5 == 0)
    assert (kept[::3] == -1).all()
    np.testing.assert_array_equal(kept[1::3], every[1::3])


@pytest.mark.slow
def test_disagreements_lie_in_a_cloud_of_feet(trained, place, tmp_path):
    foot = 1200 / 3937
    before = laspy.read(place / "test.laz")
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = [0.001] * 3, before.header.offsets / foot
    feet = laspy.LasData(header)
    for name in before.point_format.dimension_names:
        if name not in "XYZ":
            feet[name] = before[name]
    feet.xyz = before.xyz / foot
    # One house whose reference is vegetation, where there is one building.
    wrong = (feet.classification == 6) & (feet.x < feet.x.min() + 20 / foot)
    feet.classification[wrong] = 5
    feet.write(tmp_path / "feet.laz")
    folder, unit = tmp_path / "out", ["clouds.unit=us-ft"]
    pipeline.predict(trained, [tmp_path / "feet.laz"], folder, OPTIONS, unit)
    (record,) = read_outcomes(folder)
    assert record.unit == "us-ft"
    copy = copy_of(trained, tmp_path / "copy")
    pipeline.evaluate(copy, folder)
    with copy.disagreements.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    for row in rows:
        assert row["unit"] == "us-ft"
        assert feet.x.min() - 0.01 <= float(row["x_min"]) <= float(row["x_max"])
        assert float(row["x_max"]) <= feet.x.max() + 0.01
        assert feet.y.min() - 0.01 <= float(row["y"]) <= feet.y.max() + 0.01
    report = copy.report.read_text()
    assert "no CRS named, coordinates in us-ft" in report
    assert re.search(r"\d+ us-ft <span class=.north.>", report)
