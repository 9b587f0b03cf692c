import laspy
import numpy as np
import pyproj
import pytest

from tests.clouds.las_files import (
    everything,
    insert_vlr,
    make_las,
    patch,
    split,
    vlr_bytes,
)
from vl3d_lite.clouds.writing import ExtraDimension, write_las
from vl3d_lite.errors import DataError

COUNT = 257
# What LAS 1.4 names as the successor of each format, and the angle's unit there.
SUCCESSOR = {0: 6, 1: 6, 2: 7, 3: 7, 4: 9, 5: 10}
OLD_FORMATS = [("1.0", 0), ("1.1", 1), ("1.2", 2), ("1.2", 3), ("1.3", 4), ("1.3", 5)]
OLD_FORMATS += [("1.4", f) for f in range(6)]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.las"


def codes(seed=5, high=32):
    return np.random.default_rng(seed).integers(0, high, COUNT)


@pytest.mark.slow
@pytest.mark.parametrize(("version", "point_format"), OLD_FORMATS)
@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_raised_format_keeps_every_value(version, point_format, suffix, tmp_path):
    extra = [{"name": "height", "type": "f4"}]
    source = make_las(tmp_path / "in.las", version, point_format, extra=extra)
    target, log = tmp_path / f"out.{suffix}", []
    written = codes()
    written[3] = 208
    write_las(source, target, {}, classification=written, log=log.append)
    before, after = everything(source), everything(target)
    header = laspy.read(target).header
    assert header.point_format.id == SUCCESSOR[point_format]
    assert str(header.version) == "1.4"
    assert header.global_encoding.wkt
    for name in before.keys() - {"scan_angle_rank", "classification"}:
        np.testing.assert_array_equal(after[name], before[name], name)
    for rank, angle in zip(before["scan_angle_rank"], after["scan_angle"], strict=True):
        assert abs(angle * 0.006 - rank) <= 0.003
    np.testing.assert_array_equal(after["classification"], written)
    for name in after.keys() - before.keys() - {"scan_angle", "gps_time"}:
        assert not after[name].any(), name
    assert any(f"raised to {SUCCESSOR[point_format]}" in line for line in log)


def test_a_raised_format_keeps_counts_by_return(tmp_path, target):
    source = make_las(tmp_path / "in.las", "1.2", 3)
    patch(source, 111, "<5I", 100, 80, 50, 20, 7)
    write_las(source, target, {}, classification=codes() * 8)
    counts = laspy.read(target).header.number_of_points_by_return
    assert counts.tolist() == [100, 80, 50, 20, 7] + [0] * 10
    assert not any(split(target)[0][107:131])  # the old counts, which must be 0


@pytest.mark.parametrize(("version", "point_format"), OLD_FORMATS)
def test_codes_up_to_31_leave_the_format_alone(version, point_format, tmp_path, target):
    source = make_las(tmp_path / "in.las", version, point_format)
    log = []
    write_las(source, target, {}, classification=codes(), log=log.append)
    before, after = everything(source), everything(target)
    assert laspy.read(target).header.point_format.id == point_format
    assert before.keys() == after.keys()
    for name in before.keys() - {"classification"}:
        np.testing.assert_array_equal(after[name], before[name], name)
    np.testing.assert_array_equal(after["classification"], codes())
    assert not any("raised" in line for line in log)


def test_points_whose_code_is_kept_keep_it(tmp_path, target):
    source = make_las(tmp_path / "in.las", point_format=6)
    old = everything(source)["classification"]
    kept = [int(old[0]), int(old[9]), int(old[44])]
    new = codes(high=256)
    write_las(source, target, {}, classification=new, keep_codes=kept)
    result = everything(target)["classification"]
    for was, is_, wanted in zip(old, result, new, strict=True):
        assert is_ == (was if was in kept else wanted)
    assert 3 <= sum(was in kept for was in old) < COUNT


def test_a_high_code_on_kept_points_alone_raises_no_format(tmp_path, target):
    source = make_las(tmp_path / "in.las", "1.2", 1)
    old = everything(source)["classification"]
    new = np.where(old == 7, 208, 2)
    assert 208 in new
    write_las(source, target, {}, classification=new, keep_codes=[7])
    assert laspy.read(target).header.point_format.id == 1
    result = everything(target)["classification"]
    np.testing.assert_array_equal(result, np.where(old == 7, 7, 2))


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_values_may_come_chunk_by_chunk(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr("vl3d_lite.clouds.points.LAS_CHUNK", 100)
    monkeypatch.setattr("vl3d_lite.clouds.points.LAZ_CHUNK", 100)
    source, target = make_las(tmp_path / f"in.{suffix}", "1.2", 3), tmp_path / "o.las"
    new = codes(high=256)
    height = np.random.default_rng(1).normal(size=COUNT).astype(np.float32)
    write_las(
        source,
        target,
        {"height": ExtraDimension(lambda start, stop: height[start:stop], "f4")},
        classification=lambda start, stop: new[start:stop],
    )
    after = everything(target)
    np.testing.assert_array_equal(after["classification"], new)
    np.testing.assert_array_equal(after["height"], height)
    assert laspy.read(target).header.point_format.id == 7


TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def test_every_type_of_extra_dimension_is_written(tmp_path, target):
    source = make_las(tmp_path / "in.las", extra=[{"name": "old", "type": "3i4"}])
    rng = np.random.default_rng(2)
    values = {
        t: rng.normal(size=COUNT).astype(t)
        if t[0] == "f"
        else rng.integers(np.iinfo(t).min, np.iinfo(t).max, COUNT, t, endpoint=True)
        for t in TYPES
    }
    dimensions = {f"new_{t}_": (v, t, f"about {t}") for t, v in values.items()}
    write_las(source, target, dimensions)
    las = laspy.read(target)
    for t, expected in values.items():
        assert las[f"new_{t}_"].dtype == np.dtype(t)
        np.testing.assert_array_equal(las[f"new_{t}_"], expected)
        info = las.point_format.dimension_by_name(f"new_{t}_")
        assert info.description == f"about {t}"
    np.testing.assert_array_equal(las.old, laspy.read(source).old)


EXTRA = [
    {"name": "height", "type": "f4", "description": "above ground"},
    {"name": "prediction", "type": "u1", "description": "of another program"},
    {"name": "reflectance", "type": "i2", "scales": [0.5], "offsets": [3.0]},
]


def test_an_existing_dimension_is_refused(tmp_path, target):
    source = make_las(tmp_path / "in.las", extra=EXTRA)
    with pytest.raises(DataError, match=r"already has a dimension .*--replace"):
        write_las(source, target, {"prediction": (codes(), "u2")})
    assert list(tmp_path.iterdir()) == [source]


def test_an_existing_dimension_is_replaced_on_request(tmp_path, target):
    source = make_las(tmp_path / "in.las", extra=EXTRA)
    new = codes(high=60_000)
    write_las(source, target, {"prediction": (new, "u2", "ours")}, replace=True)
    before, after, las = everything(source), everything(target), laspy.read(target)
    assert before.keys() == after.keys()
    for name in before.keys() - {"prediction"}:
        np.testing.assert_array_equal(after[name], before[name], name)
    np.testing.assert_array_equal(after["prediction"], new)
    assert las.point_format.dimension_by_name("prediction").description == "ours"
    scaled = las.point_format.dimension_by_name("reflectance")
    assert (scaled.scales[0], scaled.offsets[0]) == (0.5, 3.0)


@pytest.mark.parametrize("name", ["predict", "prediction_2"])
def test_a_name_that_begins_as_another_needs_replace(name, tmp_path, target):
    source = make_las(tmp_path / "in.las", extra=EXTRA)
    with pytest.raises(DataError, match="one begins with the name of the other"):
        write_las(source, target, {name: (codes(), "u2")})
    log = []
    write_las(source, target, {name: (codes(), "u2")}, replace=True, log=log.append)
    after = everything(target)
    np.testing.assert_array_equal(after["prediction"], everything(source)["prediction"])
    np.testing.assert_array_equal(after[name], codes())
    assert any("one begins with the name of the other" in line for line in log)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("classification", "is a dimension of the LAS standard"),
        ("X", "is a dimension of the LAS standard"),
        ("z", "is a dimension of the LAS standard"),
        ("p_" + "long" * 10, "expected 1 to 32 ASCII characters"),
        ("p_Gebäude", "expected 1 to 32 ASCII characters"),
        ("", "expected 1 to 32 ASCII characters"),
    ],
)
def test_a_name_that_las_cannot_hold_is_refused(name, problem, tmp_path, target):
    source = make_las(tmp_path / "in.las")
    with pytest.raises(DataError, match=problem):
        write_las(source, target, {name: (codes(), "u2")})


def test_bytes_that_no_record_describes_are_kept(tmp_path, target):
    source = make_las(tmp_path / "in.las", extra=[{"name": "raw", "type": "5u1"}])
    header, vlrs, _ = split(source)
    assert len(vlrs) == 1
    data = bytearray(source.read_bytes())
    start = len(header) + len(vlrs[0])
    data[96:104] = len(header).to_bytes(4, "little") + bytes(4)
    source.write_bytes(bytes(data[: len(header)] + data[start:]))
    assert "ExtraBytes" in everything(source)
    write_las(source, target, {"prediction": (codes(), "u2")})
    before, after = everything(source), everything(target)
    np.testing.assert_array_equal(after["ExtraBytes"], before["ExtraBytes"])
    np.testing.assert_array_equal(after["prediction"], codes())


@pytest.mark.parametrize("value", [-1, 65_536, np.nan])
def test_a_value_that_its_type_cannot_hold_is_refused(value, tmp_path, target):
    source = make_las(tmp_path / "in.las")
    values = codes().astype(float)
    values[200] = value
    with pytest.raises(DataError, match=r"stored as uint16, 0 to 65535\. Received"):
        write_las(source, target, {"prediction": (values, "u2")})
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("value", [-1, 256])
def test_a_code_beyond_a_byte_is_refused(value, tmp_path, target):
    source = make_las(tmp_path / "in.las")
    with pytest.raises(DataError, match="class codes must be 0 to 255"):
        write_las(source, target, {}, classification=np.full(COUNT, value))


@pytest.mark.parametrize("count", [COUNT - 1, 0])
def test_values_of_another_number_are_refused(count, tmp_path, target):
    source = make_las(tmp_path / "in.las")
    with pytest.raises(DataError, match="`prediction` must have one value for each"):
        write_las(source, target, {"prediction": (np.zeros(count), "u2")})
    with pytest.raises(DataError, match="`classification` must have one value"):
        write_las(source, target, {}, classification=np.zeros(count, int))


@pytest.mark.parametrize("code", [25832, 2261])
def test_a_raised_format_holds_its_system_as_wkt(code, tmp_path, target):
    source = make_las(tmp_path / "in.las", "1.2", 3, crs=pyproj.CRS.from_epsg(code))
    insert_vlr(source, vlr_bytes(b"mine", 4, b"kept"))
    log = []
    write_las(source, target, {}, classification=codes() * 8, log=log.append)
    las = laspy.read(target)
    assert las.header.parse_crs().equals(pyproj.CRS.from_epsg(code))
    kinds = [type(v).__name__ for v in las.header.vlrs]
    assert kinds == ["VLR", "WktCoordinateSystemVlr"]
    assert any("GeoTIFF keys become WKT" in line for line in log)


def test_geotiff_keys_that_wkt_would_contradict_stay(tmp_path, target):
    source = make_las(tmp_path / "in.las", "1.2", 3)
    keys = np.array([1, 1, 0, 2, 3072, 0, 1, 2261, 3076, 0, 1, 9001], "<u2").tobytes()
    record = vlr_bytes(b"LASF_Projection", 34735, keys)
    insert_vlr(source, record)
    log = []
    write_las(source, target, {}, classification=codes() * 8, log=log.append)
    assert split(target)[1] == [record]
    assert any("GeoTIFF keys stay" in line for line in log)


@pytest.mark.parametrize(
    ("version", "extra", "high", "what"),
    [
        ("1.4", 65_535 - 30 - 5, False, "a point record would need 65,536 bytes"),
        ("1.2", 65_535 - 20 - 6, True, "a point record would need 65,545 bytes"),
    ],
)
def test_a_cloud_without_room_is_refused(version, extra, high, what, tmp_path, target):
    """Bytes that nothing describes fill the records, as of point format 6 or 0."""
    source = make_las(
        tmp_path / "in.las", version, 6 if version == "1.4" else 0, count=3
    )
    raw, length = source.read_bytes(), 30 if version == "1.4" else 20
    start = int.from_bytes(raw[96:100], "little")
    points = [raw[start + n * length :][:length] + bytes(extra) for n in range(3)]
    header = raw[:105] + (length + extra).to_bytes(2, "little") + raw[107:start]
    source.write_bytes(header + b"".join(points))
    added = {"a": (np.ones(3), "f4"), "b": (np.ones(3), "u2")}
    classification = np.full(3, 64 if high else 2)
    with pytest.raises(DataError, match=what):
        write_las(source, target, added, classification=classification)
    assert not target.exists()
