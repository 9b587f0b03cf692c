"""The coordinate reference system of a LAS file: its name and its unit."""

import functools
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.clouds.crs_records import (
    GEO_KEYS,
    PROJECTED_UNIT,
    VERTICAL_UNIT,
    WKT,
    WKT2,
    CrsError,
    citation,
    geo_keys,
    is_not_planar,
    is_projected,
    key_system,
    key_units,
    system_units,
    wkt_system,
)
from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.clouds.units import UNITS, same_unit, units_text
from vl3d_lite.errors import DataError

if TYPE_CHECKING:
    import pyproj

LEAST_SPACING = 1e-4  # file units; few scans in meters or feet are that dense
WKT_BIT = 1 << 4  # of the global encoding, from LAS 1.4 on
FIRST_WKT_FORMAT = 6  # point formats that allow no GeoTIFF keys
FIRST_WKT_VERSION = (1, 4)
MOST_TOLD = 4096  # messages that are remembered, so that none is repeated

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crs:
    """The coordinate reference system of a file.

    Args:
        name: Name of the system; empty where the file has none.
        horizontal: Meters in one unit of x and y.
        vertical: Meters in one unit of z.
        planar: False for degrees and geocentric coordinates; units are then
            undefined.
        system: What pyproj made of the record; None where no code or text names
            the system.
        names_height: Whether the record names the unit of z; where it does not, z
            follows x and y.
    """

    name: str = ""
    horizontal: float = 1.0
    vertical: float = 1.0
    planar: bool = True
    system: "pyproj.CRS | None" = field(default=None, compare=False, repr=False)
    names_height: bool = field(default=False, compare=False, repr=False)

    @property
    def plane(self) -> str:
        """Code of the horizontal system, or else its name; empty without one."""
        if self.system is None:
            return self.name
        plane = next(iter(self.system.sub_crs_list), self.system)
        code = plane.to_authority(min_confidence=60)
        return ":".join(code) if code else plane.name

    @property
    def units(self) -> str:
        """Units of the axes, such as "us-ft" or "m, heights in ft"."""
        if not self.planar:
            return "degrees or geocentric"
        return units_text(self.horizontal, self.vertical)


def meters_per_unit(header: FileHeader, unit: str | None = None) -> np.ndarray:
    """Meters in one unit of x, y and z, ``(3,)`` float64.

    Args:
        header: The header of the file.
        unit: A name of `UNITS`, which replaces the unit of the file.

    Raises:
        DataError: The coordinates are degrees or geocentric, or their unit is
            unknown.
    """
    return factors(read_crs(header, unit), header, unit)


def factors(crs: Crs, header: FileHeader, unit: str | None = None) -> np.ndarray:
    """`meters_per_unit` of a system that `read_crs` has read."""
    if not crs.planar:
        raise DataError(
            f"{header.path}: the coordinates are not meters or feet on a plane "
            f"({crs.name}). Reproject the file, for example: pdal translate in.laz "
            "out.laz reprojection --filters.reprojection.out_srs=EPSG:<projected CRS>. "
            "If its coordinates are lengths all the same, name their unit with "
            f"`clouds.unit`: {_choices()}"
        )
    if unit is None and not crs.name and _spacing(header) < LEAST_SPACING:
        raise DataError(
            f"{header.path}: the file names no reference system, and in meters the "
            f"spacing of points would be {_spacing(header) * 1000:.2g} mm. Either the "
            "coordinates are degrees: reproject the file, for example: pdal translate "
            "in.laz out.laz reprojection --filters.reprojection.in_srs=EPSG:4326 "
            "--filters.reprojection.out_srs=EPSG:<projected CRS>. Or it is a scan at "
            f"close range: name its unit with `clouds.unit`: {_choices()}"
        )
    return np.array([crs.horizontal, crs.horizontal, crs.vertical])


def _choices() -> str:
    return " | ".join(UNITS)


def _spacing(header: FileHeader) -> float:
    """Mean horizontal spacing of points from the header, in file units."""
    low, high = header.extent[:, :2]
    sides = np.where(high > low, high - low, np.inf)
    return float(np.sqrt(np.prod(sides) / max(header.point_count, 1)))


def read_crs(header: FileHeader, unit: str | None = None) -> Crs:
    """Read the reference system of a file from its WKT and GeoTIFF records.

    A file without one, or with one that cannot be parsed, is assumed to be in meters;
    a warning is logged for the latter, and where two records contradict each other
    or `unit` contradicts them. Each warning is logged once.

    Args:
        header: The header of the file.
        unit: A name of `UNITS`, which replaces the unit of the file.

    Raises:
        DataError: The unit of the file is unknown, and `unit` is None.
    """
    if unit is None:
        return _recorded(header)
    if unit not in UNITS:
        raise DataError(f"unit of length `{unit}` is unknown; use {_choices()}")
    size = UNITS[unit]
    try:
        found = _recorded(header)
    except DataError:  # an unknown unit, which `unit` replaces
        found = Crs()
    agrees = same_unit(found.horizontal, size) and same_unit(found.vertical, size)
    if found.name and not (found.planar and agrees):
        _tell(
            f"{header.path}: `clouds.unit: {unit}` takes the place of the unit of its "
            f"reference system, {found.name} ({found.units}). Remove `clouds.unit` "
            "where the file is right"
        )
    return replace(found, horizontal=size, vertical=size, planar=True)


def keys_govern(header: FileHeader) -> bool:
    """Whether GeoTIFF keys go before WKT.

    Point formats from 6 on allow WKT alone. In others WKT holds from LAS 1.4 on where
    the WKT bit is set; a file that has keys alone, or WKT alone, has what it has.
    """
    if header.point_format >= FIRST_WKT_FORMAT:
        return False
    by_bit = header.version >= FIRST_WKT_VERSION and header.raw[6] & WKT_BIT
    return not by_bit


def contradicting_keys(header: FileHeader) -> bool:
    """Whether GeoTIFF keys govern and WKT beside them differs."""
    if not keys_govern(header):
        return False
    found = list(_all_records(header, warn=False).items())
    return len(found) > 1 and any(_differs(found[0][1], crs) for _, crs in found[1:])


def _recorded(header: FileHeader) -> Crs:
    """The system of the record that holds; warns where another contradicts it."""
    found = list(_all_records(header).items())
    if not found:
        return Crs()
    record, crs = found[0]
    for other, beside in found[1:]:
        if not crs.names_height and beside.names_height and beside.planar:
            # Keys seldom name the vertical unit that WKT beside them has.
            crs = replace(crs, vertical=beside.vertical, names_height=True)
        if _differs(crs, beside):
            _tell(
                f"{header.path}: its {record} names {crs.name or 'no system'} "
                f"({crs.units}) and its {other} {beside.name or 'no system'} "
                f"({beside.units}). The {record} holds, by the point format "
                "and the WKT bit of the header. Correct the file, or set `clouds.unit`"
            )
    return crs


def _all_records(header: FileHeader, *, warn: bool = True) -> dict[str, Crs]:
    """The system of each record that has one, the one that holds first."""
    readers = {
        "WKT": lambda: _wkt_crs(header, WKT),
        "WKT2": lambda: _wkt_crs(header, WKT2),
        "GeoTIFF keys": lambda: _key_crs(header),
    }
    order = ["WKT", "WKT2", "GeoTIFF keys"]
    if keys_govern(header):
        order = [*order[2:], *order[:2]]
    found, errors = {}, []
    for name in order:
        try:
            crs = readers[name]()
        except CrsError as error:
            errors.append(f"{name}: {error}")
        else:
            if crs is not None:
                found[name] = crs
    if errors and warn:
        used = f"the {next(iter(found))} are used" if found else ""
        _tell(
            f"{header.path}: the coordinate reference system cannot be parsed "
            f"({errors[0]}); {used or 'coordinates are assumed to be meters'}. "
            "Where that is wrong, set `clouds.unit`"
        )
    return found


def _wkt_crs(header: FileHeader, key: tuple[str, int]) -> Crs | None:
    system = wkt_system(header, key) if header.find(key) else None
    return None if system is None else _crs_of(system)


def _key_crs(header: FileHeader) -> Crs | None:
    if header.find(GEO_KEYS) is None:
        return None
    keys = geo_keys(header)
    try:
        system = key_system(keys)
    except CrsError as error:
        if not keys.get(PROJECTED_UNIT):
            raise
        _tell(
            f"{header.path}: the coordinate reference system cannot be parsed "
            f"({error}); the unit of its GeoTIFF keys is used"
        )
        system = None
    if system is None and is_not_planar(keys):
        return Crs("GeoTIFF keys without a projected system", planar=False)
    if system is None and not is_projected(keys) and not keys.get(VERTICAL_UNIT):
        return None
    crs = _own_projection(header, keys) if system is None else _crs_of(system)
    if not crs.planar:
        return crs
    vertical = crs.vertical if crs.names_height else None
    units = key_units(header, keys, crs.horizontal, vertical)
    named = crs.names_height or bool(keys.get(VERTICAL_UNIT))
    return replace(crs, horizontal=units[0], vertical=units[1], names_height=named)


def _own_projection(header: FileHeader, keys: dict[int, float]) -> Crs:
    """The system of keys that name no code of a projection, in meters."""
    if not is_projected(keys):
        return Crs()
    name = citation(header) or "user-defined projection"
    if not keys.get(PROJECTED_UNIT):
        _tell(
            f"{header.path}: its GeoTIFF keys define a projection ({name}) without a "
            "unit; coordinates are assumed to be meters. Where that is wrong, set "
            "`clouds.unit`"
        )
    return Crs(name)


def _crs_of(system: "pyproj.CRS") -> Crs:
    if system.is_geographic or system.is_geocentric:
        return Crs(system.name, planar=False, system=system)
    horizontal, vertical = system_units(system)
    return Crs(
        system.name,
        horizontal,
        horizontal if vertical is None else vertical,
        system=system,
        names_height=vertical is not None,
    )


def _differs(one: Crs, other: Crs) -> bool:
    """Whether two records of a file contradict each other in what changes points."""
    if one.planar != other.planar:
        return True
    if not one.planar:
        return False
    same = same_unit(one.horizontal, other.horizontal)
    if one.names_height and other.names_height:
        same &= same_unit(one.vertical, other.vertical)
    return not same or (
        one.system is not None and other.system is not None and one.plane != other.plane
    )


@functools.lru_cache(maxsize=MOST_TOLD)
def _tell(message: str) -> None:
    """Warn, but not again for the same file: a command reads a header many times."""
    logger.warning("%s", message)
