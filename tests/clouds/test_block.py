"""Blocks hold the chosen points of a cloud, and a header that fits them."""

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from vl3d_lite.clouds.block import write_block
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.errors import DataError


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_a_block_keeps_every_dimension_of_its_points(tmp_path, suffix):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_place(source, 0, n=3000)
    before = source.read_bytes()
    chosen = np.random.default_rng(4).random(3000) < 0.3
    write_block(source, target, chosen)
    whole, block = laspy.read(source), laspy.read(target)
    assert block.header.point_count == chosen.sum()
    for name in whole.point_format.dimension_names:
        np.testing.assert_array_equal(block[name], np.asarray(whole[name])[chosen])
    assert source.read_bytes() == before
    assert block.header.are_points_compressed == (suffix == ".laz")


@pytest.mark.parametrize("suffix", [".las", ".laz"])
@pytest.mark.parametrize(
    ("version", "number"), [("1.2", 3), ("1.4", 1), ("1.4", 7), ("1.4", 8)]
)
def test_the_header_of_a_block_counts_its_points(tmp_path, suffix, version, number):
    rng = np.random.default_rng(5)
    las = laspy.create(point_format=number, file_version=version)
    las.header.scales, las.header.offsets = [0.001] * 3, [1e5, -2e5, 30]
    corner = np.array([1e5, -2e5, 30])[:, None]
    las.x, las.y, las.z = rng.uniform(0, 99, (3, 250_000)) + corner
    las.return_number = rng.integers(1, 6, len(las))
    las.add_extra_dim(laspy.ExtraBytesParams("trust", "f4"))
    las["trust"] = rng.random(len(las))
    las.vlrs.append(laspy.VLR("mine", 7, "a note", b"data"))
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    las.write(source)
    chosen = (las.x < las.x.max() - 50) & (las.return_number > 1)
    chosen[100_000:200_000] = False  # a chunk without points
    write_block(source, target, chosen)
    block, expected = laspy.read(target), las.points[chosen]
    counts = np.bincount(expected.return_number, minlength=16)[1:]
    listed = block.header.number_of_points_by_return
    assert listed.tolist() == counts[: len(listed)].tolist()
    np.testing.assert_array_equal(block.header.maxs, block.xyz.max(0))
    np.testing.assert_array_equal(block.header.mins, block.xyz.min(0))
    np.testing.assert_array_equal(block["trust"], expected["trust"])
    np.testing.assert_array_equal(block.X, expected.X)
    note = block.vlrs.get_by_id("mine", (7,))[0]
    assert note.record_data_bytes() == b"data"
    assert read_header(target).point_count == chosen.sum()


def test_a_choice_of_another_length_is_refused(tmp_path):
    write_place(tmp_path / "a.las", 0, n=3000)
    with pytest.raises(DataError, match=r"each of 3,000 points.*\(2999,\)"):
        write_block(tmp_path / "a.las", tmp_path / "b.las", np.ones(2999, bool))
    assert not (tmp_path / "b.las").exists()
