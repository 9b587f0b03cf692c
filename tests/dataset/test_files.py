"""Clouds that are refused before any of them is read as a whole."""

import laspy
import numpy as np
import pyproj
import pytest

from tests.conftest import write_place
from vl3d_lite.dataset.files import (
    check_clouds,
    fits_beside,
    prepare_file,
)
from vl3d_lite.dataset.prepared_files import prepare_training_files
from vl3d_lite.dataset.sizes import BYTES_PER_POINT, CloudSize, cloud_bytes
from vl3d_lite.errors import DataError
from vl3d_lite.spec.reader import read_spec


@pytest.fixture
def spec(place):
    return read_spec(place / "spec.yaml").spec


def only_ground(path):
    las = laspy.read(path)
    las.classification[:] = 2
    las.write(path)


def test_training_clouds_of_one_name_are_counted_apart(tmp_path, spec):
    paths = [tmp_path / name / "t.laz" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        write_place(path, 0, n=600)
    only_ground(paths[1])
    check_clouds(paths, spec, count_classes=True)
    only_ground(paths[0])
    with pytest.raises(DataError, match="class `vegetation`"):
        check_clouds(paths, spec, count_classes=True)


def test_degrees_are_refused_before_the_points_are_read(tmp_path, spec):
    path = tmp_path / "degrees.laz"
    write_place(path, 0, n=600)
    las = laspy.read(path)
    las.header.add_crs(pyproj.CRS("EPSG:4326"))
    las.write(path)
    for count_classes in (True, False):
        with pytest.raises(DataError, match=r"degrees\.laz.*Reproject"):
            check_clouds([path], spec, count_classes=count_classes)


def test_all_bad_clouds_are_reported_together(tmp_path, place):
    loaded = read_spec(place / "spec.yaml", ["features=[height, intensitty]"])
    good, bad = tmp_path / "good.laz", tmp_path / "bad.laz"
    write_place(good, 0, n=600)
    bad.write_text("not a cloud")
    with pytest.raises(DataError) as error:
        check_clouds([bad, good], loaded.spec, count_classes=False)
    first, second = str(error.value).splitlines()
    assert first.startswith(str(bad))
    assert "no dimension `intensitty`" in second
    assert "did you mean `intensity`?" in second


def test_declared_no_data_is_missing_and_reported(tmp_path, place, caplog):
    path = tmp_path / "a.laz"
    write_place(path, 0, n=900)
    las = laspy.read(path)
    no_data = np.array([-9999], np.float32)
    las.add_extra_dim(laspy.ExtraBytesParams("Reflectance", "f4", no_data=no_data))
    las.Reflectance = np.where(np.arange(900) % 10 == 0, -9999, las.intensity / 100)
    las.write(path)
    spec = read_spec(place / "spec.yaml", ["features=[Reflectance]"]).spec
    cloud = prepare_file(path, spec, 1)
    low, high = np.nanmin(cloud.features), np.nanmax(cloud.features)
    assert 4.9 < low < high < 10
    assert "10.0 % of the points have no value of `Reflectance`" in caplog.text
    caplog.clear()
    prepare_file(path, spec, 1, grid=1)
    assert not caplog.text


@pytest.fixture
def noisy(tmp_path):
    """The place without noise, and with 30 low points of code 7, half withheld."""
    clean, noisy = tmp_path / "clean.laz", tmp_path / "noisy.laz"
    write_place(clean, 0, n=3000)
    las = laspy.read(clean)
    points = las.points.array
    las.points = laspy.ScaleAwarePointRecord(
        np.concatenate([points[:30], points]),
        las.point_format,
        las.header.scales,
        las.header.offsets,
    )
    las.points["Z"][:30] -= 15_000
    las.classification[:30] = 7
    las.withheld[:15] = 1
    las.write(noisy)
    return clean, noisy


@pytest.mark.parametrize("change", [[], ["excluded_points.codes=[]"]])
def test_noise_moves_no_height(noisy, place, change):
    spec = read_spec(place / "spec.yaml", ["features=[height]", *change]).spec
    clean, other = (prepare_file(path, spec, 1) for path in noisy)
    assert (other.point_labels[:30] == -1).all()
    if change:  # the points without the flag lower the ground
        assert np.count_nonzero(other.excluded) == 15
        heights = (cloud.features[cloud.cell_of_point, 0] for cloud in (clean, other))
        before, after = heights
        assert (np.abs(after[30:] - before) > 1).mean() > 0.1
        return
    np.testing.assert_array_equal(other.features, clean.features)
    np.testing.assert_array_equal(other.cell_of_point[30:], clean.cell_of_point)
    for one, two in zip(other.hierarchy.levels, clean.hierarchy.levels, strict=True):
        np.testing.assert_array_equal(one.neighbors, two.neighbors)


def test_noise_that_is_a_class_stays(noisy, place):
    changes = ["features=[height]", "classes.noise=7", "classes.ground=2"]
    spec = read_spec(place / "spec.yaml", changes).spec
    cloud = prepare_file(noisy[1], spec, 1)
    assert cloud.excluded is None
    assert (cloud.point_labels[:30] == spec.class_names.index("noise")).all()


def test_training_clouds_hold_no_excluded_points(noisy, place):
    change = ["training.augmentation.grids=2", "training.augmentation.slope=0.5"]
    spec = read_spec(place / "spec.yaml", change).spec
    clean, other = (
        prepare_training_files([path], spec, 1, quiet=True) for path in noisy
    )
    for one, two in zip(clean, other, strict=True):
        np.testing.assert_array_equal(one.features, two.features)
        np.testing.assert_array_equal(one.xyz, two.xyz)
        assert two.excluded is None


@pytest.mark.slow
def test_training_clouds_come_on_every_grid_thinned_but_for_the_first(tmp_path, place):
    paths = [tmp_path / "a.laz", tmp_path / "b.laz"]
    for seed, path in enumerate(paths):
        write_place(path, seed, n=900)
    changes = ["training.augmentation.grids=3", "training.augmentation.thinning=0.5"]
    spec = read_spec(place / "spec.yaml", changes).spec
    clouds = prepare_training_files(paths, spec, 1, quiet=True)
    assert [cloud.name for cloud in clouds] == ["a.laz"] * 3 + ["b.laz"] * 3
    sizes = [len(cloud.cell_of_point) for cloud in clouds]
    assert sizes[0] == sizes[3] == 900
    assert all(450 < size < 900 for size in sizes[1:3] + sizes[4:])
    assert len(set(sizes)) == 5
    for path, first in zip(paths, clouds[::3], strict=True):
        alone = prepare_file(path, spec, 1)
        np.testing.assert_array_equal(first.xyz, alone.xyz)
        np.testing.assert_array_equal(first.labels, alone.labels)


def test_training_clouds_are_tilted_but_for_the_first(tmp_path, place):
    path = tmp_path / "a.laz"
    write_place(path, 0, n=900)
    changes = ["training.augmentation.grids=3", "training.augmentation.slope=1.5"]
    spec = read_spec(place / "spec.yaml", changes).spec
    first, *tilted = prepare_training_files([path], spec, 1, quiet=True)
    np.testing.assert_array_equal(first.xyz, prepare_file(path, spec, 1).xyz)
    low, high = np.ptp(first.xyz[:, 2]), [np.ptp(c.xyz[:, 2]) for c in tilted]
    assert min(high) > 1.2 * low
    assert high[0] != high[1]


def test_a_cloud_is_prepared_beside_another_in_half_the_free_memory(
    place, spec, monkeypatch, tmp_path
):
    cloud, points = place / "train.laz", 6000
    needed = points * BYTES_PER_POINT + cloud_bytes(
        spec, CloudSize(points, (points,)), swept=True
    )
    for free, fits in ((2 * needed + 2, True), (2 * needed - 2, False)):
        monkeypatch.setattr("vl3d_lite.dataset.files.memory_limit", lambda n=free: n)
        assert fits_beside(cloud, spec) == fits
        assert not fits_beside(tmp_path / "absent.laz", spec)
