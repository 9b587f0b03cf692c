"""Predicted clouds: which files, what they hold, and the list of them."""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vl3d_lite.clouds.header_check import check_cloud
from vl3d_lite.clouds.reading import describe_las, read_las
from vl3d_lite.clouds.rewriting import check_names
from vl3d_lite.clouds.writing import write_las
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.folder import output_errors, write_json
from vl3d_lite.spec.schema.spec import Spec

if TYPE_CHECKING:  # it imports Keras, which comparing runs does not need
    from vl3d_lite.prediction.votes import CellPrediction

logger = logging.getLogger(__name__)

GUESS = "guess"  # the dimension of classes that unsure points would have had


@dataclass(frozen=True)
class CloudOutcome:
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
        unsure: Confidence below which points were written as `unsure_code`, and
            their class as `guess`; None where every point has its class.
        unsure_code: See `unsure`.
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
    unsure: float | None = None
    unsure_code: int | None = None
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

    def record(self, outcome: CloudOutcome) -> None:
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


def class_column(spec: Spec) -> str:
    """The dimension that predicted classes are written to; empty without one."""
    for name in ("prediction", "classification"):
        if name in spec.prediction.write:
            return name
    return ""


def read_outcomes(folder: Path) -> list[CloudOutcome]:
    """The clouds that ``predictions.json`` lists; none where there is no list.

    Raises:
        DataError: The list is damaged.
    """
    listing = folder / "predictions.json"
    if not listing.is_file():
        return []
    try:
        content = json.loads(listing.read_text())
        return [CloudOutcome(**item) for item in content["clouds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{listing}: cannot be read ({error}); predict again with --overwrite"
        ) from error


def check_additions(source: Path, spec: Spec, *, replace: bool) -> None:
    """Complain, before any work, about dimensions a cloud cannot be given.

    Raises:
        DataError: The cloud is damaged, or has a dimension of that name.
    """
    header = check_cloud(source)
    check_names(header, _added_names(spec), replace, logger.debug)


def _added_names(spec: Spec) -> list[str]:
    own = ("prediction", "confidence", "entropy")
    names = [name for name in own if name in spec.prediction.write]
    if "probabilities" in spec.prediction.write:
        names += [f"p_{name}" for name in spec.class_names]
    if spec.prediction.unsure is not None and class_column(spec):
        names.append(GUESS)
    return names


def write_prediction(
    source: Path,
    target: Path,
    prediction: "CellPrediction",
    cell_of_point: np.ndarray,
    spec: Spec,
    *,
    replace: bool,
    overwrite: bool,
) -> None:
    """Copy a cloud with the dimensions that the spec asks for.

    Args:
        source: The cloud that was predicted.
        target: Written whole or not at all.
        prediction: Of each cell.
        cell_of_point: ``(n,)`` int, the cell of each point of the file.
        spec: Names classes, codes and dimensions.
        replace: Dimensions of the same name in the source are replaced.
        overwrite: An existing target is replaced.
    """
    codes = np.array([entry.code for entry in spec.classes.values()], np.uint16)
    guesses = written = codes[prediction.classes]
    if spec.prediction.unsure is not None:
        sure = prediction.confidence >= np.float32(spec.prediction.unsure)
        written = np.where(sure, guesses, np.uint16(spec.unsure_code))
    columns = {
        "prediction": (written, np.uint16, "predicted LAS code"),
        GUESS: (guesses, np.uint16, "predicted code, sure or not"),
        "confidence": (prediction.confidence, np.float32, "highest probability"),
        "entropy": (prediction.entropy, np.float32, "normalized entropy"),
    }
    for index, name in enumerate(spec.class_names):
        values = prediction.probabilities[:, index]
        columns[f"p_{name}"] = (values, np.float32, f"probability of {name}"[:31])

    def per_point(values):
        return lambda start, stop: values[cell_of_point[start:stop]]

    classification = None
    if "classification" in spec.prediction.write:
        classification = per_point(written.astype(np.uint8))
    with output_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    write_las(
        source,
        target,
        {
            name: (per_point(columns[name][0]), *columns[name][1:])
            for name in _added_names(spec)
        },
        classification=classification,
        keep=spec.prediction.keep,
        replace=replace,
        overwrite=overwrite,
        log=logger.info,
    )


@dataclass(frozen=True)
class Pair:
    """A predicted cloud beside the labels of its source.

    Attributes:
        name: Name of the output file.
        outcome: How its points came by their classes.
        xyz: ``(n, 3)`` float64, meters, relative to `origin`.
        origin: ``(3,)`` float64, in the cloud's coordinates.
        reference: ``(n,)`` int32 class index, -1 where there is none.
        prediction: ``(n,)`` int32 class index; 0, without a reference, where a
            kept code stands.
        confidence: ``(n,)`` float32, or None where it was not written.
        sure: ``(n,)`` bool, False where a point was written as unsure; None where
            every point has its class. `prediction` has the class in any case.
    """

    name: str
    outcome: CloudOutcome
    xyz: np.ndarray
    origin: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray | None
    sure: np.ndarray | None = None


def read_pair(spec: Spec, folder: Path, outcome: CloudOutcome) -> Pair:
    """Read a predicted cloud and the labels of the cloud it was made from.

    Raises:
        DataError: A file is gone, or the two do not belong together.
    """
    output, source = folder / outcome.output, Path(outcome.source)
    for path in (output, source):
        if not path.is_file():
            raise DataError(f"{path}: is gone; predict again with --overwrite")
    has = describe_las(output).dimensions
    column = outcome.column
    if not column or column not in has:
        raise DataError(
            f"{output}: holds no predicted classes; predict again with --overwrite and "
            "`prediction` or `classification` in `prediction.write`"
        )
    classes = column if outcome.unsure is None else GUESS
    wanted = {column, classes, "confidence"} & set(has)
    if classes not in has:
        raise DataError(
            f"{output}: has no dimension `{GUESS}`, the classes of unsure points; "
            "predict again with --overwrite"
        )
    predicted = read_las(output, dimensions=sorted(wanted))
    truth = read_las(
        source,
        dimensions=["classification"],
        classes=spec.class_codes,
        ignored=spec.ignored_flags,
    )
    if len(predicted) != len(truth):
        raise DataError(
            f"{output}: has {len(predicted):,} points and {source} {len(truth):,}; "
            "predict again with --overwrite"
        )
    index_of_code = np.full(65536, -1, np.int32)
    for index, entry in enumerate(spec.classes.values()):
        index_of_code[entry.code] = index
    prediction = index_of_code[predicted.attributes[classes].astype(np.int64)]
    sure = None
    if outcome.unsure is not None:
        sure = predicted.attributes[column] != outcome.unsure_code
    # A code that was kept is no prediction of the network's.
    kept = prediction < 0
    if column == "classification":
        kept |= np.isin(truth.attributes["classification"], outcome.kept)
    reference = np.where(kept, -1, truth.labels)
    return Pair(
        outcome.output,
        outcome,
        predicted.local,
        predicted.origin,
        reference,
        np.maximum(prediction, 0),
        predicted.attributes.get("confidence"),
        sure,
    )
