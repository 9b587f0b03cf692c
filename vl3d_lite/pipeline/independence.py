"""Whether scored clouds are independent of the clouds that a run was made with."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.dataset import Extent, OverlapFinder, read_extent
from vl3d_lite.prediction import PredictedCloud
from vl3d_lite.runs import RunFolder, provenance
from vl3d_lite.spec import LoadedSpec

logger = logging.getLogger(__name__)

ROLES = ("train", "validation")
# Share of an extent that must lie in another one, whose cloud is gone or has changed.
SHARED_EXTENT = 0.05
_SAME_CORNER = 1e-3  # meters: the usual step of stored coordinates
BIASED = "its scores are optimistically biased"
_SAME = {
    "train": "the network was trained on this cloud",
    "validation": "this cloud chose the epoch and fitted the temperature",
    "initial": "the initial weights were made with this cloud",
}
_OTHER = {
    "train": "the training cloud",
    "validation": "the validation cloud",
    "initial": "a cloud of the initial weights,",
}


def input_records(loaded: LoadedSpec) -> list[dict]:
    """The training and validation clouds for ``run.json``.

    Returns:
        Of each cloud path, bytes, SHA-256, role (``train`` or ``validation``),
        `clouds.unit`, name of the CRS and extent in meters, so that overlaps are found
        without the file.

    Raises:
        DataError: A cloud cannot be used.
    """
    records = []
    unit = loaded.spec.clouds.unit
    for role in ROLES:
        paths = loaded.clouds[role]
        for path, record in zip(paths, provenance.inputs(paths), strict=True):
            extent = read_extent(path, unit)
            place = {"crs": extent.crs, "extent": extent.corners.tolist(), "unit": unit}
            records.append({**record, "role": role, **place})
    return records


def initial_inputs(content: Mapping[str, Any]) -> list[dict]:
    """The clouds of the runs that the initial weights of a run were made with.

    Args:
        content: Its ``run.json``.
    """
    return content.get("initial_weights", {}).get("inputs", [])


def all_inputs(content: Mapping[str, Any]) -> list[dict]:
    """The clouds of a run, and those of the runs that it started from.

    Args:
        content: Its ``run.json``.
    """
    return [*content.get("inputs", []), *initial_inputs(content)]


def caveats(
    run: RunFolder, outcomes: Sequence[PredictedCloud], unit: str | None = None
) -> dict[str, str]:
    """Name the predicted clouds that are no independent test of a run.

    Args:
        run: A trained run; ``run.json`` records its clouds and their hashes.
        outcomes: The predicted clouds; their sources exist. Each is read in the unit
            that it was predicted in.
        unit: `clouds.unit` of the run, for records that do not name theirs.

    Returns:
        Name of the output to a sentence; clouds that are independent are left out.

    Raises:
        DataError: ``run.json`` or a source cannot be used.
    """
    content = run.read_provenance()
    records = [
        *content.get("inputs", []),
        *({**record, "role": "initial"} for record in initial_inputs(content)),
    ]
    finder = OverlapFinder(unit)
    records = [{"unit": unit, **record} for record in records]
    found = {outcome.output: _caveat(outcome, records, finder) for outcome in outcomes}
    return {name: f"{text}: {BIASED}" for name, text in found.items() if text}


def _caveat(
    outcome: PredictedCloud,
    records: Sequence[Mapping[str, Any]],
    finder: OverlapFinder,
) -> str:
    roles = {
        record.get("role", "")
        for record in records
        if record["sha256"] == outcome.source_sha256
    }
    for role, text in _SAME.items():
        if role in roles:
            return text
    if roles:  # of a run that an earlier version wrote
        return "this cloud was used in the training"
    return _place_caveat(Path(outcome.source), outcome.unit, records, finder)


def _place_caveat(
    source: Path,
    unit: str | None,
    records: Sequence[Mapping[str, Any]],
    finder: OverlapFinder,
) -> str:
    """What a cloud shares with a cloud of the run, by points or by extents."""
    extent = read_extent(source, unit)
    undecided = []
    for record in records:
        path = Path(record["path"])
        other = f"{_OTHER.get(record.get('role', ''), _OTHER['train'])} {path}"
        place = _recorded_extent(record)
        if place is not None and not extent.overlaps(place):
            continue
        if _is_recorded(path, record, finder):
            units = (unit, record["unit"])
            if overlap := next(iter(finder.find([source], [path], units)), None):
                return f"this cloud {overlap.text(other)}"
            continue
        if place is None or extent.shared_area(place) < SHARED_EXTENT:
            continue
        share = extent.shared_area(place)
        state = "has changed since" if path.is_file() else "is not found"
        # Two scans without a CRS may share coordinates, but hardly all six corners.
        same = np.allclose(place.corners, extent.corners, rtol=0, atol=_SAME_CORNER)
        if same or (place.crs and place.crs == extent.crs):
            return (
                f"{share:.0%} of the extent of this cloud and {other}, which {state}, "
                "are the same"
            )
        if not (place.crs and extent.crs):
            undecided.append(f"{other}, which {state}")
    if undecided:
        more = f", and {len(undecided) - 1} more" if len(undecided) > 1 else ""
        logger.warning(
            "%s: may be no independent test: its coordinates are those of %s%s; "
            "without a CRS in both this cannot be decided",
            source,
            undecided[0],
            more,
        )
    return ""


def _is_recorded(path: Path, record: Mapping[str, Any], finder: OverlapFinder) -> bool:
    """Whether a file is still the one that was read."""
    if not path.is_file() or path.stat().st_size != record.get("bytes"):
        return False
    return finder.sha256(path) == record["sha256"]


def _recorded_extent(record: Mapping[str, Any]) -> Extent | None:
    """Where a cloud lay when it was read; None where an earlier version read it."""
    if record.get("extent") is None:
        return None
    corners = np.array(record["extent"], float).reshape(2, 3)
    return Extent(corners, record.get("crs") or "")
