"""Clouds that are not independent of each other are found, whatever their names."""

import shutil

import laspy
import numpy as np
import pytest
from pyproj import CRS

from vl3d_lite.dataset.overlap import Extent, OverlapFinder, overlap_warnings

ORIGIN = np.array([450_000, 5_410_000, 100.0])


def write(path, xyz, crs=None, labels=2):
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, 0.001), ORIGIN
    if crs:
        header.add_crs(CRS.from_epsg(crs))
    las = laspy.LasData(header)
    las.x, las.y, las.z = (xyz + ORIGIN).T
    las.classification[:] = labels
    las.write(path)
    return path


def scan(seed=0, west=0.0, east=40.0, n=4000):
    rng = np.random.default_rng(seed)
    xyz = np.round(rng.uniform([west, 0, 0], [east, 40, 8], (n, 3)), 3)
    return xyz


def found(one, other):
    overlaps = OverlapFinder().find([one], [other])
    assert len(overlaps) <= 1
    return (overlaps[0].kind, overlaps[0].share) if overlaps else None


def test_equal_bytes_are_the_same_content(tmp_path):
    one = write(tmp_path / "a.laz", scan())
    assert found(one, one) == ("content", 1.0)
    assert found(one, shutil.copy(one, tmp_path / "copy.laz")) == ("content", 1.0)


def test_other_points_at_one_place_are_independent_without_a_system(tmp_path):
    one = write(tmp_path / "a.laz", scan(0))
    assert found(one, write(tmp_path / "b.laz", scan(1))) is None
    assert found(one, write(tmp_path / "c.laz", np.add(scan(0), [100, 0, 0]))) is None


@pytest.mark.parametrize("name", ["copy.laz", "copy.las"])
def test_a_copy_with_other_labels_and_order_shares_its_points(tmp_path, name):
    one = write(tmp_path / "a.laz", scan())
    assert found(one, write(tmp_path / name, scan()[::-1], labels=6)) == ("points", 1.0)


def test_tiles_with_a_buffer_share_the_points_in_it(tmp_path):
    xyz = np.concatenate([scan(0, 0, 40), scan(1, 40, 80)])
    one = write(tmp_path / "a.laz", xyz[xyz[:, 0] < 42])
    other = write(tmp_path / "b.laz", xyz[xyz[:, 0] > 38])
    kind, share = found(one, other)
    assert kind == "points"
    assert share == pytest.approx(4 / 42, abs=0.02)


def test_adjacent_tiles_are_independent(tmp_path):
    one = write(tmp_path / "a.laz", scan(0, 0, 40), crs=25832)
    other = write(tmp_path / "b.laz", scan(1, 40, 80), crs=25832)
    assert found(one, other) is None


def test_two_flights_over_one_place_cover_its_land(tmp_path):
    one = write(tmp_path / "a.laz", scan(0, 0, 40), crs=25832)
    other = write(tmp_path / "b.laz", scan(1, 20, 60), crs=25832)
    kind, share = found(one, other)
    assert kind == "place"
    assert share == pytest.approx(0.5, abs=0.15)
    assert found(one, write(tmp_path / "c.laz", scan(1, 20, 60), crs=25833)) is None


def test_boxes_that_touch_do_not_overlap():
    box = Extent(np.array([[0, 0, 0], [10, 10, 2.0]]), "")
    assert box.overlaps(Extent(np.add(box.corners, [5, 0, 0]), ""))
    assert not box.overlaps(Extent(np.add(box.corners, [10, 0, 0]), ""))
    assert not box.overlaps(Extent(np.add(box.corners, [0, 0, 3]), ""))
    flat = Extent(np.array([[0, 0, 1], [10, 0, 1.0]]), "")
    assert flat.overlaps(flat)
    assert box.shared_area(Extent(np.add(box.corners, [5, 0, 0]), "")) == 0.5
    assert box.shared_area(Extent(np.add(box.corners, [15, 15, 0]), "")) == 0


def test_each_dependent_cloud_of_a_spec_is_named_once(tmp_path):
    train = [write(tmp_path / f"t{n}.laz", scan(n)) for n in range(3)]
    copies = [shutil.copy(path, tmp_path / f"v{path.name}") for path in train[:2]]
    free = write(tmp_path / "free.laz", scan(9))
    clouds = {"train": train, "validation": copies, "predict": [free, train[0]]}
    texts = list(overlap_warnings(clouds))
    assert [text.split(": ")[0] for text in texts] == [
        str(copies[0]),
        str(copies[1]),
        str(train[0]),
        str(train[0]),
    ]
    assert f"same content as the training cloud {train[0]}: validation" in texts[0]
    assert "is also in `clouds.train`" in texts[2]
    assert "chooses the epoch and fits the temperature" in texts[3]
    assert all("optimistically biased" in text for text in texts)
    assert not list(overlap_warnings({"train": train, "predict": [free]}))


def test_many_dependent_clouds_are_counted(tmp_path):
    train = [write(tmp_path / f"{n}.laz", scan(n, n=50)) for n in range(13)]
    texts = list(overlap_warnings({"train": train, "validation": train}))
    assert len(texts) == 11
    assert texts[-1].startswith("3 more validation clouds")


def test_a_cloud_that_cannot_be_read_is_left_out(tmp_path):
    train = write(tmp_path / "t.laz", scan())
    bad, cut = tmp_path / "bad.laz", tmp_path / "cut.laz"
    bad.write_text("no cloud")
    cut.write_bytes(train.read_bytes()[:-200])
    predict = [bad, tmp_path / "gone.laz", cut, train]
    texts = list(overlap_warnings({"train": [train], "predict": predict}))
    assert [text.split(": ")[0] for text in texts] == [str(train)]
