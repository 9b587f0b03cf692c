"""The folder of predicted clouds: its files, and the record of each cloud."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.system import output_errors, require_free, write_json

logger = logging.getLogger(__name__)

LISTING = "predictions.json"
# The dimension of the classes that points below `min_confidence` would have had.
PREDICTION_RAW = "prediction_raw"


@dataclass(frozen=True)
class PredictedCloud:
    """The record of one predicted cloud, as ``predictions.json`` lists it.

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
        source_sha256: SHA-256 of the source file.
        sha256: SHA-256 of the output file.
    """

    source: str
    output: str
    points: int
    voted: int
    nearest: int
    seconds: float
    column: str = "prediction"
    kept_codes: Sequence[int] = ()
    min_confidence: float | None = None
    reject_code: int | None = None
    temperature: float = 1.0
    uncalibrated: dict | None = None
    class_groups: str = ""
    settings: dict = field(default_factory=dict)
    xla: bool = False
    threads: int = 1
    source_sha256: str = ""
    sha256: str = ""


class Outputs:
    """The folder that predictions go to, and its list ``predictions.json``.

    Args:
        folder: Created by `require_writable`, or when the first file is written.
        sources: Clouds to predict; an output has the name of its source.
        resume: Skip clouds that are already predicted.
        overwrite: Replace earlier outputs.

    Attributes:
        targets: The output path of each source.
        outcomes: The record of each predicted cloud, by output name.
        remaining: Sources that are not predicted yet.

    Raises:
        SpecError: Two clouds have the same name, or an output exists and neither
            flag was given.
    """

    def __init__(
        self, folder: Path, sources: Sequence[Path], *, resume: bool, overwrite: bool
    ):
        self.folder = folder
        self.listing = folder / LISTING
        self.targets = {source: folder / _output_name(source) for source in sources}
        self.outcomes = {item.output: item for item in self._listed(overwrite)}
        self._refuse(resume or overwrite)
        finished = {
            source
            for source, target in self.targets.items()
            if resume and target.is_file() and target.name in self.outcomes
        }
        self.remaining = [source for source in sources if source not in finished]
        for source in finished:
            logger.info("%s: the cloud is already predicted", source)

    def _listed(self, overwrite: bool) -> list[PredictedCloud]:
        try:
            return read_outcomes(self.folder)
        except DataError as error:
            if not overwrite:
                raise
            logger.warning("%s. A new list is started", error)
            return []

    def _refuse(self, may_exist: bool) -> None:
        names = [target.name for target in self.targets.values()]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise SpecError(
                f"several clouds are named {', '.join(sorted(repeated))}; predict them "
                "into separate folders with --output"
            )
        for source, target in self.targets.items():
            if target.exists() and target.resolve() == source.resolve():
                raise SpecError(
                    f"{source}: would be overwritten by its own prediction; name "
                    "another folder with --output"
                )
        for target in self.targets.values():
            require_free(
                target,
                overwrite=may_exist,
                remedy="name another folder with --output",
                resume="skip finished clouds",
            )

    def require_writable(self) -> None:
        """Create the folder and try to write to it, before the work begins.

        Raises:
            ResourceError: The folder cannot be created or written to.
        """
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass

    def record(self, outcome: PredictedCloud) -> None:
        """Add a finished cloud to the list, or replace its earlier record.

        Raises:
            ResourceError: The list cannot be written.
        """
        self.outcomes[outcome.output] = outcome
        write_json(
            self.listing,
            {"clouds": [asdict(item) for item in self.outcomes.values()]},
        )


def _output_name(source: Path) -> str:
    # The copy of a COPC file is plain LAZ, so its name must not claim otherwise.
    if source.name.lower().endswith(".copc.laz"):
        return source.name[: -len(".copc.laz")] + ".laz"
    return source.name


def read_outcomes(folder: Path) -> list[PredictedCloud]:
    """The clouds that ``predictions.json`` lists; an empty list where it is missing.

    Raises:
        DataError: The list is damaged, or an earlier version wrote it.
    """
    listing = folder / LISTING
    if not listing.is_file():
        return []
    try:
        content = json.loads(listing.read_text())
        return [PredictedCloud(**item) for item in content["clouds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{listing}: cannot be read ({error}); predict again with --overwrite"
        ) from error
