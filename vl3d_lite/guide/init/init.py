"""From labelled clouds to a commented spec: `vl3d-lite init`."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.dataset.files import check_clouds
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.guide.init.classes import ClassChoices, choose_classes
from vl3d_lite.guide.init.sizing import (
    Sizes,
    choose_grid_size,
    choose_sizes,
    is_terrestrial,
    read_cells,
)
from vl3d_lite.guide.init.spec_text import Facts, spec_text
from vl3d_lite.guide.init.split import (
    KEPT,
    TRAIN,
    VALIDATION,
    beside,
    block_of_points,
    choose_validation,
    write_block,
)
from vl3d_lite.guide.init.survey import WITHHELD, Survey, survey_cloud
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.writing import output_errors, write_text

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

    Of several labelled clouds one validates, less what borders on others. A
    single one, or several that lie over one another, are cut into blocks that do
    not touch. Blocks are written as files of their own; the clouds are only
    read. Clouds without labels are those to predict.

    Args:
        paths: LAS or LAZ files.
        output: The spec to write.
        split_into: Folder for blocks of clouds; ``<spec>_blocks``
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
        choice.name: {
            "codes": list(choice.codes),
            "output_code": _written(choice.codes),
        }
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
        check_clouds(found, loaded.spec, count_classes=group == "train")
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
    folder = folder or output.parent / f"{output.stem}_blocks"
    if len(labelled) == 1:
        return _cut(labelled, choices, folder, overwrite)
    validation = labelled[choose_validation(labelled, choices.of_code())]
    rest = [survey for survey in labelled if survey is not validation]
    cloud = _labelled_cloud(validation, choices)
    near, gap = beside(_plane(cloud), validation.spacing, rest)
    kept = (cloud.labels >= 0) & ~near
    if kept.sum() < KEPT * (cloud.labels >= 0).sum():
        return _cut(labelled, choices, folder, overwrite)
    share = validation.points / sum(survey.points for survey in labelled)
    why = f"{share:.0%} of the points, the mix of classes closest to that of all"
    held_out = validation.path
    if near.any():
        held_out = _block_path(validation.path, "validation", folder)
        _write_blocks({held_out: (validation.path, ~near)}, folder, overwrite)
        why += f"; less the {gap:.2g} m beside training clouds"
    return Split([survey.path for survey in rest], [held_out], why)


def _labelled_cloud(survey: Survey, choices: ClassChoices) -> PointCloud:
    classes = {choice.name: choice.codes for choice in choices.classes}
    return read_las(survey.path, class_codes=classes, ignored=[WITHHELD])


def _plane(cloud: PointCloud) -> np.ndarray:
    return cloud.local[:, :2] + cloud.origin[:2]


def _block_path(source: Path, part: str, folder: Path) -> Path:
    return folder / f"{source.stem}_{part}{source.suffix}"


def _write_blocks(
    blocks: dict[Path, tuple[Path, np.ndarray]], folder: Path, overwrite: bool
) -> None:
    """Write chosen points of clouds as files of their own, none of them unasked."""
    sources = {source.resolve() for source, _ in blocks.values()}
    for target in blocks:
        if target.exists() and (not overwrite or target.resolve() in sources):
            raise SpecError(
                f"{target}: exists already; replace it with --overwrite, or name "
                "another folder with --split-into"
            )
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for target, (source, chosen) in blocks.items():
        write_block(source, target, chosen)
        logger.info("%s: written, %s points", target, f"{chosen.sum():,}")


def _cut(
    surveys: Sequence[Survey], choices: ClassChoices, folder: Path, overwrite: bool
) -> Split:
    """Cut one cloud, or several of one place, straight across into blocks."""
    clouds = [_labelled_cloud(survey, choices) for survey in surveys]
    spacing = max(survey.spacing for survey in surveys)
    try:
        blocks, side = block_of_points(
            np.concatenate([_plane(cloud) for cloud in clouds]),
            np.concatenate([cloud.labels for cloud in clouds]),
            spacing,
        )
    except DataError as error:
        raise DataError(f"{surveys[0].path}: {error}") from error
    parts = np.split(blocks, np.cumsum([len(cloud) for cloud in clouds])[:-1])
    written: dict[Path, tuple[Path, np.ndarray]] = {}
    found: dict[int, list[Path]] = {TRAIN: [], VALIDATION: []}
    for survey, part in zip(surveys, parts, strict=True):
        for block, name in ((TRAIN, "train"), (VALIDATION, "validation")):
            chosen = part == block
            target = survey.path
            if not chosen.all():
                target = _block_path(survey.path, name, folder)
                if target in written:
                    raise SpecError(
                        f"{survey.path}: another cloud that must be cut has its name; "
                        "rename one"
                    )
                written[target] = (survey.path, chosen)
            if chosen.any():
                found[block].append(target)
            else:
                del written[target]
    _write_blocks(written, folder, overwrite)
    whole = surveys[0].path.name if len(surveys) == 1 else "them all, as they overlap"
    why = f"the {side} end of {whole}; {np.mean(blocks == 0):.0%} between is left out"
    return Split(found[TRAIN], found[VALIDATION], why)


def _sizes(split: Split, classes: dict[str, dict], surveys: Sequence[Survey]) -> Sizes:
    grid_size = choose_grid_size(surveys)
    codes = {name: entry["codes"] for name, entry in classes.items()}
    clouds = [
        read_cells(path, codes, grid_size) for path in [*split.train, *split.validation]
    ]
    return choose_sizes(
        clouds,
        classes,
        grid_size,
        terrestrial=is_terrestrial(surveys),
        validation=clouds[len(split.train) :],
    )
