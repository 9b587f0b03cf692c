"""The records of a LAS file that describe its reference system: WKT and GeoTIFF keys.

Each is read by itself; `vl3d_lite.clouds.crs` decides which of them holds.
"""

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.errors import DataError

if TYPE_CHECKING:
    import pyproj

WKT = ("LASF_Projection", 2112)
WKT2 = ("LASF_Projection", 4224)  # of LAS 1.5
GEO_KEYS = ("LASF_Projection", 34735)
GEOTIFF = tuple(("LASF_Projection", number) for number in (34735, 34736, 34737))
DOUBLES, TEXTS = GEOTIFF[1:]
# Keys of the GeoTIFF standard.
MODEL, CITATION, GEOGRAPHIC = 1024, 1026, 2048
PROJECTED, PROJECTED_CITATION = 3072, 3073
PROJECTED_UNIT, PROJECTED_UNIT_SIZE = 3076, 3077
VERTICAL, VERTICAL_UNIT = 4096, 4099
MODEL_PROJECTED = 1
NOT_PLANAR = (2, 3)  # models: geographic, geocentric
USER_DEFINED = 32767  # a code: other keys hold what it stands for
EPSG_CODES = range(1024, USER_DEFINED)
MOST_SYSTEMS = 64  # that are remembered: the clouds of a survey share one


class CrsError(ValueError):
    """A record that cannot be parsed."""


def wkt_system(header: FileHeader, key: tuple[str, int]) -> "pyproj.CRS | None":
    """The system of a WKT record; None where it is missing or empty.

    Raises:
        CrsError: The record cannot be parsed.
    """
    import pyproj

    try:
        text = (header.data(key) or b"").split(b"\0")[0].decode().strip()
        return _parsed_wkt(text) if text else None
    except (pyproj.exceptions.CRSError, UnicodeDecodeError) as error:
        raise CrsError(str(error).splitlines()[0]) from error


@functools.lru_cache(maxsize=MOST_SYSTEMS)
def _parsed_wkt(text: str) -> "pyproj.CRS":
    import pyproj

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pyproj.CRS.from_wkt(text)


def key_system(keys: dict[int, float]) -> "pyproj.CRS | None":
    """The system that GeoTIFF keys name by codes of the EPSG.

    A datum alone is no system of coordinates on a plane: its code counts only where
    no key marks them as projected.

    Raises:
        CrsError: A code is unknown.
    """
    code = keys.get(PROJECTED, 0)
    if code not in EPSG_CODES and not is_projected(keys):
        code = keys.get(GEOGRAPHIC, 0)
    if code not in EPSG_CODES:
        return None
    return _system_of_codes(int(code), keys.get(VERTICAL, 0))


@functools.lru_cache(maxsize=MOST_SYSTEMS)
def _system_of_codes(code: int, vertical: float) -> "pyproj.CRS":
    """The system of a code, with that of the heights where theirs is one."""
    import pyproj

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            system = pyproj.CRS.from_epsg(code)
        except pyproj.exceptions.CRSError as error:
            raise CrsError(str(error).splitlines()[0]) from error
        if vertical not in EPSG_CODES:
            return system
        try:
            height = pyproj.CRS.from_epsg(int(vertical))
            return pyproj.crs.CompoundCRS(
                f"{system.name} + {height.name}", [system, height]
            )
        except pyproj.exceptions.CRSError:
            return system


def is_projected(keys: dict[int, float]) -> bool:
    """Whether GeoTIFF keys describe a projection, be it one without a code."""
    if PROJECTED in keys and keys[PROJECTED] in EPSG_CODES:
        return True
    if keys.get(MODEL) in NOT_PLANAR:
        return False
    return (
        keys.get(MODEL) == MODEL_PROJECTED
        or keys.get(PROJECTED) == USER_DEFINED
        or bool(keys.get(PROJECTED_UNIT))
    )


def is_not_planar(keys: dict[int, float]) -> bool:
    """Whether GeoTIFF keys describe degrees or geocentric coordinates."""
    if is_projected(keys):
        return False
    return keys.get(MODEL) in NOT_PLANAR or bool(keys.get(GEOGRAPHIC))


def geo_keys(header: FileHeader) -> dict[int, float]:
    """The GeoTIFF keys of a file with a single number, integer or double."""
    doubles = header.data(DOUBLES) or b""
    sizes = np.frombuffer(doubles[: len(doubles) // 8 * 8], "<f8").tolist()
    entries = _entries(header)
    found: dict[int, float] = {key: value for key, tag, _, value in entries if not tag}
    for key, tag, count, index in entries:
        if tag == DOUBLES[1] and count == 1 and index < len(sizes):
            found[key] = sizes[index]
    return found


def citation(header: FileHeader) -> str:
    """The name that GeoTIFF keys give a projection in words, or an empty text."""
    texts = header.data(TEXTS) or b""
    cited = {
        key: texts[start : start + count]
        for key, tag, count, start in _entries(header)
        if tag == TEXTS[1] and key in (PROJECTED_CITATION, CITATION)
    }
    raw = cited.get(PROJECTED_CITATION) or cited.get(CITATION) or b""
    text = raw.split(b"\0")[0].decode("ascii", "replace").strip("| ")
    return "".join(char if char.isprintable() else "?" for char in text)


def _entries(header: FileHeader) -> list[list[int]]:
    """Key, tag, count and value of each entry of the key directory."""
    data = header.data(GEO_KEYS) or b""
    return np.frombuffer(data[: len(data) // 8 * 8], "<u2").reshape(-1, 4)[1:].tolist()


def system_units(system: "pyproj.CRS") -> tuple[float, float | None]:
    """Meters in one unit of x and y, and of z where the system has a vertical axis."""
    axes = system.axis_info
    horizontal = axes[0].unit_conversion_factor if axes else 1.0
    vertical = axes[2].unit_conversion_factor if len(axes) > 2 else None
    return horizontal or 1.0, vertical or None


def key_units(
    header: FileHeader,
    keys: dict[int, float],
    horizontal: float,
    vertical: float | None,
) -> tuple[float, float]:
    """Units that GeoTIFF keys name take precedence over those of the system.

    Raises:
        DataError: A key names an unknown unit.
    """
    size = keys.get(PROJECTED_UNIT_SIZE)
    if keys.get(PROJECTED_UNIT):
        horizontal = _linear_unit(header, int(keys[PROJECTED_UNIT]), size)
    if keys.get(VERTICAL_UNIT):
        vertical = _linear_unit(header, int(keys[VERTICAL_UNIT]), None)
    return horizontal, horizontal if vertical is None else vertical


def _linear_unit(header: FileHeader, code: int, size: float | None) -> float:
    """Meters in the unit of length with this EPSG code."""
    factor = size if code == USER_DEFINED else _linear_units().get(code)
    if not factor or not np.isfinite(factor) or factor < 0:
        raise DataError(
            f"{header.path}: its GeoTIFF keys name an unknown unit of "
            f"length (code {code}). Reproject the file to meters, correct its CRS, or "
            "name its unit with `clouds.unit`"
        )
    return factor


@functools.cache
def _linear_units() -> dict[int, float]:
    """Meters in each unit of length of the EPSG, by its code."""
    from pyproj.database import get_units_map

    known = get_units_map(auth_name="EPSG", category="linear").values()
    return {int(unit.code): unit.conv_factor for unit in known}


def keys_as_wkt(header: FileHeader) -> bytes | None:
    """Convert the GeoTIFF keys of a file to the data of a WKT record.

    None where they cannot be parsed, or name other units than their system.
    """
    keys = geo_keys(header)
    try:
        system = key_system(keys)
    except CrsError:
        return None
    if system is None:
        return None
    units = system_units(system)
    if key_units(header, keys, *units) != key_units(header, {}, *units):
        return None
    # LAS 1.4 requires WKT 1; a system that needs WKT 2 keeps it.
    return (system.to_wkt("WKT1_GDAL") or system.to_wkt()).encode() + b"\0"
