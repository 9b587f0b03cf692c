"""Prediction of a small place: its output, and what it refuses."""

import json
import shutil

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from tests.pipeline.commands import (
    OPTIONS,
    SHORT,
    module,
    predicted,
    without_calibration,
)
from vl3d_lite import pipeline
from vl3d_lite.dataset import features
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.prediction import classifier as classify
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.hashing import file_hash
from vl3d_lite.system.version import __version__

pytestmark = pytest.mark.usefixtures("nothing_twice")


def test_every_point_gets_a_class_and_keeps_the_rest(trained, place):
    before, after = laspy.read(place / "test.laz"), predicted(trained.predictions)
    for name in before.point_format.dimension_names:
        np.testing.assert_array_equal(before[name], after[name])
    assert set(np.unique(after.prediction)) <= {2, 5, 6}
    listing = json.loads((trained.predictions / "predictions.json").read_text())
    cloud = listing["clouds"][0]
    assert cloud["voted"] + cloud["nearest"] == cloud["points"] == len(before)
    total = after["p_ground"] + after["p_vegetation"] + after["p_building"]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert after.confidence.min() >= 1 / 3 - 1e-6
    assert 0 <= after.entropy.min() <= after.entropy.max() <= 1


def test_an_output_and_its_record_name_model_weights_version_and_settings(trained):
    weights = trained.read_provenance()["weights_sha256"]
    listing = json.loads((trained.predictions / "predictions.json").read_text())
    (cloud,) = listing["clouds"]
    record = json.loads((trained.predictions / ".records/test.laz.json").read_text())
    assert record == cloud
    header = predicted(trained.predictions).header
    assert header.generating_software == f"vl3d_lite {__version__} spec"
    (signed,) = (vlr for vlr in header.vlrs if vlr.user_id == "vl3d_lite")
    origin = json.loads(signed.record_data)
    for found in (cloud, origin):
        assert found["model"] == "spec"  # of spec.yaml
        assert found["weights_sha256"] == weights
        assert found["version"] == __version__
        assert found["settings"]["write"][0] == "prediction"
    assert origin["source_sha256"] == cloud["source_sha256"]
    assert cloud["sha256"] == file_hash(trained.predictions / "test.laz")


@pytest.mark.slow
def test_calibration_changes_probabilities_by_a_power_and_no_class(
    trained, place, tmp_path
):
    temperature = json.loads(trained.calibration.read_text())["temperature"]
    assert temperature != 1
    raw = without_calibration(trained, place, tmp_path)
    after = predicted(trained.predictions)
    np.testing.assert_array_equal(raw.prediction, after.prediction)
    names = ["p_ground", "p_vegetation", "p_building"]
    powers = np.stack([raw[name] for name in names]) ** (1 / temperature)
    powers /= powers.sum(axis=0)
    np.testing.assert_allclose(after.confidence, powers.max(axis=0), atol=1e-5)
    for name, expected in zip(names, powers, strict=True):
        np.testing.assert_allclose(after[name], expected, atol=1e-5)


@pytest.mark.slow
def test_missing_return_numbers_are_a_warning_and_imputed_from_the_training(
    trained, place, tmp_path, caplog, monkeypatch
):
    las = laspy.read(place / "test.laz")
    for name, value in (("unknown", 0), ("single", 1)):
        las.return_number[:] = value
        las.number_of_returns[:] = value
        las.write(tmp_path / f"{name}.laz")
    clouds = [tmp_path / "unknown.laz", tmp_path / "single.laz", place / "test.laz"]
    pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    warnings = [
        r.getMessage() for r in caplog.records if "at every point" in r.getMessage()
    ]
    assert [text.partition(", as in a file")[0] for text in warnings] == [
        f"{path}: `return_ratio` is 1 at every point" for path in clouds[:2]
    ]
    unknown, single = (predicted(tmp_path / "out", path.name) for path in clouds[:2])
    np.testing.assert_array_equal(unknown.confidence, single.confidence)
    scaling = FeatureScaling.from_json(trained.features.read_text())
    ratio = scaling.mean[scaling.names.index("return_ratio")]
    monkeypatch.setattr(
        features, "return_ratio", lambda number, count: 0 * count + ratio
    )
    pipeline.predict(trained, clouds[1:2], tmp_path / "mean", OPTIONS)
    mean = predicted(tmp_path / "mean", "single.laz")
    np.testing.assert_array_equal(single.confidence, mean.confidence)


@pytest.mark.slow
def test_missing_features_are_imputed_wherever_the_network_uses_them(
    trained, place, tmp_path, monkeypatch
):
    class SeenError(Exception):
        pass

    seen = []

    def see(*arguments, **_):
        for argument in arguments:
            argument = getattr(argument, "validation", argument)
            some = argument if isinstance(argument, list) else [argument]
            seen.extend(a for a in some if isinstance(a, PreparedCloud))
        raise SeenError

    las = laspy.read(place / "test.laz")
    las.return_number[:] = las.number_of_returns[:] = 1
    path = tmp_path / "single.laz"
    las.write(path)
    _, scaling = pipeline.open_run(trained)
    for name, user in (
        ("measure_rotations", "evaluate"),
        ("measure_kernels", "export"),
        ("make_validator", "train"),
    ):
        monkeypatch.setattr(module(user), name, see)
    monkeypatch.setattr(classify, "SweepBatches", see)
    with pytest.raises(SeenError):
        pipeline.rotations(trained, path, OPTIONS)
    with pytest.raises(SeenError):
        pipeline.export(trained, tmp_path / "kernels", OPTIONS, path)
    with pytest.raises(SeenError):
        pipeline.predict(trained, [path], tmp_path / "out", OPTIONS)
    loaded = read_spec(place / "spec.yaml", [f"clouds.validation=['{path}']", *SHORT])
    with pytest.raises(SeenError):
        pipeline.train(loaded, RunFolder(tmp_path / "run"), OPTIONS)
    assert len(seen) == 4
    column = scaling.names.index("return_ratio")
    for prepared in seen:
        np.testing.assert_allclose(
            prepared.features[:, column], scaling.mean[column], rtol=1e-6
        )


@pytest.mark.slow
def test_a_shifted_cloud_is_predicted_alike(trained, tmp_path):
    write_place(tmp_path / "here.laz", 2)
    write_place(tmp_path / "there.laz", 2, shift=(700000, 6600000, 0))
    pipeline.predict(
        trained,
        [tmp_path / "here.laz", tmp_path / "there.laz"],
        tmp_path / "out",
        OPTIONS,
    )
    here, there = (predicted(tmp_path / "out", f"{n}.laz") for n in ("here", "there"))
    for name in ("prediction", "confidence", "p_ground"):
        np.testing.assert_array_equal(here[name], there[name])


@pytest.mark.slow
def test_further_grids_separate_points_of_a_cell(trained, place, tmp_path):
    cloud, spec = place / "test.laz", read_spec(trained.spec, check_files=False).spec
    shares = []
    for grids in (1, 3):
        (outcome,) = pipeline.predict(
            trained,
            [cloud],
            tmp_path / str(grids),
            OPTIONS,
            [f"prediction.grids={grids}"],
        )
        assert outcome.voted == outcome.points == len(laspy.read(cloud))
        las = laspy.read(tmp_path / str(grids) / cloud.name)
        shares.append(np.stack([las[f"p_{name}"] for name in spec.classes], axis=1))
    cell = prepare_file(cloud, spec, 1).cell_of_point
    pairs = np.flatnonzero(np.diff(np.sort(cell)) == 0)
    one, other = (np.argsort(cell, kind="stable")[pairs + step] for step in (0, 1))
    np.testing.assert_array_equal(shares[0][one], shares[0][other])
    assert np.mean(np.any(shares[1][one] != shares[1][other], axis=1)) > 0.5
    np.testing.assert_allclose(shares[1].sum(axis=1), 1, atol=1e-5)
    assert np.abs(shares[1] - shares[0]).mean() < 0.1


@pytest.mark.slow
def test_classification_is_overwritten_save_for_codes_to_keep(trained, place, tmp_path):
    las = laspy.read(place / "test.laz")
    las.classification[:100] = 18
    las.write(tmp_path / "noisy.laz")
    pipeline.predict(
        trained,
        [tmp_path / "noisy.laz"],
        tmp_path / "out",
        OPTIONS,
        ["prediction.write=[prediction, classification]", "prediction.keep_codes=[18]"],
    )
    after = predicted(tmp_path / "out", "noisy.laz")
    assert (after.classification[:100] == 18).all()
    np.testing.assert_array_equal(after.classification[100:], after.prediction[100:])
    assert "confidence" not in after.point_format.dimension_names


@pytest.mark.slow
def test_noise_changes_no_other_point_and_gets_the_class_of_the_nearest_cell(
    trained, place, tmp_path
):
    clean = laspy.read(place / "test.laz")
    points = clean.points.array
    las = laspy.LasData(clean.header)
    las.points = laspy.ScaleAwarePointRecord(
        np.concatenate([points, points[:40]]),
        clean.point_format,
        clean.header.scales,
        clean.header.offsets,
    )
    las.points["Z"][-40:] -= 15_000  # 15 m below
    las.classification[-40:-20] = 7
    las.withheld[-20:] = 1
    las.write(tmp_path / "noisy.laz")
    (outcome,) = pipeline.predict(
        trained, [tmp_path / "noisy.laz"], tmp_path / "out", OPTIONS
    )
    assert (outcome.points, outcome.nearest) == (len(las), 40)
    after = predicted(tmp_path / "out", "noisy.laz")
    (alone,) = pipeline.predict(
        trained, [place / "test.laz"], tmp_path / "clean", OPTIONS
    )
    before = predicted(tmp_path / "clean", "test.laz")
    assert alone.nearest == 0
    for name in ("prediction", "confidence", "p_ground"):
        np.testing.assert_array_equal(after[name][:-40], before[name])
    spec = read_spec(trained.spec, check_files=False).spec
    cells = prepare_file(tmp_path / "noisy.laz", spec, 1).cell_of_point
    for point in range(len(las) - 40, len(las)):
        (others,) = np.nonzero(cells[:-40] == cells[point])
        assert after.confidence[point] == after.confidence[others[0]]
    np.testing.assert_array_equal(after.classification, las.classification)


def test_one_bad_cloud_does_not_stop_the_others(trained, place, tmp_path):
    bad, good = tmp_path / "bad.laz", tmp_path / "good.laz"
    bad.write_text("not a cloud")
    shutil.copy(place / "test.laz", good)
    with pytest.raises(DataError, match=r"1 of 2 clouds were not predicted.*bad\.laz"):
        pipeline.predict(trained, [bad, good], tmp_path / "out", OPTIONS)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        ".records",
        "classes.cloudcompare.xml",
        "classes.qml",
        "good.laz",
        "predictions.json",
    ]
    written = (tmp_path / "out/good.laz").stat().st_mtime_ns
    with pytest.raises(SpecError, match="--resume"):
        pipeline.predict(trained, [good], tmp_path / "out", OPTIONS)
    resumed = Options(threads=2, quiet=True, resume=True)
    pipeline.predict(trained, [good], tmp_path / "out", resumed)
    assert (tmp_path / "out/good.laz").stat().st_mtime_ns == written


def test_an_output_that_cannot_be_written_is_an_error_before_predicting(
    trained, place, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(module("predict"), "Classifier", None)
    with pytest.raises(ResourceError, match="cannot be written"):
        pipeline.predict(trained, [place / "test.laz"], tmp_path / "file/out", OPTIONS)


@pytest.mark.slow
def test_the_error_of_each_cloud_is_reported_once(trained, tmp_path, caplog):
    clouds = [tmp_path / "one.laz", tmp_path / "two.laz"]
    for cloud in clouds:
        cloud.write_text("not a cloud")
    with pytest.raises(DataError, match=r"2 of 2 clouds.*one\.laz") as raised:
        pipeline.predict(trained, clouds, tmp_path / "out", OPTIONS)
    messages = caplog.text + str(raised.value)
    assert messages.count("one.laz") == 1
    assert messages.count("two.laz") == 1


def test_a_cloud_is_never_written_onto_itself(trained, place):
    before = (place / "test.laz").read_bytes()
    overwrite = Options(threads=2, quiet=True, overwrite=True)
    with pytest.raises(SpecError, match="its own prediction"):
        pipeline.predict(trained, [place / "test.laz"], place, overwrite)
    assert (place / "test.laz").read_bytes() == before
