"""The record of each predicted cloud, and the list of them."""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from vl3d_lite.errors import DataError
from vl3d_lite.runs import FileName
from vl3d_lite.system import is_draft, read_record, write_text

logger = logging.getLogger(__name__)

LISTING = "predictions.json"
# One file for each output: processes that share a folder never write the same one.
RECORDS = ".records"
_SUFFIX = ".json"
_LARGEST_LISTING = 2**30  # bytes; a record has one or two thousand
_LONGEST_STEM = 200  # bytes of a name that a suffix and a draft still fit to
# The dimension of the classes that points below `min_confidence` would have had.
PREDICTION_RAW = "prediction_raw"
REJECTED = "(rejected)"  # no class has parentheses in its name


@dataclass(frozen=True)
class ClassTotal:
    """What one class got in a cloud.

    Attributes:
        code: The LAS code it is written as.
        points: Points with the class.
        mean_confidence: Mean of their confidence; 0 without points.
    """

    code: Annotated[int, Field(ge=0, le=65535)]
    points: Annotated[int, Field(ge=0)]
    mean_confidence: Annotated[float, Field(ge=0, le=1.001)] = 0.0


@dataclass(frozen=True)
class PredictedCloud:
    """The record of one predicted cloud, as ``predictions.json`` lists it.

    An output is what a command would write if source, model, settings and version
    are those of its record (`Origin.differences`).

    Attributes:
        source: Path of the cloud that was read.
        output: File name of the cloud that was written.
        points: Points of the file.
        voted: Points predicted directly: overlapping fields voted on their cell.
        nearest: Points filled from the nearest predicted cell.
        seconds: From reading to writing. Of a cloud that was prepared while another
            one was predicted, without the reading.
        column: The dimension of the output that holds the predicted codes; empty
            where the spec asks for none.
        kept_codes: Codes that `classification` kept.
        min_confidence: Confidence below which points are written as `reject_code`,
            and their class as `prediction_raw`; None where every point has its
            class.
        reject_code: See `min_confidence`.
        temperature: The calibration temperature; 1 means not calibrated.
        uncalibrated: Reliability counts before calibration, ``{count, correct,
            total}``; None where there are no labels or no calibration.
        class_groups: The groups its classes are merged into, as `group_classes`
            reads them; empty for none.
        settings: The `prediction` section of its spec.
        xla: Whether XLA compiled the network.
        threads: Processors it was predicted with.
        source_sha256: SHA-256 of the source file, as it was read.
        sha256: SHA-256 of the output file.
        model: Name of the model.
        weights_sha256: SHA-256 of its weights.
        network_sha256: SHA-256 of the sections of its spec that the network
            depends on.
        features_sha256: SHA-256 of its feature scaling.
        version: Version of vl3d_lite. Empty, as the four above, in records of
            versions that did not store it.
        outside_domain: What of the cloud lies outside the domain of the model, such
            as its density; its confidence is then a ranking, not a probability.
        unit: `clouds.unit` of its spec; None where the file's own unit was used.
        classes: What each class got, by name; `REJECTED` names the points below
            `min_confidence`. Empty in records of versions that did not count.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: str
    output: FileName
    points: Annotated[int, Field(ge=0)]
    voted: Annotated[int, Field(ge=0)]
    nearest: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0)]
    column: str = "prediction"
    kept_codes: Sequence[int] = ()
    min_confidence: float | None = None
    reject_code: int | None = None
    temperature: float = 1.0
    uncalibrated: dict | None = None
    class_groups: str = ""
    settings: dict = field(default_factory=dict)
    xla: bool = False
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    source_sha256: str = ""
    sha256: str = ""
    model: str = ""
    weights_sha256: str = ""
    network_sha256: str = ""
    features_sha256: str = ""
    version: str = ""
    outside_domain: Sequence[str] = ()
    unit: str | None = None
    classes: dict[str, ClassTotal] = field(default_factory=dict)


@dataclass(frozen=True)
class _Listing:
    clouds: list[PredictedCloud]


def record_path(folder: Path, output: str) -> Path:
    """The file that holds the record of an output, named after the output."""
    name = os.fsencode(output)
    if len(name) > _LONGEST_STEM:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        name = name[: _LONGEST_STEM - 17] + b"~" + digest
    return folder / RECORDS / (os.fsdecode(name) + _SUFFIX)


class Records:
    """The records in a folder, each read once.

    Args:
        folder: The folder of the outputs.
        names: Outputs whose records count; None for all.
    """

    def __init__(self, folder: Path, names: Collection[str] | None = None):
        self.folder = folder
        self._files: frozenset[str] | None = None
        if names is not None:
            self._files = frozenset(record_path(folder, n).name for n in names)
        self._read: dict[str, tuple[tuple[int, ...], PredictedCloud]] = {}

    def read(self) -> list[PredictedCloud]:
        """The records of outputs that exist or are listed, sorted by output.

        Raises:
            DataError: The list or a record is damaged, or an earlier version wrote
                it.
        """
        files = self._identified()
        for name in self._read.keys() - files.keys():
            del self._read[name]
        for name, identity in files.items():
            if name not in self._read or self._read[name][0] != identity:
                record = read_outcome(self.folder / RECORDS / name)
                self._read[name] = identity, record
        records = {record.output: record for _, record in self._read.values()}
        listed = self._listed(records)
        there = {entry.name for entry in _entries(self.folder)}
        found = {
            **listed,
            **{n: r for n, r in records.items() if n in listed or n in there},
        }
        return [found[name] for name in sorted(found)]

    def changed(self) -> bool:
        """Whether a record has been added, replaced or removed since `read`."""
        return self._identified() != {
            name: identity for name, (identity, _) in self._read.items()
        }

    def _identified(self) -> dict[str, tuple[int, ...]]:
        """The files of the records, each with what changes when it is replaced."""
        found: dict[str, tuple[int, ...]] = {}
        for entry in _entries(self.folder / RECORDS):
            counts = self._files is None or entry.name in self._files
            if counts and entry.name.endswith(_SUFFIX) and not is_draft(Path(entry)):
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    identity = stat.st_ino, stat.st_size, stat.st_mtime_ns
                    found[entry.name] = identity
        return found

    def _listed(self, records: Collection[str]) -> dict[str, PredictedCloud]:
        """What the list holds; of some names only where a record is missing."""
        if self._files is not None and len(records) == len(self._files):
            return {}
        listed = read_listing(self.folder)
        if self._files is None:
            return listed
        return {
            name: record
            for name, record in listed.items()
            if record_path(self.folder, name).name in self._files
        }


def read_outcomes(folder: Path) -> list[PredictedCloud]:
    """The records of the clouds in a folder, sorted by the names of the outputs.

    The records themselves count, where they exist: the list is made from them.

    Raises:
        DataError: The list or a record is damaged, or an earlier version wrote it.
    """
    return Records(folder).read()


def assemble(folder: Path) -> list[PredictedCloud]:
    """Make ``predictions.json`` from the records of all processes.

    Several processes may do so at the same time: the last one that writes the list
    has seen all records.

    Returns:
        The records, as `read_outcomes`.

    Raises:
        DataError: As `read_outcomes`.
        ResourceError: The list cannot be written.
    """
    records = Records(folder)
    while True:
        outcomes = records.read()
        # Earlier versions listed in another order, which is no reason to write.
        if {one.output: one for one in outcomes} != read_listing(folder):
            lines = (json.dumps(asdict(one), allow_nan=False) for one in outcomes)
            text = '{"clouds": [\n' + ",\n".join(lines) + "\n]}\n"
            write_text(folder / LISTING, text)
        if not records.changed():
            return outcomes


def all_recorded(folder: Path, outputs: Iterable[str]) -> bool:
    """Whether each of some outputs has a record or is listed; no record is read.

    Raises:
        DataError: The list is damaged, and no records replace it.
    """
    files = {entry.name for entry in _entries(folder / RECORDS)}
    missing = (name for name in outputs if record_path(folder, name).name not in files)
    first = next(missing, None)
    if first is None:
        return True
    listed = read_listing(folder)
    return first in listed and all(name in listed for name in missing)


def read_outcome(path: Path) -> PredictedCloud:
    """Read one record.

    Raises:
        DataError: The record is damaged, or an earlier version wrote it.
    """
    return read_record(path, PredictedCloud, "predict again with --overwrite")


def read_listing(folder: Path) -> dict[str, PredictedCloud]:
    """What ``predictions.json`` lists, by the name of the output.

    Raises:
        DataError: The list is damaged, and no records replace it.
    """
    listing = folder / LISTING
    if not listing.is_file():
        return {}
    remedy = "predict again with --overwrite"
    try:
        read = read_record(listing, _Listing, remedy, _LARGEST_LISTING)
    except DataError as error:
        if not any((folder / RECORDS).glob(f"*{_SUFFIX}")):
            raise
        logger.warning("%s. The records in %s are used instead", error, RECORDS)
        return {}
    return {record.output: record for record in read.clouds}


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
