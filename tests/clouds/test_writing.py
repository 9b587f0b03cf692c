import errno
import os
import resource
import signal
import struct

import laspy
import numpy as np
import pyproj
import pytest

from tests.clouds.las_files import (
    VERSIONS_AND_FORMATS,
    append_evlr,
    everything,
    insert_vlr,
    make_las,
    make_las_1_5,
    patch,
    split,
    vlr_bytes,
)
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.clouds.signature import Signature
from vl3d_lite.clouds.writing import write_las
from vl3d_lite.errors import DataError, ResourceError, SpecError

COUNT = 257
PREDICTION = np.arange(COUNT) % 211
CONFIDENCE = np.linspace(0, 1, COUNT, dtype=np.float32)
ADDED = {"prediction": (PREDICTION, "u2"), "confidence": (CONFIDENCE, "f4")}
EXTRA = [
    {"name": "height", "type": "f4", "description": "above ground"},
    {"name": "reflectance", "type": "i2", "scales": [0.5], "offsets": [3.0]},
    {"name": "normal", "type": "3f8"},
]
# Byte ranges of the header that the copy must hold as they are: all but version,
# point offset, number of records, format and record length, EVLR start.
SAME = [(0, 25), (26, 96), (107, 235), (243, 375)]


def one_channel(path):
    las = laspy.read(path)
    las.scanner_channel[:] = 2
    for name in ("wavepacket_size", "wavepacket_offset"):  # which reading mixed up
        las[name][:] = np.random.default_rng(8).integers(0, 2**31, len(las.points))
    las.write(path)


@pytest.mark.parametrize("scale", [0.01, 0.00025])
@pytest.mark.parametrize("out", ["las", "laz"])
@pytest.mark.parametrize("into", ["las", "laz"])
@pytest.mark.parametrize(("version", "point_format"), VERSIONS_AND_FORMATS)
def test_a_copy_holds_every_bit_of_its_source(
    version, point_format, into, out, scale, tmp_path
):
    source = tmp_path / f"in.{into}"
    make_las(source, version, point_format, scale=(scale,) * 3, extra=EXTRA)
    if point_format in (9, 10) and "laz" in (into, out):
        one_channel(source)
    original = source.read_bytes()
    target = tmp_path / f"out.{out}"
    write_las(source, target, ADDED)
    before, after = everything(source), everything(target)
    assert list(after) == [*before, "prediction", "confidence"]
    for name, values in before.items():
        assert after[name].dtype == values.dtype
        assert after[name].tobytes() == values.tobytes(), name
    np.testing.assert_array_equal(after["prediction"], PREDICTION)
    np.testing.assert_array_equal(after["confidence"], CONFIDENCE)
    header, copied = split(source)[0], split(target)[0]
    assert len(header) == len(copied)
    for start, stop in SAME:
        assert header[start:stop] == copied[start:stop], (start, stop)
    assert copied[25] == (2 if version == "1.0" else header[25])
    assert (copied[104] >= 128) == (out == "laz")
    assert source.read_bytes() == original
    assert sorted(os.listdir(tmp_path)) == sorted([source.name, target.name])


@pytest.mark.parametrize(("into", "out"), [("las", "laz"), ("laz", "las")])
@pytest.mark.parametrize("point_format", [9, 10])
def test_waveforms_that_laz_would_lose_are_refused(point_format, into, out, tmp_path):
    source = make_las(tmp_path / f"in.{into}", "1.4", point_format)
    with pytest.raises(DataError, match=r"several scanner channels.*\.las output"):
        write_las(source, tmp_path / f"out.{out}", {})
    assert os.listdir(tmp_path) == [source.name]


ODD_RECORDS = {
    "a lookup with odd names": (b"LASF_Spec", 0, b"\x02Ground-low/high!", b"x" * 32),
    "text after its end": (b"LASF_Projection", 2111, b"A\0B\0\0", b"a\0b"),
    "bytes that are no text": (b"caf\xe9\xff", 65_535, b"\xff" * 70, b"\xfe\xfd"),
    "an empty one": (b"", 0, b"", b""),
    "a long one": (b"mine", 7, bytes(range(256)) * 255, b""),
}


@pytest.mark.parametrize("what", ODD_RECORDS)
@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_records_are_copied_byte_for_byte(what, suffix, tmp_path):
    source, target = make_las(tmp_path / "in.las"), tmp_path / f"out.{suffix}"
    record = vlr_bytes(*ODD_RECORDS[what])
    insert_vlr(source, record)
    insert_vlr(source, vlr_bytes(b"mine", 1, b"first"))
    extended = vlr_bytes(*ODD_RECORDS[what], extended=True)
    append_evlr(source, vlr_bytes(b"mine", 2, b"a", extended=True))
    append_evlr(source, extended)
    write_las(source, target, ADDED)
    _, vlrs, evlrs = split(target)
    assert vlrs[:2] == split(source)[1][:2]
    assert vlrs[1] == record
    assert evlrs == split(source)[2]
    assert evlrs[1] == extended
    assert len(read_las(target, dimensions=["prediction"])) == COUNT


def test_bytes_around_the_records_are_copied(tmp_path):
    source, target = make_las(tmp_path / "in.las", "1.2", 3), tmp_path / "out.las"
    data = bytearray(source.read_bytes())
    data[227:227] = b"user bytes of the header" + b"\xdd\xcc"
    struct.pack_into("<HI", data, 94, 227 + 24, 227 + 26)
    source.write_bytes(bytes(data))
    write_las(source, target, {})
    assert target.read_bytes() == source.read_bytes()


def test_user_bytes_of_the_header_survive_a_raised_format(tmp_path):
    source, target = make_las(tmp_path / "in.las", "1.2", 3), tmp_path / "out.las"
    data = bytearray(source.read_bytes())
    data[227:227] = b"user bytes of the header"
    struct.pack_into("<HI", data, 94, 227 + 24, 227 + 24)
    source.write_bytes(bytes(data))
    write_las(source, target, {}, classification=PREDICTION)
    assert split(target)[0][375:] == b"user bytes of the header"
    np.testing.assert_array_equal(everything(target)["classification"], PREDICTION)


def test_a_copy_of_nothing_new_is_the_same_file(tmp_path):
    source = make_las(tmp_path / "in.las", extra=EXTRA, crs=pyproj.CRS("EPSG:2154"))
    write_las(source, tmp_path / "out.las", {})
    assert (tmp_path / "out.las").read_bytes() == source.read_bytes()


def test_extra_dimensions_keep_the_bytes_of_their_entries(tmp_path):
    source, target = make_las(tmp_path / "in.las", extra=EXTRA), tmp_path / "out.las"
    write_las(source, target, ADDED)
    before, after = split(source)[1][-1], split(target)[1][-1]
    assert after[54 : 54 + 3 * 192] == before[54:]
    assert len(after) == 54 + 5 * 192
    assert after[22:54] == before[22:54]


@pytest.mark.parametrize("version", ["1.3", "1.4"])
@pytest.mark.parametrize("raised", [False, True], ids=["same format", "raised"])
def test_waveforms_within_the_file_are_kept(version, raised, tmp_path):
    source, target = make_las(tmp_path / "in.las", version, 4), tmp_path / "out.las"
    size = source.stat().st_size
    packets = vlr_bytes(b"LASF_Spec", 65_535, bytes(range(200)), extended=True)
    if version == "1.4":
        append_evlr(source, packets)
    else:
        source.write_bytes(source.read_bytes() + packets)
    patch(source, 6, "<H", 2)
    patch(source, 227, "<Q", size)
    codes = PREDICTION if raised else None
    write_las(source, target, ADDED, classification=codes)
    data = target.read_bytes()
    start = struct.unpack_from("<Q", data, 227)[0]
    assert data[start : start + len(packets)] == packets
    assert start > size
    if version == "1.4" or raised:
        assert split(target)[2] == [packets]
    names = ("wavepacket_index", "wavepacket_offset", "wavepacket_size", "x_t")
    before, after = everything(source), everything(target)
    for name in names:
        np.testing.assert_array_equal(after[name], before[name], name)


def test_copc_becomes_plain_laz(tmp_path):
    source, target = make_las(tmp_path / "in.laz"), tmp_path / "out.laz"
    las = laspy.read(source)
    las.header.vlrs.insert(0, laspy.VLR("copc", 1, "info", b"\0" * 160))
    las.evlrs = laspy.vlrs.vlrlist.VLRList(
        [laspy.VLR("copc", 1000, "tree", b"\0" * 32), laspy.VLR("mine", 3, "", b"abc")]
    )
    las.write(source)
    log = []
    write_las(source, target, ADDED, log=log.append)
    _, vlrs, evlrs = split(target)
    assert not any(b"copc" in record for record in (*vlrs, *evlrs))
    assert [record[60:] for record in evlrs] == [b"abc"]
    assert any("COPC becomes plain" in line for line in log)


def test_las_1_0_becomes_1_2(tmp_path):
    source, log = make_las(tmp_path / "in.las", "1.0", 1), []
    write_las(source, tmp_path / "out.las", {}, log=log.append)
    assert split(tmp_path / "out.las")[0][25] == 2
    assert any("LAS 1.0 becomes 1.2" in line for line in log)


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_copy_of_las_1_5_stays_las_1_5(suffix, tmp_path):
    source, target = make_las_1_5(tmp_path / "in.las"), tmp_path / f"out.{suffix}"
    write_las(source, target, ADDED)
    header = read_header(target)
    assert (header.version, header.point_count) == ((1, 5), COUNT)
    assert bytes(header.raw[375:393]) == source.read_bytes()[375:393]
    copy = read_las(target, dimensions=["prediction", "gps_time"])
    expected = read_las(source, dimensions=["gps_time"])
    np.testing.assert_array_equal(copy.attributes["prediction"], PREDICTION)
    np.testing.assert_array_equal(copy.local, expected.local)
    times = expected.attributes["gps_time"]
    np.testing.assert_array_equal(copy.attributes["gps_time"], times)


@pytest.mark.parametrize(
    ("into", "name", "compressed"),
    [
        ("in.las", "out.LAZ", True),
        ("in.laz", "out.LAS", False),
        ("in.laz", "out.copy", True),
        ("in.las", "out.copy", False),
    ],
)
def test_the_suffix_decides_about_compression(into, name, compressed, tmp_path):
    source, target = make_las(tmp_path / into), tmp_path / name
    write_las(source, target, ADDED)
    assert (target.read_bytes()[104] >= 128) == compressed
    np.testing.assert_array_equal(everything(target)["prediction"], PREDICTION)


def test_an_existing_file_is_refused_and_left_alone(tmp_path):
    source, target = make_las(tmp_path / "in.las"), tmp_path / "out.las"
    target.write_text("precious")
    with pytest.raises(SpecError, match=r"out\.las: already exists.*--overwrite"):
        write_las(source, target, ADDED)
    assert target.read_text() == "precious"
    write_las(source, target, ADDED, overwrite=True)
    np.testing.assert_array_equal(everything(target)["prediction"], PREDICTION)


@pytest.mark.parametrize("link", [False, True], ids=["same path", "link"])
def test_the_input_is_never_written_to(link, tmp_path):
    source = target = make_las(tmp_path / "in.las")
    original = source.read_bytes()
    if link:
        target = tmp_path / "link.las"
        target.symlink_to(source)
    with pytest.raises(SpecError, match="is the input itself"):
        write_las(source, target, ADDED, overwrite=True)
    assert source.read_bytes() == original


class Stop(Exception):
    pass


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_nothing(error, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr("vl3d_lite.clouds.points.LAS_CHUNK", 50)
    monkeypatch.setattr("vl3d_lite.clouds.points.LAZ_CHUNK", 50)
    source, target = make_las(tmp_path / f"in.{suffix}"), tmp_path / f"out.{suffix}"
    target.write_text("precious")
    seen = []

    def interrupted(start, stop):
        seen.extend(os.listdir(tmp_path))
        if start >= 100:
            raise error
        return PREDICTION[start:stop]

    expected = ResourceError if error is MemoryError else error
    with pytest.raises(expected):
        write_las(source, target, {"prediction": (interrupted, "u2")}, overwrite=True)
    assert any(name.endswith(f".part-out.{suffix}") for name in seen)
    assert sorted(os.listdir(tmp_path)) == sorted([source.name, target.name])
    assert target.read_text() == "precious"


def test_a_broken_input_leaves_no_output(tmp_path):
    source = make_las(tmp_path / "in.laz", "1.2", 3, count=3000)
    data = bytearray(source.read_bytes())
    start = int.from_bytes(data[96:100], "little")
    table = int.from_bytes(data[start : start + 8], "little")
    data[table + 8 :] = b"\xff" * (len(data) - table - 8)
    source.write_bytes(bytes(data))
    with pytest.raises(DataError, match="points cannot be read"):
        write_las(source, tmp_path / "out.laz", {})
    assert os.listdir(tmp_path) == ["in.laz"]


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_full_disk_is_an_error_and_leaves_nothing(suffix, tmp_path):
    source = make_las(tmp_path / f"in.{suffix}", count=20_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ResourceError, match=rf"out\.{suffix}: cannot be written"):
            write_las(source, tmp_path / f"out.{suffix}", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == [source.name]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or write elsewhere"),
        (errno.EACCES, "check the folder's permissions"),
        (errno.EROFS, "check the folder's permissions"),
    ],
)
def test_an_output_that_cannot_be_written_names_the_remedy(
    number, remedy, tmp_path, monkeypatch
):
    source = make_las(tmp_path / "in.las")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(ResourceError, match=remedy) as caught:
        write_las(source, tmp_path / "out.las", {})
    assert os.strerror(number) in str(caught.value)
    assert os.listdir(tmp_path) == ["in.las"]


def test_a_missing_folder_is_an_error(tmp_path):
    source = make_las(tmp_path / "in.las")
    with pytest.raises(ResourceError, match="create the folder first"):
        write_las(source, tmp_path / "none" / "out.las", {})
    with pytest.raises(ResourceError, match="cannot be written"):
        write_las(source, source / "out.las", {})


def test_too_many_dimensions_for_a_record_are_refused(tmp_path):
    source = make_las(tmp_path / "in.las")
    many = {f"p{number:03}": (PREDICTION, "u2") for number in range(342)}
    with pytest.raises(DataError, match=r"would need .* write fewer"):
        write_las(source, tmp_path / "out.las", many)
    assert os.listdir(tmp_path) == ["in.las"]


SIGNATURE = Signature("a program 1.0 ö" + "x" * 30, ("mine", 7), b"{}", "who wrote it")


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_signature_names_the_program_and_replaces_an_earlier_one(suffix, tmp_path):
    source, target = make_las(tmp_path / "in.las"), tmp_path / f"out.{suffix}"
    insert_vlr(source, vlr_bytes(b"mine", 7, b"of the last copy"))
    insert_vlr(source, vlr_bytes(b"mine", 8, b"another"))
    write_las(source, target, ADDED, signature=SIGNATURE)
    header, vlrs, _ = split(target)
    assert header[58:90] == b"a program 1.0 ?" + b"x" * 17
    signed = [record for record in vlrs if record[2:18].rstrip(b"\0") == b"mine"]
    assert [record[54:] for record in signed] == [b"another", b"{}"]
    assert signed[1][22:54].rstrip(b"\0") == b"who wrote it"
    np.testing.assert_array_equal(laspy.read(target).prediction, PREDICTION)


def test_a_copy_that_is_refused_before_it_gets_its_name_is_not_there(tmp_path):
    source, seen = make_las(tmp_path / "in.las"), []

    def refuse(draft):
        seen.append(len(laspy.read(draft).points))
        raise DataError("another cloud")

    with pytest.raises(DataError, match="another cloud"):
        write_las(source, tmp_path / "out.las", ADDED, before_rename=refuse)
    assert seen == [COUNT]
    assert os.listdir(tmp_path) == ["in.las"]
