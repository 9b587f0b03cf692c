import logging
import re

import laspy
import numpy as np
import pyproj
import pytest

from tests.clouds.las_files import append_evlr, insert_vlr, make_las, patch, vlr_bytes
from vl3d_lite.clouds.crs import meters_per_unit, read_crs
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.errors import DataError

FOOT, US_FOOT = 0.3048, 1200 / 3937


def geo_keys(*pairs):
    """A GeoTIFF key directory of short values."""
    rows = [(1, 1, 0, len(pairs)), *((key, 0, 1, value) for key, value in pairs)]
    return vlr_bytes(b"LASF_Projection", 34735, np.array(rows, "<u2").tobytes())


def factors(path):
    return meters_per_unit(read_header(path)).tolist()


@pytest.fixture
def las(tmp_path):
    return make_las(tmp_path / "town.las", "1.4", 6)


@pytest.fixture
def old_las(tmp_path):
    return make_las(tmp_path / "old.las", "1.2", 3)


def wkt_record(crs):
    return vlr_bytes(b"LASF_Projection", 2112, crs.to_wkt().encode() + b"\0")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("EPSG:2154", [1, 1, 1]),
        ("EPSG:2222", [FOOT] * 3),  # Arizona East, international feet
        ("EPSG:2261", [US_FOOT] * 3),  # New York Central, US survey feet
        ("EPSG:2263+6360", [US_FOOT] * 3),  # heights in US survey feet
        ("EPSG:2263+5703", [US_FOOT, US_FOOT, 1]),  # heights in meters
        ("EPSG:32618+8228", [1, 1, FOOT]),  # meters, heights in feet
    ],
)
def test_wkt_gives_the_units_of_plane_and_height(code, expected, las):
    insert_vlr(las, wkt_record(pyproj.CRS(code)))
    np.testing.assert_allclose(factors(las), expected, rtol=1e-12)


def test_wkt_in_an_extended_record_counts(las):
    text = pyproj.CRS("EPSG:2261").to_wkt().encode()
    append_evlr(las, vlr_bytes(b"LASF_Projection", 2112, text, extended=True))
    np.testing.assert_allclose(factors(las), [US_FOOT] * 3, rtol=1e-12)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(1024, 1), (3072, 2154)], [1, 1, 1]),
        ([(1024, 1), (3072, 2261)], [US_FOOT] * 3),
        ([(3072, 2261), (4096, 5703)], [US_FOOT, US_FOOT, 1]),
        ([(3072, 2261), (4099, 9001)], [US_FOOT, US_FOOT, 1]),
        ([(3072, 32767), (3076, 9002)], [FOOT] * 3),
        ([(3072, 32767), (3076, 9003), (4099, 9002)], [US_FOOT, US_FOOT, FOOT]),
        ([(3072, 32767), (3076, 9005)], [0.3047972654] * 3),
        ([(3076, 9036)], [1000] * 3),
        ([(3076, 9001)], [1, 1, 1]),
        ([], [1, 1, 1]),
    ],
)
def test_geotiff_keys_give_the_unit(pairs, expected, old_las):
    insert_vlr(old_las, geo_keys(*pairs))
    np.testing.assert_allclose(factors(old_las), expected, rtol=1e-12)


def test_a_unit_of_the_files_own_has_the_size_it_gives(old_las):
    keys = [1, 1, 0, 2, 3076, 0, 1, 32767, 3077, 34736, 1, 1]
    directory = np.array(keys, "<u2").tobytes()
    insert_vlr(old_las, vlr_bytes(b"LASF_Projection", 34735, directory))
    doubles = np.array([7.0, 0.25]).tobytes()
    insert_vlr(old_las, vlr_bytes(b"LASF_Projection", 34736, doubles))
    np.testing.assert_allclose(factors(old_las), [0.25] * 3)


@pytest.mark.parametrize(
    "pairs",
    [[(3076, 32767)], [(3076, 9102)], [(4099, 32767)], [(3072, 2261), (4099, 1)]],
)
def test_a_unit_nobody_knows_is_refused(pairs, old_las):
    insert_vlr(old_las, geo_keys(*pairs))
    with pytest.raises(DataError, match=r"unit of length \(code .*Reproject"):
        factors(old_las)


def test_a_file_without_a_system_is_in_meters(las):
    crs = read_crs(read_header(las))
    assert (crs.name, crs.horizontal, crs.vertical, crs.planar) == ("", 1, 1, True)


def test_the_system_is_named(tmp_path):
    path = make_las(tmp_path / "a.las", crs=pyproj.CRS("EPSG:25832"))
    assert read_crs(read_header(path)).name == "ETRS89 / UTM zone 32N"


@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:4979", "EPSG:4978"])
def test_coordinates_that_are_not_planar_are_refused(code, las):
    insert_vlr(las, wkt_record(pyproj.CRS(code)))
    with pytest.raises(DataError, match=r"town\.las: the coordinates are not .*Reproj"):
        read_las(las)


@pytest.mark.parametrize(
    "pairs", [[(1024, 2), (2048, 4326)], [(1024, 2)], [(2048, 4269)]]
)
def test_geotiff_keys_of_degrees_are_refused(pairs, old_las):
    insert_vlr(old_las, geo_keys(*pairs))
    with pytest.raises(DataError, match="not meters or feet on a plane"):
        read_las(old_las)


BROKEN = {
    "no WKT": vlr_bytes(b"LASF_Projection", 2112, b"PROJCS[oops"),
    "no text": vlr_bytes(b"LASF_Projection", 2112, b"\xff\xfe\x80"),
    "no such code": geo_keys((3072, 1999)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_invalid_system_is_logged_and_meters_are_assumed(what, las, caplog):
    insert_vlr(las, BROKEN[what])
    with caplog.at_level(logging.WARNING):
        assert factors(las) == [1, 1, 1]
    assert "assumed to be meters" in caplog.text
    assert "town.las" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\1\0", b"\1\0\1\0\0\0\7\0", b"x" * 37])
def test_a_broken_directory_of_keys_is_harmless(data, las):
    insert_vlr(las, vlr_bytes(b"LASF_Projection", 34735, data))
    assert factors(las) == [1, 1, 1]


def test_geotiff_keys_replace_invalid_wkt(las):
    insert_vlr(las, geo_keys((3072, 2261)))
    insert_vlr(las, BROKEN["no WKT"])
    np.testing.assert_allclose(factors(las)[0], US_FOOT, rtol=1e-12)


def test_wkt_goes_before_geotiff_keys(las):
    insert_vlr(las, geo_keys((3072, 2261), (3076, 9003)))
    insert_vlr(las, wkt_record(pyproj.CRS("EPSG:2154")))
    assert factors(las) == [1, 1, 1]
    assert read_crs(read_header(las)).name == "RGF93 v1 / Lambert-93"


def test_feet_are_read_as_meters(las):
    insert_vlr(las, wkt_record(pyproj.CRS("EPSG:2263+5703")))
    cloud, raw = read_las(las), laspy.read(las)
    for axis, unit in enumerate([US_FOOT, US_FOOT, 1.0]):
        steps = np.array(raw.points["XYZ"[axis]], np.float64)
        scale, offset = raw.header.scales[axis], raw.header.offsets[axis]
        for i in range(0, len(cloud), 41):
            local = (steps[i] - steps.min()) * scale * unit
            np.testing.assert_allclose(cloud.local[i, axis], local, rtol=1e-14)
            world = (steps[i] * scale + offset) * unit
            np.testing.assert_allclose(cloud.xyz[i, axis], world, rtol=1e-14)


@pytest.mark.parametrize("step", [3e-6, 4e-5], ids=["dense", "sparse"])
def test_degrees_that_no_record_names_are_seen_by_their_spacing(step, tmp_path):
    las = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    las.header.scales = [1e-7, 1e-7, 0.01]
    places = np.random.default_rng(0).uniform(0, 30 * step, (900, 2))
    las.x, las.y = 2 + places[:, 0], 48 + places[:, 1]
    las.z = np.zeros(900)
    las.write(tmp_path / "town.laz")
    with pytest.raises(DataError, match=r"mm\. Either .*degrees.*`clouds\.unit`: m \|"):
        factors(tmp_path / "town.laz")


def test_a_dense_local_scan_is_assumed_to_be_in_meters(tmp_path):
    las = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    las.header.scales = [1e-4] * 3
    las.xyz = np.random.default_rng(0).uniform(0, 0.03, (900, 3))
    las.write(tmp_path / "leaf.laz")
    assert factors(tmp_path / "leaf.laz") == [1, 1, 1]


def test_a_dense_scan_is_read_in_the_unit_that_the_spec_names(tmp_path):
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales = [1e-6] * 3
    las = laspy.LasData(header)
    las.xyz = np.random.default_rng(0).uniform(0, 0.002, (900, 3))
    las.write(tmp_path / "leaf.laz")
    with pytest.raises(DataError, match=r"close range.*`clouds\.unit`: m \| ft"):
        read_las(tmp_path / "leaf.laz")
    for unit, size in {"m": 1, "mm": 0.001, "us-ft": US_FOOT}.items():
        cloud = read_las(tmp_path / "leaf.laz", unit=unit)
        np.testing.assert_allclose(np.ptp(cloud.local, axis=0), 0.002 * size, rtol=0.05)
        coordinates = cloud.frame.coordinates(cloud.local)
        np.testing.assert_allclose(coordinates, las.xyz, atol=1e-9)
        assert (cloud.frame.units, cloud.crs) == (unit, "")


def test_the_unit_of_the_spec_goes_before_that_of_the_file(las, caplog):
    insert_vlr(las, wkt_record(pyproj.CRS("EPSG:2263+5703")))
    header = read_header(las)
    assert meters_per_unit(header, "ft").tolist() == [FOOT] * 3
    reported = r"`clouds.unit: ft` takes the place .*New York.*(us-ft, heights in m)"
    assert re.search(reported, caplog.text)
    caplog.clear()
    assert meters_per_unit(header, "ft").tolist() == [FOOT] * 3
    assert not caplog.text, "each warning is logged once"
    with pytest.raises(DataError, match=r"`yd` is unknown; use m \| ft"):
        meters_per_unit(header, "yd")


@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:4978"])
def test_lengths_in_a_file_that_claims_degrees_are_read_by_the_unit(code, las):
    insert_vlr(las, wkt_record(pyproj.CRS(code)))
    with pytest.raises(DataError, match=r"name their unit with `clouds\.unit`"):
        factors(las)
    assert meters_per_unit(read_header(las), "m").tolist() == [1, 1, 1]


def test_an_unknown_unit_is_replaced_by_the_unit_of_the_spec(old_las):
    insert_vlr(old_las, geo_keys((3076, 9102)))
    assert meters_per_unit(read_header(old_las), "cm").tolist() == [0.01] * 3


def citation_keys(*pairs, text):
    """A key directory whose citation, key 3073, stands in the record of texts."""
    rows = [(1, 1, 0, len(pairs) + 1), *((key, 0, 1, value) for key, value in pairs)]
    rows.append((3073, 34737, len(text), 0))
    directory = np.array(sorted(rows[1:]), "<u2")
    data = np.concatenate([[rows[0]], directory]).astype("<u2").tobytes()
    return data, text.encode()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # Autzen and others: a projection of one's own on the datum 4269.
        (
            [(1024, 1), (2048, 4269), (3072, 32767), (3074, 32767), (3075, 8)],
            [1, 1, 1],
        ),
        (
            [(1024, 1), (2048, 4269), (3072, 32767), (3076, 9003), (4099, 9003)],
            [US_FOOT] * 3,
        ),
        ([(1024, 1), (2048, 4269), (3076, 9002)], [FOOT] * 3),
        ([(2048, 4269), (3072, 32767), (3076, 9002)], [FOOT] * 3),
        ([(2048, 4269), (3076, 9001)], [1, 1, 1]),
        ([(1024, 1), (2048, 4269)], [1, 1, 1]),
    ],
)
def test_a_projection_without_a_code_is_planar(pairs, expected, old_las, caplog):
    insert_vlr(old_las, geo_keys(*pairs))
    np.testing.assert_allclose(factors(old_las), expected, rtol=1e-12)
    crs = read_crs(read_header(old_las))
    assert (crs.name, crs.planar) == ("user-defined projection", True)
    named = any(key == 3076 for key, _ in pairs)
    assert ("without a unit" in caplog.text) == (not named)


def test_a_projection_without_a_code_has_the_name_of_its_citation(old_las):
    directory, text = citation_keys(
        (1024, 1), (2048, 4269), (3072, 32767), (3076, 9003), text="Oregon Lambert|"
    )
    insert_vlr(old_las, vlr_bytes(b"LASF_Projection", 34735, directory))
    insert_vlr(old_las, vlr_bytes(b"LASF_Projection", 34737, text))
    crs = read_crs(read_header(old_las))
    assert (crs.name, crs.units) == ("Oregon Lambert", "us-ft")


def wkt2_record(crs):
    text = crs.to_wkt("WKT2_2019").encode() + b"\0"
    return vlr_bytes(b"LASF_Projection", 4224, text)


def test_the_record_of_wkt_2_counts(las, caplog):
    insert_vlr(las, wkt2_record(pyproj.CRS("EPSG:2261")))
    np.testing.assert_allclose(factors(las), [US_FOOT] * 3, rtol=1e-12)
    insert_vlr(las, wkt_record(pyproj.CRS("EPSG:2261")))
    np.testing.assert_allclose(factors(las), [US_FOOT] * 3, rtol=1e-12)
    assert not caplog.text, "both records agree"


@pytest.mark.parametrize(
    ("version", "point_format", "bit", "expected"),
    [
        ("1.4", 6, False, 1),  # these point formats allow WKT alone
        ("1.4", 6, True, 1),
        ("1.4", 3, True, 1),
        ("1.4", 3, False, US_FOOT),
        ("1.2", 3, False, US_FOOT),
        ("1.2", 3, True, US_FOOT),  # the bit means nothing before LAS 1.4
    ],
)
def test_the_wkt_bit_decides_between_wkt_and_keys(
    version, point_format, bit, expected, tmp_path, caplog
):
    path = make_las(tmp_path / "both.las", version, point_format)
    insert_vlr(path, geo_keys((3072, 2261), (3076, 9003)))
    insert_vlr(path, wkt_record(pyproj.CRS("EPSG:2154")))
    patch(path, 6, "<B", 0x10 if bit else 0)
    np.testing.assert_allclose(factors(path), [expected] * 3, rtol=1e-12)
    names = ["RGF93 v1 / Lambert-93 (m)", "NAD83 / New York Central (ftUS) (us-ft)"]
    assert all(name in caplog.text for name in names)
    holds = "GeoTIFF keys holds" if expected == US_FOOT else "WKT holds"
    assert holds in caplog.text


def test_keys_take_the_vertical_unit_of_wkt_that_agrees_with_them(old_las, caplog):
    insert_vlr(old_las, geo_keys((3072, 2263)))
    insert_vlr(old_las, wkt_record(pyproj.CRS("EPSG:2263+5703")))
    np.testing.assert_allclose(factors(old_las), [US_FOOT, US_FOOT, 1], rtol=1e-12)
    assert not caplog.text


def test_different_zones_of_wkt_and_keys_are_reported(las, caplog):
    insert_vlr(las, geo_keys((3072, 25832)))
    insert_vlr(las, wkt_record(pyproj.CRS("EPSG:25833")))
    assert read_crs(read_header(las)).name == "ETRS89 / UTM zone 33N"
    assert "UTM zone 32N" in caplog.text
