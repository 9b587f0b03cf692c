"""Where clouds lie, and departures from the places of the training."""

import pytest

from tests.dataset.test_domain import as_profile, trained, write_scene
from tests.field_clouds import make_spec
from vl3d_lite.dataset.departures import find_departures
from vl3d_lite.dataset.domain import Domain
from vl3d_lite.dataset.places import Place, joined, place_of

__all__ = ["trained"]


@pytest.fixture(scope="module")
def spec():
    return make_spec(features=["height", "return_ratio", "red", "intensity"])


def at(x, *, system="EPSG:2154", unit=1.0):
    return Place(system=system, unit=unit, low=(x, 0.0), high=(x + 1000.0, 1000.0))


def departures(domain, spec, *, spacing=0.5, **changes):
    profile = as_profile(domain, domain.features)
    profile = profile.model_copy(update={"spacing": spacing, **changes})
    rows = find_departures(domain, profile, spec)
    return [(one.quantity, one.training, one.here) for one in rows]


def test_a_place_is_the_extent_rounded_outwards(tmp_path):
    place = place_of(write_scene(tmp_path / "a.las", density=1.0))
    assert (place.system, place.unit) == ("", 1)
    assert (place.low, place.high) == ((0, 0), (1000, 1000))


def test_near_places_are_one():
    places = joined([at(0.0), at(90_000.0), at(45_000.0), at(500_000.0)])
    assert [(one.low[0], one.high[0]) for one in places] == [
        (0, 91_000),
        (500_000, 501_000),
    ]


@pytest.mark.parametrize(
    ("here", "unit", "expected"),
    [
        (at(40_000.0), 1.0, []),
        (at(61_000.0), 1.0, [("place", "EPSG:2154", "60 km away")]),
        (at(61_000.0, unit=0.3), 1.0, []),
        (at(0.0, system="EPSG:28992"), 1.0, [("place", "EPSG:2154", "EPSG:28992")]),
        (at(0.0, system=""), 1.0, [("place", "EPSG:2154", "no CRS")]),
        (at(0.0), 0.3048, [("unit of x and y", "m", "ft")]),
        (at(900_000.0, system="local"), 1.0, [("place", "EPSG:2154", "local")]),
        (None, 1.0, []),
    ],
)
def test_another_place_system_or_unit_is_reported_in_one_row(
    here, unit, expected, trained, spec
):
    domain = trained.model_copy(update={"places": [at(0.0)], "spacing": (0.5, 0.5)})
    assert departures(domain, spec, place=here, unit=unit) == expected


def test_without_a_reference_system_coordinates_are_compared(trained, spec):
    domain = trained.model_copy(
        update={"places": [at(0.0, system="")], "spacing": (0.5, 0.5)}
    )
    assert departures(domain, spec, place=at(40_000.0, system="")) == []
    far = at(901_000.0, system="")
    assert departures(domain, spec, place=far) == [("place", "no CRS", "900 km away")]


def test_spacing_is_reported_where_the_density_fits(trained, spec):
    domain = trained.model_copy(update={"spacing": (0.4, 0.5)})
    expected = [("spacing of cells (m)", "0.4 to 0.5", "1.5")]
    assert departures(domain, spec, spacing=1.5) == expected
    assert (
        departures(domain, spec, spacing=1.5, density=0.1)[0][0]
        == "density (points/m2)"
    )
    assert len(departures(domain, spec, spacing=1.5, density=0.1)) == 1


def test_the_place_is_stored_and_kept_by_ensembles(trained):
    assert trained.places == [
        Place(system="", unit=1.0, low=(0.0, 0.0), high=(1000.0, 1000.0))
    ]
    other = trained.model_copy(update={"places": [at(0.0)]})
    assert len(Domain.union([trained, other]).places) == 2
    unknown = trained.model_copy(update={"places": []})
    assert Domain.union([other, unknown]).places == []
