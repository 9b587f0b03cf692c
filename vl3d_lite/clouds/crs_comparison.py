"""Clouds of one spec whose reference systems differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vl3d_lite.clouds.crs import Crs

_SHOWN = 5  # systems that a message names


def differing_systems(systems: Mapping[Path, Crs]) -> str | None:
    """Say how the reference systems of clouds differ; None where they are the same.

    Coordinates are converted to meters cloud by cloud, so clouds of several systems
    can be trained together. A wrong file among them is seen here first, however.

    Args:
        systems: The system of each cloud.
    """
    heights = {path: _vertical_datum(crs) for path, crs in systems.items()}
    # A file that names no vertical datum does not contradict one that does.
    several = len(set(heights.values()) - {""}) > 1
    groups: dict[tuple[str, str, str], list[Path]] = {}
    for path, crs in systems.items():
        key = (crs.plane, crs.units, heights[path] if several else "")
        groups.setdefault(key, []).append(path)
    if len(groups) < 2:
        return None
    largest = sorted(groups.values(), key=len, reverse=True)
    parts = [_described(systems[paths[0]], paths) for paths in largest[:_SHOWN]]
    if len(largest) > _SHOWN:
        parts.append(f"{len(largest) - _SHOWN} other systems")
    what = _differences([systems[paths[0]] for paths in largest])
    return (
        f"the clouds have {len(largest)} reference systems, which differ in {what}: "
        f"{'; '.join(parts)}. Each cloud is read in its own unit. If a file among them "
        "is wrong, correct it, or set `clouds.unit`"
    )


def _described(crs: Crs, paths: Sequence[Path]) -> str:
    files = f"{paths[0]}" if len(paths) == 1 else f"{len(paths)} files as {paths[0]}"
    return f"{crs.name or 'none named'} in {crs.units} ({files})"


def _differences(systems: Sequence[Crs]) -> str:
    """What differs among systems: unit, datum, zone, vertical datum."""
    found = {
        "unit": {crs.units for crs in systems},
        "datum": {_datum(crs) for crs in systems},
        "zone": {_zone(crs) for crs in systems},
        "vertical datum": {_vertical_datum(crs) for crs in systems},
    }
    named = [name for name, values in found.items() if len(values - {""}) > 1]
    if any(not crs.name for crs in systems):
        named.append("whether they are named")
    return ", ".join(named) or "projection"


def _datum(crs: Crs) -> str:
    datum = crs.system.datum if crs.system else None
    if datum is None and crs.system and crs.system.geodetic_crs:
        datum = crs.system.geodetic_crs.datum
    return datum.name if datum else ""


def _zone(crs: Crs) -> str:
    return (crs.system.utm_zone or "") if crs.system else ""


def _vertical_datum(crs: Crs) -> str:
    parts = crs.system.sub_crs_list if crs.system else []
    return next((p.datum.name for p in parts if p.is_vertical and p.datum), "")
