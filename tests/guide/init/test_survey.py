"""What is seen of a cloud at a glance."""

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from vl3d_lite.errors import DataError, ResourceError
from vl3d_lite.guide.init import survey
from vl3d_lite.guide.init.survey import survey_cloud


@pytest.fixture
def cloud(tmp_path):
    write_place(tmp_path / "a.laz", 0, n=16_000)
    return tmp_path / "a.laz"


def rewrite(path, change):
    las = laspy.read(path)
    change(las)
    las.write(path)


def lattice(n, spacing):
    steps = np.arange(n) * spacing
    x, y = np.meshgrid(steps, steps)
    return np.column_stack([x.ravel(), y.ravel(), np.zeros(n * n)])


def test_levels_count_points_above_each_other():
    floor = lattice(40, 1.0) + 0.5
    assert survey.stacked_levels(floor, 1.0) == 1
    tower = np.vstack([np.add(floor, [0, 0, 3 * n]) for n in range(5)])
    assert survey.stacked_levels(tower, 1.0) == 5


def test_a_survey_has_codes_extent_and_inputs(cloud):
    found = survey_cloud(cloud)
    las = laspy.read(cloud)
    codes, counts = np.unique(las.classification, return_counts=True)
    assert found.codes == dict(zip(codes.tolist(), counts.tolist(), strict=True))
    np.testing.assert_allclose(found.corners, [las.xyz.min(0), las.xyz.max(0)])
    assert found.density == pytest.approx(10, rel=0.2)
    assert set(found.varying) == {"intensity", "return_number", "number_of_returns"}
    assert found.labeled
    assert found.withheld == 0


def test_a_dimension_with_declared_no_data_is_an_input(cloud):
    las = laspy.read(cloud)
    no_data = np.array([-9999], np.float32)
    las.add_extra_dim(laspy.ExtraBytesParams("reflectance", "f4", no_data=no_data))
    las.reflectance = np.where(np.arange(len(las)) % 9, las.intensity / 100, -9999)
    las.write(cloud)
    found = survey_cloud(cloud)
    assert "reflectance" in found.varying
    assert found.unusable == ()


def test_low_noise_is_surveyed_as_points_alone(cloud):
    before = survey_cloud(cloud)

    def dig(las):
        las.classification[:5] = 7
        las.points["Z"][:5] -= 1_000_000

    rewrite(cloud, dig)
    found = survey_cloud(cloud)
    assert found.codes[7] == 5
    assert found.points == before.points
    np.testing.assert_allclose(found.corners[0, 2], before.corners[0, 2], atol=1)


def test_a_constant_dimension_is_no_input(cloud):
    def flatten(las):
        las.intensity[:] = 7
        las.withheld[:5] = 1

    rewrite(cloud, flatten)
    found = survey_cloud(cloud)
    assert "intensity" in found.constant
    assert "intensity" not in found.varying
    assert found.withheld == 5
    assert sum(found.codes.values()) == 16_000 - 5


def test_a_cloud_of_one_unclassified_code_is_not_labeled(cloud):
    def forget(las):
        las.classification[:] = 1

    rewrite(cloud, forget)
    assert not survey_cloud(cloud).labeled


@pytest.mark.parametrize(("lift", "share"), [(0.05, 1.0), (3.0, 0.0)])
def test_unclassified_points_are_compared_with_the_ground(cloud, lift, share):
    def unname(las):
        some = np.flatnonzero(las.classification == 2)[::4]
        las.classification[some] = 1
        las.Z[some] += round(lift * 1000)

    rewrite(cloud, unname)
    assert survey_cloud(cloud).unclassified_on_ground == pytest.approx(share, abs=0.1)


def test_one_point_is_too_few(cloud):
    las = laspy.read(cloud)
    las.points = las.points[:1]
    las.write(cloud)
    with pytest.raises(DataError, match="has 1 points"):
        survey_cloud(cloud)


def test_a_cloud_beyond_memory_is_refused(cloud, monkeypatch):
    monkeypatch.setattr("vl3d_lite.system.resources.memory_limit", lambda: 1000)
    with pytest.raises(ResourceError, match="smaller tiles"):
        survey_cloud(cloud)


def test_dimensions_that_are_no_inputs_do_not_prevent_a_survey(cloud):
    def extend(las):
        rng = np.random.default_rng(1)
        for name, kind in (("scalar", "f4"), ("normal", "3f4"), ("good", "f4")):
            las.add_extra_dim(laspy.ExtraBytesParams(name, kind))
        las.scalar = las.good = rng.normal(size=len(las)).astype("f4")
        las.scalar[7] = np.nan
        las.normal = rng.normal(size=(len(las), 3))

    rewrite(cloud, extend)
    found = survey_cloud(cloud)
    assert found.unusable == ("scalar",)
    assert {"good", "normal[0]", "normal[2]"} <= set(found.varying)
    assert "scalar" not in {*found.varying, *found.constant}
