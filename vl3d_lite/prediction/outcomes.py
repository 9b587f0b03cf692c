"""Predicted clouds: which files, and the record of them."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.system.writing import output_errors, write_json

if TYPE_CHECKING:  # it imports Keras, which comparing runs does not need
    pass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictedCloud:
    """One predicted cloud.

    Attributes:
        source: The cloud that was read.
        output: The cloud that was written.
        points: Points of the file.
        voted: Points whose grid cell was voted on by overlapping fields.
        nearest: Points that took the class of the nearest voted cell.
        seconds: Reading to writing; of a cloud that was made ready while another
            was predicted, without the reading.
        column: The dimension of the output that holds the classes; empty where
            none was asked for.
        kept: Codes that `classification` kept.
        min_confidence: Confidence below which points were written as `reject_code`, and
            their class as `prediction_raw`; None where every point has its class.
        reject_code: See `min_confidence`.
        temperature: That its probabilities were calibrated with; 1 means not.
        uncalibrated: Counts of the confidences before, ``{count, correct,
            total}``; None where there are no labels or no calibration.
        classes: How classes were joined, as `fold_spec` reads it.
        settings: The `prediction` of the spec it was made with.
        xla: Whether the network was compiled by XLA.
        threads: Processors that were asked for.
        source_sha256: Of the source's bytes.
        sha256: Of the output's bytes.
    """

    source: str
    output: str
    points: int
    voted: int
    nearest: int
    seconds: float
    column: str = "prediction"
    kept: Sequence[int] = ()
    min_confidence: float | None = None
    reject_code: int | None = None
    temperature: float = 1.0
    uncalibrated: dict | None = None
    classes: str = ""
    settings: dict = field(default_factory=dict)
    xla: bool = False
    threads: int = 1
    source_sha256: str = ""
    sha256: str = ""


class Outputs:
    """The folder predictions go to, and its list ``predictions.json``.

    Args:
        folder: Made by `require_writable`, or when the first file is written.
        sources: Clouds to predict; an output has the name of its source.
        resume: Clouds already predicted are skipped.
        overwrite: Earlier outputs are replaced.

    Raises:
        SpecError: Two clouds have one name, or an output exists and neither
            flag was given.
    """

    def __init__(
        self, folder: Path, sources: Sequence[Path], *, resume: bool, overwrite: bool
    ):
        self.folder = folder
        self.listing = folder / "predictions.json"
        self.targets = {source: folder / _output_name(source) for source in sources}
        self.outcomes = {item.output: item for item in read_outcomes(folder)}
        self._refuse(resume, overwrite)
        finished = {
            source
            for source, target in self.targets.items()
            if resume and target.is_file() and target.name in self.outcomes
        }
        self.remaining = [source for source in sources if source not in finished]
        for source in finished:
            logger.info("%s: is predicted already", source)

    def _refuse(self, resume, overwrite):
        names = [target.name for target in self.targets.values()]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise SpecError(
                f"several clouds are named {', '.join(sorted(twice))}; predict them "
                "into folders of their own with --output"
            )
        for source, target in self.targets.items():
            if target.exists() and target.resolve() == source.resolve():
                raise SpecError(
                    f"{source}: would be overwritten by its own prediction; name "
                    "another folder with --output"
                )
        present = [target for target in self.targets.values() if target.exists()]
        if present and not (resume or overwrite):
            raise SpecError(
                f"{present[0]}: exists already; skip finished clouds with --resume, "
                "replace them with --overwrite, or name another folder with --output"
            )

    def require_writable(self) -> None:
        """Make the folder and try it, before work is done that it is to hold.

        Raises:
            ResourceError: The folder cannot be made or written.
        """
        with output_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass

    def record(self, outcome: PredictedCloud) -> None:
        """Note a finished cloud in the list."""
        self.outcomes[outcome.output] = outcome
        write_json(
            self.listing,
            {"clouds": [asdict(item) for item in self.outcomes.values()]},
        )


def _output_name(source: Path) -> str:
    # The copy of a COPC file is plain LAZ; its name must not claim otherwise.
    if source.name.lower().endswith(".copc.laz"):
        return source.name[: -len(".copc.laz")] + ".laz"
    return source.name


def read_outcomes(folder: Path) -> list[PredictedCloud]:
    """The clouds that ``predictions.json`` lists; none where there is no list.

    Raises:
        DataError: The list is damaged.
    """
    listing = folder / "predictions.json"
    if not listing.is_file():
        return []
    try:
        content = json.loads(listing.read_text())
        return [PredictedCloud(**item) for item in content["clouds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{listing}: cannot be read ({error}); predict again with --overwrite"
        ) from error
