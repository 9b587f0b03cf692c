import resource
import struct

import numpy as np
import pytest

from tests.clouds.las_files import (
    append_evlr,
    insert_vlr,
    make_las,
    make_las_1_5,
    patch,
    vlr_bytes,
)
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.errors import DataError

BILLION = 10**9


def peak_memory():
    """Kilobytes that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_sound_header_is_read(tmp_path):
    path = make_las(tmp_path / "town.laz", "1.4", 7, count=300)
    append_evlr(path, vlr_bytes(b"mine", 9, b"abc", extended=True))
    insert_vlr(path, vlr_bytes(b"mine", 8, b"defg"))
    # The table of chunks moves with the points.
    header_start = struct.unpack_from("<I", path.read_bytes(), 96)[0]
    table = struct.unpack_from("<q", path.read_bytes(), header_start)[0]
    patch(path, header_start, "<q", table + 54 + 4)
    header = read_header(path)
    assert header.version == (1, 4)
    assert header.point_format == 7
    assert header.compressed
    assert header.point_count == 300
    assert header.record_length == 36
    assert header.scales.tolist() == [0.01, 0.01, 0.001]
    assert header.offsets.tolist() == [500_000, 4_800_000, -20]
    assert header.vlrs[0].key == ("mine", 8)
    assert header.data(("mine", 8)) == b"defg"
    assert [r.key for r in header.evlrs] == [("mine", 9)]
    assert header.data(("mine", 9)) == b"abc"
    assert header.data(("mine", 10)) is None


def test_the_extent_is_minimum_then_maximum(tmp_path):
    path = make_las(tmp_path / "town.las")
    patch(path, 179, "<6d", 2, 1, 4, 3, 6, 5)
    assert read_header(path).extent.tolist() == [[1, 3, 5], [2, 4, 6]]


def test_las_1_5_is_read(tmp_path):
    old = read_header(make_las(tmp_path / "old.las"))
    new = read_header(make_las_1_5(tmp_path / "new.las"))
    assert new.version == (1, 5)
    assert (new.size, new.data_start) == (393, old.data_start + 18)
    assert new.point_count == old.point_count == 257


def test_the_versions_that_are_read_are_named(tmp_path):
    path = make_las(tmp_path / "town.las")
    patch(path, 25, "<B", 6)
    with pytest.raises(DataError, match=r"1\.6 is unknown, expected 1\.0 to 1\.5"):
        read_header(path)


COMPATIBLE_EXTRA = {"name": "LAS 1.4 classification", "type": "u1"}


@pytest.mark.parametrize(("record", "extra"), [(True, False), (False, True)])
def test_the_compatibility_mode_of_laszip_is_refused_by_name(record, extra, tmp_path):
    # Its points are format 1; codes above 31 lie in the extra bytes and read as 0.
    extras = [COMPATIBLE_EXTRA] if extra else []
    path = make_las(tmp_path / "town.las", "1.2", 1, extra=extras)
    if record:
        insert_vlr(path, vlr_bytes(b"lascompatible", 22204, bytes(156)))
    with pytest.raises(DataError, match="LASzip's compatibility mode") as caught:
        read_header(path)
    assert "las2las -i town.las" in str(caught.value)


@pytest.mark.parametrize(("kind", "name"), [(1, "LAZ pointwise"), (0, "of kind 0")])
def test_laz_without_chunks_is_refused_as_not_supported(kind, name, tmp_path):
    path = make_las(tmp_path / "town.laz", "1.2", 1)
    start = path.read_bytes().index(b"laszip encoded") - 2
    patch(path, start + 54, "<H", kind)
    with pytest.raises(DataError, match=name) as caught:
        read_header(path)
    assert "las2las" in str(caught.value)
    assert "again" not in str(caught.value)


HOSTILE = {
    "a billion VLRs": (100, "<I", BILLION, "VLRs, but there is room for"),
    "a billion points": (247, "<Q", BILLION, "points are missing"),
    "more points than fit 64 bits": (247, "<Q", 2**63, "points are missing"),
    "points beyond the file": (96, "<I", 2**31, "puts the points at byte 2147483648"),
    "points within the header": (96, "<I", 100, "puts the points at byte 100"),
    "records of no length": (105, "<H", 0, "0 bytes a point"),
    "records too small": (105, "<H", 29, "29 bytes a point"),
    "an unknown format": (104, "<B", 11, "point format 11 is unknown"),
    "an unknown version": (25, "<B", 9, "LAS version 1.9 is unknown"),
    "an unknown major version": (24, "<B", 2, "LAS version 2.4 is unknown"),
    "a header too small": (94, "<H", 227, "header claims a size of 227"),
    "a header larger than the file": (94, "<H", 65535, "cut short"),
    "a billion EVLRs": (235, "<QI", (400, BILLION), "EVLRs, but there is room for"),
    "EVLRs beyond the file": (235, "<QI", (2**60, 1), "puts the EVLRs at byte"),
    "EVLRs before the points": (235, "<QI", (5, 1), "puts the EVLRs at byte 5 "),
    "NaN as scale": (131, "<d", float("nan"), "scales must be positive"),
    "infinity as scale": (139, "<d", float("inf"), "scales must be positive"),
    "a scale that overflows": (139, "<d", 1e308, "scales must be positive"),
    "a negative scale": (147, "<d", -0.01, "scales must be positive"),
    "zero as scale": (147, "<d", 0.0, "scales must be positive"),
    "NaN as offset": (155, "<d", float("nan"), "offsets must be finite"),
    "infinity as offset": (171, "<d", float("-inf"), "offsets must be finite"),
    "no points": (247, "<Q", 0, "holds 0 points"),
    "another signature": (0, "<4s", b"LASX", "not a LAS file"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_header_is_refused_in_little_memory(what, tmp_path):
    path = make_las(tmp_path / "hostile.las")
    position, layout, value, message = HOSTILE[what]
    patch(path, position, layout, *(value if isinstance(value, tuple) else (value,)))
    if what == "no points":
        patch(path, 107, "<I", 0)
    before = peak_memory()
    with pytest.raises(DataError, match=message) as caught:
        read_header(path)
    assert peak_memory() - before < 50_000
    assert str(caught.value).startswith(f"{path}: ")


def test_a_record_longer_than_its_room_is_refused(tmp_path):
    path = make_las(tmp_path / "hostile.las")
    insert_vlr(path, vlr_bytes(b"mine", 1, b"abc"))
    for length in (4, 30, 60_000):
        patch(path, 375 + 20, "<H", length)
        with pytest.raises(DataError, match=f"VLR 0 claims {length} bytes, but only 3"):
            read_header(path)


def test_an_extended_record_longer_than_the_file_is_refused(tmp_path):
    path = make_las(tmp_path / "hostile.las")
    size = path.stat().st_size
    append_evlr(path, vlr_bytes(b"mine", 1, b"abc", extended=True))
    patch(path, size + 20, "<Q", 2**62)
    with pytest.raises(DataError, match=r"EVLR 0 claims .* only 3 are left"):
        read_header(path)


def test_points_counted_the_old_way_alone_are_found(tmp_path):
    path = make_las(tmp_path / "a.las", "1.4", 3)
    patch(path, 247, "<Q", 0)
    patch(path, 107, "<I", 257)
    assert read_header(path).point_count == 257


@pytest.mark.parametrize(("cut", "missing"), [(1, 1), (34, 1), (34 * 7 + 5, 8)])
def test_the_error_of_a_truncated_file_counts_the_missing_points(
    cut, missing, tmp_path
):
    path = make_las(tmp_path / "cut.las", "1.2", 3, count=100)
    path.write_bytes(path.read_bytes()[:-cut])
    message = f" {missing} of 100 points are missing"
    with pytest.raises(DataError, match=message) as caught:
        read_header(path)
    assert "Download or copy the file again" in str(caught.value)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95, 0.999])
def test_a_truncated_laz_file_is_refused_before_points_are_read(kept, tmp_path):
    path = make_las(tmp_path / "cut.laz", count=3000)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match="cut short"):
        read_header(path)


@pytest.mark.parametrize("length", [1, 4, 100, 226, 300])
def test_a_file_that_ends_in_its_header_is_refused(length, tmp_path):
    path = make_las(tmp_path / "cut.las")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"cut short|not a LAS file"):
        read_header(path)


LAZ_HOSTILE = {
    "a billion points": (None, 247, "<Q", BILLION, "cannot hold; points are missing"),
    "more points than chunks": (None, 247, "<Q", 60_000, "at least 10000 of 60000"),
    "a table beyond the file": ("points", 0, "<q", 2**50, "cut short"),
    "a table before the points": ("points", 0, "<q", 12, "cut short"),
    "a billion chunks": ("table", 4, "<I", BILLION, "claims 1000000000 chunks"),
    "other items": ("laszip", 36, "<H", 77, "points of 77 bytes"),
    "items that are not there": ("laszip", 32, "<H", 500, "record is cut short"),
    "no LASzip record": ("laszip", -36, "<H", 1, "LASzip record is missing"),
}


@pytest.mark.parametrize("what", LAZ_HOSTILE)
def test_hostile_compressed_points_are_refused_in_little_memory(what, tmp_path):
    path = make_las(tmp_path / "hostile.laz", count=3000)
    data = path.read_bytes()
    points = struct.unpack_from("<I", data, 96)[0]
    places = {
        None: 0,
        "points": points,
        "table": struct.unpack_from("<q", data, points)[0],
        "laszip": 375 + 54,
    }
    place, position, layout, value, message = LAZ_HOSTILE[what]
    patch(path, places[place] + position, layout, value)
    before = peak_memory()
    with pytest.raises(DataError, match=message):
        read_header(path)
    assert peak_memory() - before < 50_000


def test_the_table_of_a_streamed_laz_file_is_found_at_the_end(tmp_path):
    path = make_las(tmp_path / "streamed.laz", count=3000)
    data = path.read_bytes()
    points = struct.unpack_from("<I", data, 96)[0]
    table = data[points : points + 8]
    patch(path, points, "<q", -1)
    path.write_bytes(path.read_bytes() + table)
    assert read_header(path).point_count == 3000


def test_text_named_las_is_refused(tmp_path):
    path = tmp_path / "notes.las"
    path.write_text("x y z\n" * 200)
    with pytest.raises(DataError, match=r"not a LAS file.*Give a \.las or \.laz file"):
        read_header(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.las"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_header(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_header(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_header(tmp_path / "none.las")


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = make_las(tmp_path / "locked.las")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"Permission denied\)\. Check the permissions"):
        read_header(path)


def test_random_bytes_never_end_in_another_error(tmp_path):
    rng = np.random.default_rng(11)
    sound = make_las(tmp_path / "sound.laz", count=500).read_bytes()
    path = tmp_path / "odd.laz"
    refused = 0
    for _ in range(300):
        data = bytearray(sound)
        for position in rng.integers(0, 600, 4):
            data[position] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            read_header(path)
        except DataError:
            refused += 1
    assert refused > 50
