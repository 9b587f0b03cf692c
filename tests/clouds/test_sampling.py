"""Copies of points choose the same sample, whatever file they are in."""

import laspy
import numpy as np

from vl3d_lite.clouds import sampling
from vl3d_lite.clouds.sampling import sample_points


def write(path, xyz, scale=0.001, offset=(450_000, 5_410_000, 100)):
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = np.full(3, scale), np.array(offset, float)
    las = laspy.LasData(header)
    las.x, las.y, las.z = xyz.T
    las.write(path)
    return path


def points(n, seed=0):
    xyz = np.random.default_rng(seed).uniform(0, 100, (n, 3))
    return np.round(np.add(xyz, [450_000, 5_410_000, 100]), 3)


def test_a_file_of_few_points_is_sampled_whole(tmp_path):
    xyz = points(500)
    found = sample_points(write(tmp_path / "a.las", xyz))
    assert found.one_in == 1
    assert len(found.keys) == 500
    np.testing.assert_allclose(np.sort(found.xy, axis=0), np.sort(xyz[:, :2], axis=0))


def test_copies_with_other_bytes_choose_the_same_points(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLED_POINTS", 1000)
    xyz = points(20_000)
    one = sample_points(write(tmp_path / "a.las", xyz))
    other = sample_points(
        write(tmp_path / "b.laz", xyz[::-1], scale=0.0001, offset=(4e5, 5.4e6, 0))
    )
    assert one.one_in == other.one_in == 16
    assert 1000 < len(one.keys) < 1500
    np.testing.assert_array_equal(one.keys, other.keys)


def test_a_part_of_a_file_is_found_in_its_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLED_POINTS", 1000)
    xyz = points(20_000)
    whole = sample_points(write(tmp_path / "a.las", xyz))
    part = sample_points(write(tmp_path / "b.las", xyz[:5000])).thinned(whole.one_in)
    assert np.isin(part.keys, whole.keys).all()
    assert abs(len(part.keys) - 5000 / 16) < 60
    others = sample_points(write(tmp_path / "c.las", points(20_000, seed=1)))
    assert not np.isin(others.keys, whole.keys).any()
