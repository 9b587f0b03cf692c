"""Clouds of one spec whose reference systems differ."""

from pathlib import Path

import pyproj
import pytest

from vl3d_lite.clouds.crs import Crs
from vl3d_lite.clouds.crs_comparison import differing_systems
from vl3d_lite.clouds.crs_records import system_units


def crs_of(code):
    if not code:
        return Crs()
    system = pyproj.CRS(code)
    horizontal, vertical = system_units(system)
    return Crs(system.name, horizontal, vertical or horizontal, system=system)


def difference(*codes):
    return differing_systems({Path(f"{n}.laz"): crs_of(c) for n, c in enumerate(codes)})


@pytest.mark.parametrize(
    ("codes", "what"),
    [
        (["EPSG:25832", "EPSG:25833"], "zone"),
        (["EPSG:32632", "EPSG:25832"], "datum"),
        (["EPSG:2263", "EPSG:2908"], "datum"),
        (["EPSG:32618", "EPSG:2263"], "unit"),
        (["EPSG:2263+5703", "EPSG:2263+6360"], "unit"),
        (["EPSG:25832+7837", "EPSG:25832+5783"], "vertical datum"),
        (["EPSG:2154", ""], "whether they are named"),
        (["EPSG:3942", "EPSG:3949"], "projection"),
    ],
)
def test_what_differs_is_named(codes, what):
    text = difference(*codes)
    assert text.startswith("the clouds have 2 reference systems, which differ in ")
    assert what in text.split(":")[0]
    assert "0.laz" in text
    assert "1.laz" in text


def test_equal_systems_are_no_difference():
    assert difference("EPSG:25832", "EPSG:25832") is None
    assert difference("", "") is None
    # One of them also names a vertical datum, in the same unit.
    assert difference("EPSG:25832", "EPSG:25832+7837") is None
    assert differing_systems({}) is None


def test_the_system_of_most_files_comes_first():
    text = difference("EPSG:25833", *["EPSG:25832"] * 3)
    assert "zone: ETRS89 / UTM zone 32N in m (3 files as 1.laz); ETRS89 / UTM" in text


def test_many_systems_are_counted():
    text = difference(*(f"EPSG:{25828 + n}" for n in range(8)))
    assert "have 8 reference systems" in text
    assert "3 other systems" in text
