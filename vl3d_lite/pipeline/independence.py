"""Whether scored clouds are independent of the clouds that a run was made with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.dataset import Extent, Overlap, OverlapFinder, read_extent
from vl3d_lite.prediction import PredictedCloud
from vl3d_lite.runs import RunFolder, provenance
from vl3d_lite.spec import LoadedSpec
from vl3d_lite.system import file_hash

ROLES = ("train", "validation")
# Share of an extent that must lie in another one, whose cloud is not found.
SHARED_EXTENT = 0.05
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
        Of each cloud path, bytes, SHA-256, role (``train`` or ``validation``), name
        of the CRS and extent in meters, so that overlaps are found without the file.

    Raises:
        DataError: A cloud cannot be used.
    """
    records = []
    for role in ROLES:
        paths = loaded.clouds[role]
        for path, record in zip(paths, provenance.inputs(paths), strict=True):
            extent = read_extent(path, loaded.spec.clouds.unit)
            place = {"crs": extent.crs, "extent": extent.corners.tolist()}
            records.append({**record, "role": role, **place})
    return records


def all_inputs(content: Mapping[str, Any]) -> list[dict]:
    """The clouds of a run, and those of the runs that it started from.

    Args:
        content: Its ``run.json``.
    """
    before = content.get("initial_weights", {}).get("inputs", [])
    return [*content.get("inputs", []), *before]


def caveats(
    run: RunFolder, outcomes: Sequence[PredictedCloud], unit: str | None = None
) -> dict[str, str]:
    """Name the predicted clouds that are no independent test of a run.

    Args:
        run: A trained run; ``run.json`` records its clouds and their hashes.
        outcomes: The predicted clouds; their sources exist.
        unit: The unit of their coordinates, if it is not that of their headers.

    Returns:
        Name of the output to a sentence; clouds that are independent are left out.

    Raises:
        DataError: ``run.json`` or a source cannot be used.
    """
    content = run.read_provenance()
    initial = content.get("initial_weights", {}).get("inputs", [])
    records = [
        *content.get("inputs", []),
        *({**record, "role": "initial"} for record in initial),
    ]
    finder = OverlapFinder(unit)
    found = {
        outcome.output: _caveat(outcome, records, finder, unit) for outcome in outcomes
    }
    return {name: f"{text}: {BIASED}" for name, text in found.items() if text}


def _caveat(
    outcome: PredictedCloud,
    records: Sequence[Mapping[str, Any]],
    finder: OverlapFinder,
    unit: str | None,
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
    source = Path(outcome.source)
    for record in records:
        other = f"{_OTHER.get(record.get('role', ''), _OTHER['train'])} "
        overlap = _overlap(source, record, finder)
        if overlap:
            return f"this cloud {overlap.text(other + record['path'])}"
        share = _shared_extent(source, record, unit)
        if share >= SHARED_EXTENT:
            return (
                f"{share:.0%} of the extent of this cloud and {other}{record['path']}, "
                "which is not found, are the same"
            )
    return ""


def _overlap(
    source: Path, record: Mapping[str, Any], finder: OverlapFinder
) -> Overlap | None:
    """The overlap with a cloud of the run, if its file is still the same."""
    path = Path(record["path"])
    if not path.is_file() or path.stat().st_size != record.get("bytes"):
        return None
    found = finder.find([source], [path])
    return found[0] if found and file_hash(path) == record["sha256"] else None


def _shared_extent(source: Path, record: Mapping[str, Any], unit: str | None) -> float:
    """Share of extents that overlap in one CRS, where the other file is missing."""
    system = record.get("crs")
    if not system or Path(record["path"]).is_file():
        return 0.0
    extent = read_extent(source, unit)
    other = Extent(np.array(record["extent"], float).reshape(2, 3), system)
    if extent.crs != system or not extent.overlaps(other):
        return 0.0
    return extent.shared_area(other)
