"""Simulate an airborne laser scan of a small town and write three LAZ blocks.

    python data/make_town.py [--output DIR] [--seed N]

``simulator/`` contains the parts: `terrain`, convex `solids`, the `town` made of them,
and the `scanner`, which intersects pulses with solids. Walls, roofs, cars and lamps are
opaque; crowns and hedges are porous, and leaves in them reflect shares of a pulse.
Lengths are in meters, angles in radians, coordinates relative to ``ORIGIN``.
"""

import argparse
import datetime
from pathlib import Path

import laspy
import numpy as np
from laspy.header import GpsTimeType
from laspy.vlrs.known import WktCoordinateSystemVlr
from pyproj import CRS
from simulator.scanner import scan
from simulator.town import Town

ORIGIN = 452_000.0, 5_411_000.0, 0.0
EPSG, SCALE = 32631, 0.01
BLOCKS = {  # west, south, east, north
    "town_train": (0, 0, 150, 160),
    "town_val": (165, 0, 245, 80),
    "town_test": (165, 90, 245, 170),
}
SEED = 7


def write_block(path: Path, points: dict[str, np.ndarray]) -> None:
    """Write LAS 1.4, point format 6; the same points give the same bytes."""
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.creation_date = datetime.date(2024, 10, 1)
    header.system_identifier = "SIMULATED"
    header.generating_software = "vl3d_lite make_town.py"
    header.scales, header.offsets = np.full(3, SCALE), np.array(ORIGIN)
    header.global_encoding.gps_time_type = GpsTimeType.STANDARD
    header.global_encoding.wkt = True
    wkt = CRS.from_epsg(EPSG).to_wkt(
        "WKT1_GDAL"
    )  # the version of WKT that LAS 1.4 requires
    header.vlrs.append(WktCoordinateSystemVlr(wkt))
    las = laspy.LasData(header)
    las.points = laspy.ScaleAwarePointRecord.zeros(len(points["x"]), header=header)
    for name, values in points.items():
        if name in "xyz":
            name, values = name.upper(), np.round(values / SCALE)
        las[name] = values.astype(las[name].dtype)
    las.write(path)


def make_town(
    folder: Path, seed: int = SEED, blocks: dict[str, tuple[int, ...]] = BLOCKS
) -> None:
    """Write ``<folder>/<name>.laz`` for every block (west, south, east, north)."""
    folder.mkdir(parents=True, exist_ok=True)
    town = Town(seed)
    for name, extent in blocks.items():
        write_block(folder / f"{name}.laz", scan(town, extent, seed))


def main() -> None:
    """Read the command line and write the blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).parent
    parser.add_argument("--output", type=Path, default=here, metavar="DIR")
    parser.add_argument("--seed", type=int, default=SEED, metavar="N")
    arguments = parser.parse_args()
    make_town(arguments.output, arguments.seed)


if __name__ == "__main__":
    main()
