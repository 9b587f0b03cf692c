"""From labelled clouds to a commented spec: `vl3d-lite init`."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.las import read_las
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.guide.classes import ClassChoices, choose_classes
from vl3d_lite.guide.sizing import (
    Sizes,
    choose_grid_size,
    choose_sizes,
    is_terrestrial,
    read_cells,
)
from vl3d_lite.guide.spec_text import Facts, spec_text
from vl3d_lite.guide.split import (
    TRAIN,
    VALIDATION,
    block_of_points,
    choose_validation,
    overlapping,
    write_block,
)
from vl3d_lite.guide.survey import Survey, survey_cloud
from vl3d_lite.inputs import check_clouds
from vl3d_lite.run_folder import output_errors, write_text
from vl3d_lite.spec.reader import read_spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Which clouds train and which validate.

    Attributes:
        train: Paths.
        validation: Paths; empty where nothing is held out.
        why: A few words for the reader.
    """

    train: list[Path]
    validation: list[Path]
    why: str


def init(
    paths: Sequence[Path],
    output: Path,
    *,
    split_into: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[Path, int], None] | None = None,
) -> str:
    """Look at labelled clouds and write a spec that trains on them.

    Of several labelled clouds one validates. A single one is cut into two
    blocks, which are written as files of their own; the cloud itself is only
    read. Clouds without labels are those to predict.

    Args:
        paths: LAS or LAZ files.
        output: The spec to write.
        split_into: Folder for the blocks of a single cloud; ``<spec>_blocks``
            beside the spec by default.
        overwrite: Replace the spec and the blocks.
        progress: Called with a path and the points of it that were read.

    Returns:
        The text that was written.

    Raises:
        DataError: A cloud cannot be used, or none carries labels.
        SpecError: The output is there already.
        ResourceError: Memory is short, or the output cannot be written.
    """
    _require_free(output, overwrite)
    surveys = [_survey(path, progress) for path in paths]
    labelled = [survey for survey in surveys if survey.labelled]
    if not labelled:
        raise DataError(
            f"{paths[0]}: {'and the others carry' if len(paths) > 1 else 'carries'} no "
            "class codes to learn from (`classification` is 0 or 1 throughout); give "
            "a labelled cloud"
        )
    choices = choose_classes(_pooled(labelled), _on_ground(labelled))
    if len(choices.classes) < 2:
        told = ", ".join(f"{n:,} of code {c}" for c, n in _pooled(labelled).items())
        raise DataError(
            f"{labelled[0].path}: a network needs two classes of 200 points or more; "
            f"the labelled clouds have {told}"
        )
    split = _split(labelled, choices, output, split_into, overwrite)
    classes = {
        choice.name: {"codes": list(choice.codes), "write": _written(choice.codes)}
        for choice in choices.classes
    }
    sizes = _sizes(split, classes, labelled)
    facts = Facts(
        surveys=labelled,
        choices=choices,
        sizes=sizes,
        train=split.train,
        validation=split.validation,
        predict=[s.path for s in surveys if not s.labelled] or split.validation,
        split=split.why,
        terrestrial=is_terrestrial(labelled),
        inputs=_common(labelled, surveys),
    )
    text = spec_text(facts, output.parent)
    write_text(output, text)
    loaded = read_spec(output)
    for group, found in loaded.clouds.items():
        check_clouds(found, loaded.spec, census=group == "train")
    return text


def _require_free(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise SpecError(
            f"{path}: exists already; replace it with --overwrite, or name another "
            "file with --output"
        )
    if not path.parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.parent}; create it first")


def _survey(path: Path, progress) -> Survey:
    tell = None if progress is None else lambda done, _: progress(path, done)
    return survey_cloud(path, tell)


def _pooled(surveys: Sequence[Survey]) -> dict[int, int]:
    pooled: dict[int, int] = {}
    for survey in surveys:
        for code, count in survey.codes.items():
            pooled[code] = pooled.get(code, 0) + count
    return dict(sorted(pooled.items()))


def _on_ground(surveys: Sequence[Survey]) -> float | None:
    """Share of the points of code 1 on the ground, over all clouds."""
    known = [
        (survey.unclassified_on_ground, survey.codes[1])
        for survey in surveys
        if survey.unclassified_on_ground is not None
    ]
    if not known:
        return None
    shares, weights = zip(*known, strict=True)
    return float(np.average(shares, weights=weights))


def _written(codes: Sequence[int]) -> int:
    """The code a class is written as: ground as 2, vegetation as 5."""
    return 2 if 2 in codes else max(codes)


def _common(labelled: Sequence[Survey], surveys: Sequence[Survey]) -> set[str]:
    """Dimensions that vary in every labelled cloud and that every cloud has."""
    varying = set.intersection(*(set(survey.varying) for survey in labelled))
    there = [{*survey.varying, *survey.constant} for survey in surveys]
    return varying & set.intersection(*there)


def _split(
    labelled: Sequence[Survey],
    choices: ClassChoices,
    output: Path,
    folder: Path | None,
    overwrite: bool,
) -> Split:
    of_code = choices.of_code()
    if len(labelled) == 1:
        folder = folder or output.parent / f"{output.stem}_blocks"
        return _cut(labelled[0], choices, folder, overwrite)
    chosen = choose_validation(labelled, of_code)
    validation = labelled[chosen]
    rest = [survey for survey in labelled if survey is not validation]
    shared = overlapping(validation, rest)
    if shared:
        logger.warning(
            "%s: overlaps %s, which is trained on: validation scores will flatter; "
            "hold out a cloud of another place",
            validation.path,
            shared[0].path,
        )
    total = sum(survey.points for survey in labelled)
    share = validation.points / total
    why = f"{share:.0%} of the points, the mix of classes closest to that of all"
    return Split([survey.path for survey in rest], [validation.path], why)


def _cut(survey: Survey, choices: ClassChoices, folder: Path, overwrite: bool) -> Split:
    """Write the blocks of one cloud beside it."""
    source = survey.path
    names = [f"{source.stem}_{part}{source.suffix}" for part in ("train", "validation")]
    targets = [folder / name for name in names]
    for target in targets:
        if target.exists() and (not overwrite or target.samefile(source)):
            raise SpecError(
                f"{target}: exists already; replace it with --overwrite, or name "
                "another folder with --split-into"
            )
    classes = {choice.name: choice.codes for choice in choices.classes}
    cloud = read_las(source, classes=classes)
    try:
        blocks, side = block_of_points(cloud.local[:, :2], cloud.labels, survey.spacing)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for target, block in zip(targets, (TRAIN, VALIDATION), strict=True):
        write_block(source, target, blocks == block)
        logger.info("%s: written, %s points", target, f"{(blocks == block).sum():,}")
    left = np.mean(blocks == 0)
    why = f"the {side} end of {source.name}; {left:.0%} between the blocks is left out"
    return Split(targets[:1], targets[1:], why)


def _sizes(split: Split, classes: dict[str, dict], surveys: Sequence[Survey]) -> Sizes:
    grid_size = choose_grid_size(surveys)
    codes = {name: entry["codes"] for name, entry in classes.items()}
    clouds = [
        read_cells(path, codes, grid_size) for path in [*split.train, *split.validation]
    ]
    return choose_sizes(clouds, classes, grid_size, terrestrial=is_terrestrial(surveys))
