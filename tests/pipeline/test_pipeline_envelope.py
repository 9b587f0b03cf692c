"""Envelope attention with source weights, from a spec to predicted clouds."""

import shutil

import laspy
import numpy as np
import pytest

from tests.conftest import SPEC, write_place
from vl3d_lite import pipeline
from vl3d_lite.dataset.files import check_clouds
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import read_spec

OPTIONS = Options(threads=2, quiet=True)
CHANGES = [
    "model.stages.0={points: 128, channels: 8, neighbors: 8, blocks: [gva]}",
    "model.stages.1={points: 32, channels: 8, neighbors: 8, blocks: [envelope]}",
    "model.gva={groups: 4, softmax: envelope}",
    "model.source_weights=trust",
    "training.epochs=2",
    "training.steps_per_epoch=2",
    "clouds.validation=[]",
    "export.kernels=false",
]


def write_trusted(path, seed, trust):
    """A small place with an extra dimension `trust`."""
    write_place(path, seed, n=1500)
    las = laspy.read(path)
    las.add_extra_dim(laspy.ExtraBytesParams("trust", np.float32))
    las.trust = np.resize(np.float32(trust), len(las.points))
    las.write(path)


pytestmark = pytest.mark.usefixtures("nothing_twice")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trusted")
    for seed, name in enumerate(("train", "test")):
        write_trusted(folder / f"{name}.laz", seed, [1, 0.5, 0])
    (folder / "spec.yaml").write_text(SPEC)
    return folder


@pytest.fixture(scope="module")
def run(town, tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("gated") / "run")
    pipeline.run(read_spec(town / "spec.yaml", CHANGES), folder, OPTIONS)
    return folder


@pytest.mark.slow
def test_a_run_trains_predicts_and_scores(run, town):
    after = laspy.read(run.predictions / "test.laz")
    assert set(np.unique(after.prediction)) <= {2, 5, 6}
    np.testing.assert_array_equal(after.trust, laspy.read(town / "test.laz").trust)
    assert run.metrics.is_file()
    assert "source_weights:" in run.spec.read_text()


@pytest.mark.slow
def test_its_folder_predicts_the_same_and_uses_the_weights(run, town, tmp_path):
    for name, trust in (("same", [1, 0.5, 0]), ("muted", [0]), ("other", [0, 1, 0.5])):
        write_trusted(tmp_path / f"{name}.laz", 1, trust)
    paths = sorted(tmp_path.glob("*.laz"))
    pipeline.predict(run, paths, tmp_path / "out", OPTIONS)
    before = laspy.read(run.predictions / "test.laz").confidence
    found = {p.stem: laspy.read(tmp_path / "out" / p.name).confidence for p in paths}
    np.testing.assert_array_equal(found["same"], before)
    for name in ("muted", "other"):
        assert np.abs(found[name] - before).max() > 1e-4, name


@pytest.mark.slow
def test_an_interrupted_training_resumes_to_the_same_weights(run, town, tmp_path):
    shutil.copytree(run.root, tmp_path / "again")
    again = RunFolder(tmp_path / "again")
    again.model.unlink()
    spec = read_spec(town / "spec.yaml", CHANGES)
    pipeline.train(spec, again, Options(threads=2, quiet=True, resume=True))
    pipeline.predict(again, [town / "test.laz"], tmp_path / "out", OPTIONS)
    np.testing.assert_array_equal(
        laspy.read(tmp_path / "out/test.laz").confidence,
        laspy.read(run.predictions / "test.laz").confidence,
    )


def test_a_cloud_without_the_dimension_is_refused_before_training(place, town):
    spec = read_spec(town / "spec.yaml", CHANGES).spec
    check_clouds([town / "train.laz"], spec, count_classes=True)
    message = r"train\.laz: no dimension `trust`, which `model\.source_weights` needs"
    with pytest.raises(DataError, match=message):
        check_clouds([place / "train.laz"], spec, count_classes=True)


@pytest.mark.slow
def test_a_negative_weight_is_refused_with_its_point(run, tmp_path):
    write_trusted(tmp_path / "bad.laz", 1, [1, -2])
    with pytest.raises(DataError, match=r"bad\.laz.*not negative. Received: -2.0 at"):
        pipeline.predict(run, [tmp_path / "bad.laz"], tmp_path / "out", OPTIONS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.source_weights=withheld", r"`withheld` holds codes, not weights; list"),
        ("model.gva.softmax=plain", None),
        ("model.gva.softmax=gated", r"must be one of: plain, envelope"),
        ("model.envelope.heads=3", r"must be a multiple of `envelope.heads` = 3"),
        ("model.source_weights={zero_weight_values: [1]}", r"dimension"),
        ("model.source_weights={dimension: withheld, zero_weight_values: [1]}", None),
    ],
)
def test_specs_are_checked_as_they_are_read(town, setting, message):
    settings = [*CHANGES, setting]
    if message is None:
        read_spec(town / "spec.yaml", settings)
        return
    with pytest.raises(SpecError, match=message):
        read_spec(town / "spec.yaml", settings)
