"""The coordinate reference system of a LAS file: its name and its unit."""

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.errors import DataError

if TYPE_CHECKING:
    import pyproj

WKT = ("LASF_Projection", 2112)
GEO_KEYS = ("LASF_Projection", 34735)
GEOTIFF = tuple(("LASF_Projection", number) for number in (34735, 34736, 34737))
# Keys of the GeoTIFF standard.
PROJECTED, GEOGRAPHIC, PROJECTED_UNIT, PROJECTED_UNIT_SIZE = 3072, 2048, 3076, 3077
MODEL, VERTICAL, VERTICAL_UNIT = 1024, 4096, 4099
LEAST_SPACING = 1e-4  # file units; no scan in meters or feet is that dense
NOT_PLANAR = (2, 3)  # models: geographic, geocentric
OWN_UNIT = 32767  # user-defined: PROJECTED_UNIT_SIZE holds its size
DOUBLES = ("LASF_Projection", 34736)

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
    """

    name: str = ""
    horizontal: float = 1.0
    vertical: float = 1.0
    planar: bool = True


def meters_per_unit(header: FileHeader) -> np.ndarray:
    """Meters in one unit of x, y and z, ``(3,)`` float64.

    Raises:
        DataError: The coordinates are degrees or geocentric, or their unit is
            unknown.
    """
    crs = read_crs(header)
    reason = "" if crs.planar else crs.name
    if not crs.name and _spacing(header) < LEAST_SPACING:
        reason = (
            "the file names no reference system, and in meters the spacing of points "
            f"would be {_spacing(header) * 1000:.2g} mm: they are degrees"
        )
    if reason:
        raise DataError(
            f"{header.path}: the coordinates are not meters or feet on a plane "
            f"({reason}). Reproject the file, for example: pdal translate in.laz "
            "out.laz reprojection --filters.reprojection.out_srs=EPSG:<projected CRS>"
        )
    return np.array([crs.horizontal, crs.horizontal, crs.vertical])


def _spacing(header: FileHeader) -> float:
    """Mean horizontal spacing of points from the header, in file units."""
    low, high = header.extent[:, :2]
    sides = np.where(high > low, high - low, np.inf)
    return float(np.sqrt(np.prod(sides) / max(header.point_count, 1)))


def read_crs(header: FileHeader) -> Crs:
    """Read the reference system of a file from its WKT or GeoTIFF records.

    A file without one, or with one that cannot be parsed, is assumed to be in meters;
    a warning is logged for the latter.
    """
    keys = geo_keys(header)
    system = parse_crs(header)
    if system is None:
        if keys.get(MODEL) in NOT_PLANAR and PROJECTED not in keys:
            return Crs("GeoTIFF keys without a projected system", planar=False)
        return Crs("", *_key_units(header, keys, 1.0, None))
    if system.is_geographic or system.is_geocentric:
        return Crs(system.name, planar=False)
    horizontal, vertical = _units(system)
    if header.find(WKT) is None:
        horizontal, vertical = _key_units(header, keys, horizontal, vertical)
    return Crs(system.name, horizontal, horizontal if vertical is None else vertical)


def keys_as_wkt(header: FileHeader) -> bytes | None:
    """Convert the GeoTIFF keys of a file to the data of a WKT record.

    None where they cannot be parsed, or name other units than their system.
    """
    system = parse_crs(header)
    if system is None:
        return None
    units = _units(system)
    if _key_units(header, geo_keys(header), *units) != _key_units(header, {}, *units):
        return None
    # LAS 1.4 requires WKT 1; a system that needs WKT 2 keeps it.
    return (system.to_wkt("WKT1_GDAL") or system.to_wkt()).encode() + b"\0"


def parse_crs(header: FileHeader) -> "pyproj.CRS | None":
    """Parse the reference system with pyproj; WKT takes precedence over GeoTIFF keys.

    None where the file has none or it cannot be parsed; a warning is logged for the
    latter.
    """
    if header.find(WKT) is None and header.find(GEO_KEYS) is None:
        return None
    import pyproj

    errors = []
    for source in (_from_wkt, _from_keys):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                system = source(header)
        except (pyproj.exceptions.CRSError, UnicodeDecodeError) as error:
            errors.append(str(error).splitlines()[0])
        else:
            if system is not None:
                return system
    if errors:
        logger.warning(
            "%s: the coordinate reference system cannot be parsed (%s); "
            "coordinates are assumed to be meters.",
            header.path,
            errors[0],
        )
    return None


def geo_keys(header: FileHeader) -> dict[int, float]:
    """The GeoTIFF keys of a file with a single number, integer or double."""
    data, doubles = header.data(GEO_KEYS) or b"", header.data(DOUBLES) or b""
    keys = np.frombuffer(data[: len(data) // 8 * 8], "<u2").reshape(-1, 4)[1:].tolist()
    sizes = np.frombuffer(doubles[: len(doubles) // 8 * 8], "<f8").tolist()
    found: dict[int, float] = {key: value for key, tag, _, value in keys if not tag}
    for key, tag, count, index in keys:
        if tag == DOUBLES[1] and count == 1 and index < len(sizes):
            found[key] = sizes[index]
    return found


def _from_wkt(header: FileHeader) -> "pyproj.CRS | None":
    import pyproj

    text = (header.data(WKT) or b"").split(b"\0")[0].decode().strip()
    return pyproj.CRS.from_wkt(text) if text else None


def _from_keys(header: FileHeader) -> "pyproj.CRS | None":
    import pyproj

    keys = geo_keys(header)
    # Codes of the EPSG; 32767 is user-defined.
    code = next(
        (
            int(keys[key])
            for key in (PROJECTED, GEOGRAPHIC)
            if 1024 <= keys.get(key, 0) <= 32766
        ),
        None,
    )
    if code is None:
        return None
    system = pyproj.CRS.from_epsg(code)
    if not 1024 <= keys.get(VERTICAL, 0) <= 32766:
        return system
    try:
        height = pyproj.CRS.from_epsg(int(keys[VERTICAL]))
        return pyproj.crs.CompoundCRS(
            f"{system.name} + {height.name}", [system, height]
        )
    except pyproj.exceptions.CRSError:
        return system


def _units(system: "pyproj.CRS") -> tuple[float, float | None]:
    """Meters in one unit of x and y, and of z where the system has a vertical axis."""
    axes = system.axis_info
    horizontal = axes[0].unit_conversion_factor if axes else 1.0
    vertical = axes[2].unit_conversion_factor if len(axes) > 2 else None
    return horizontal or 1.0, vertical or None


def _key_units(
    header: FileHeader,
    keys: dict[int, float],
    horizontal: float,
    vertical: float | None,
) -> tuple[float, float]:
    """Units that GeoTIFF keys name take precedence over those of the system."""
    size = keys.get(PROJECTED_UNIT_SIZE)
    if keys.get(PROJECTED_UNIT):
        horizontal = _linear_unit(header, int(keys[PROJECTED_UNIT]), size)
    if keys.get(VERTICAL_UNIT):
        vertical = _linear_unit(header, int(keys[VERTICAL_UNIT]), None)
    return horizontal, horizontal if vertical is None else vertical


def _linear_unit(header: FileHeader, code: int, size: float | None) -> float:
    """Meters in the unit of length with this EPSG code."""
    from pyproj.database import get_units_map

    known = get_units_map(auth_name="EPSG", category="linear").values()
    factors = {int(unit.code): unit.conv_factor for unit in known}
    factor = size if code == OWN_UNIT else factors.get(code)
    if not factor or not np.isfinite(factor) or factor < 0:
        raise DataError(
            f"{header.path}: its GeoTIFF keys name an unknown unit of "
            f"length (code {code}). Reproject the file to meters, or correct its CRS"
        )
    return factor
