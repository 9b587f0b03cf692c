"""`vl3d-lite init`: survey labeled clouds, hold some out, and write a spec."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import PointCloud, read_las, write_block
from vl3d_lite.dataset import check_clouds
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.guide.init.classes import MIN_POINTS, ClassChoices, choose_classes
from vl3d_lite.guide.init.sizing import (
    Sizes,
    choose_grid_size,
    choose_sizes,
    is_terrestrial,
    read_cells,
)
from vl3d_lite.guide.init.spec_text import Facts, spec_text
from vl3d_lite.guide.init.split import (
    MIN_REMAINING,
    TRAIN,
    VALIDATION,
    block_of_points,
    choose_validation,
    points_near_others,
)
from vl3d_lite.guide.init.survey import UNSEEN, Survey, survey_cloud
from vl3d_lite.guide.init.unclear import (
    unclassified_share,
    unclear_clouds,
    without_code_1,
)
from vl3d_lite.guide.labeled import read_warnings
from vl3d_lite.spec import read_spec
from vl3d_lite.system import output_errors, require_free, write_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """The training and the validation clouds.

    Attributes:
        train: Paths.
        validation: Paths.
        reason: A few words for the comment in the spec.
    """

    train: list[Path]
    validation: list[Path]
    reason: str


def propose_spec(
    paths: Sequence[Path],
    output: Path,
    *,
    split_into: Path | None = None,
    overwrite: bool = False,
) -> str:
    """Write a spec that trains on labeled clouds.

    Of several labeled clouds, one is held out for validation, without the points
    next to the others. A single cloud, or several that overlap, are split into
    blocks with a gap between them. Blocks are written as new files; the clouds
    themselves are not changed. Clouds without labels become clouds to predict.

    Args:
        paths: LAS or LAZ files.
        output: The spec to write.
        split_into: Folder for the blocks. Default: ``<spec>_blocks`` beside the spec.
        overwrite: Whether to overwrite the spec and the blocks.

    Returns:
        The text of the spec.

    Raises:
        DataError: A cloud cannot be used, or none has labels.
        SpecError: The output exists.
        ResourceError: Memory is short, or the output cannot be written.
    """
    require_free(output, overwrite=overwrite, remedy="name another file with --output")
    if not output.parent.is_dir():
        raise SpecError(
            f"{output}: the folder {output.parent} does not exist; create it first"
        )
    surveys = [survey_cloud(path) for path in paths]
    labeled = [survey for survey in surveys if survey.labeled]
    unclear = unclear_clouds(labeled)
    labeled = [without_code_1(s) if s in unclear else s for s in labeled]
    choices = _classes(paths, labeled)
    folder = split_into or output.parent / f"{output.stem}_blocks"
    split = _split(labeled, choices, folder, overwrite)
    facts = Facts(
        surveys=labeled,
        choices=choices,
        sizes=_sizes(split, choices, labeled),
        train=split.train,
        validation=split.validation,
        predict=[s.path for s in surveys if not s.labeled] or split.validation,
        split=split.reason,
        terrestrial=is_terrestrial(labeled),
        inputs=_common_dimensions(labeled, surveys),
        unclear=_unclear_files(unclear, folder),
    )
    text = spec_text(facts, output.parent)
    write_text(output, text)
    _check(output)
    return text


def _check(written: Path) -> None:
    """Print the warnings about the clouds of a spec that was written.

    A spec that `check` refuses would be a fault of this module: it is found here.
    """
    loaded = read_spec(written)
    for group, found in loaded.clouds.items():
        check_clouds(found, loaded.spec, count_classes=group == "train")
    for warning in read_warnings(loaded, threads=1):
        logger.warning("warning: %s", warning)


def _unclear_files(unclear: Sequence[Survey], folder: Path) -> dict[Path, float]:
    """Each unclear cloud and the blocks it may become, to its share of code 1."""
    return {
        file: unclassified_share(survey)
        for survey in unclear
        for file in (
            survey.path,
            _block_path(survey.path, "train", folder),
            _block_path(survey.path, "validation", folder),
        )
    }


def _classes(paths: Sequence[Path], labeled: Sequence[Survey]) -> ClassChoices:
    """Choose classes, or refuse clouds that have fewer than two."""
    if not labeled:
        have = "and the other clouds have" if len(paths) > 1 else "has"
        raise DataError(
            f"{paths[0]}: {have} no class codes to learn from (`classification` is 0 "
            "or 1 everywhere); give a labeled cloud"
        )
    counts = _pooled_codes(labeled)
    choices = choose_classes(counts, _on_ground(labeled))
    if len(choices.classes) < 2:
        listed = ", ".join(
            f"{count:,} of code {code}" for code, count in counts.items()
        )
        raise DataError(
            f"{labeled[0].path}: training needs two classes of at least {MIN_POINTS} "
            f"points each. The labeled clouds have {listed}; label more points, or "
            "give another cloud"
        )
    return choices


def _pooled_codes(surveys: Sequence[Survey]) -> dict[int, int]:
    """LAS code to points of all clouds."""
    pooled: Counter[int] = Counter()
    for survey in surveys:
        pooled.update(survey.codes)
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


def _common_dimensions(
    labeled: Sequence[Survey], surveys: Sequence[Survey]
) -> set[str]:
    """Dimensions that vary in every labeled cloud and that every cloud has."""
    result = set(labeled[0].varying)
    for survey in labeled:
        result &= set(survey.varying)
    for survey in surveys:
        result &= {*survey.varying, *survey.constant}
    return result


def _split(
    labeled: Sequence[Survey], choices: ClassChoices, folder: Path, overwrite: bool
) -> Split:
    """Hold out one of several clouds, or a block where that leaves too little."""
    if len(labeled) == 1:
        return _split_into_blocks(labeled, choices, folder, overwrite)
    validation = labeled[choose_validation(labeled, choices.index_by_code())]
    rest = [survey for survey in labeled if survey is not validation]
    cloud = _labeled_cloud(validation, choices)
    near, gap = points_near_others(_horizontal(cloud), validation.spacing, rest)
    has_label = _labels(cloud) >= 0
    if (has_label & ~near).sum() < MIN_REMAINING * has_label.sum():
        return _split_into_blocks(labeled, choices, folder, overwrite)
    share = validation.points / sum(survey.points for survey in labeled)
    reason = f"{share:.0%} of the points, with the most typical class distribution"
    held_out = validation.path
    if near.any():
        held_out = _block_path(validation.path, "validation", folder)
        _write_blocks({held_out: (validation.path, ~near)}, folder, overwrite)
        reason += f"; without the {gap:.2g} m next to training clouds"
    return Split([survey.path for survey in rest], [held_out], reason)


def _labeled_cloud(survey: Survey, choices: ClassChoices) -> PointCloud:
    # A survey without code 1 is of a cloud whose code 1 is unclear.
    codes = {
        choice.name: [code for code in choice.codes if code in survey.codes]
        for choice in choices.classes
    }
    return read_las(survey.path, class_codes=codes, excluded=UNSEEN)


def _labels(cloud: PointCloud) -> np.ndarray:
    assert cloud.labels is not None, "read with class codes"
    return cloud.labels


def _horizontal(cloud: PointCloud) -> np.ndarray:
    return cloud.local[:, :2] + cloud.origin[:2]


def _block_path(source: Path, part: str, folder: Path) -> Path:
    return folder / f"{source.stem}_{part}{source.suffix}"


def _write_blocks(
    blocks: dict[Path, tuple[Path, np.ndarray]], folder: Path, overwrite: bool
) -> None:
    """Write chosen points of clouds as new files, after checking all their paths."""
    sources = {source.resolve() for source, _ in blocks.values()}
    for target in blocks:
        if target.exists() and target.resolve() in sources:
            raise SpecError(
                f"{target}: is an input cloud, which is never changed; name another "
                "folder with --split-into"
            )
        require_free(
            target,
            overwrite=overwrite,
            remedy="name another folder with --split-into",
        )
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for target, (source, chosen) in blocks.items():
        write_block(source, target, chosen)
        logger.info("%s: written, %s points", target, f"{chosen.sum():,}")


def _split_into_blocks(
    surveys: Sequence[Survey], choices: ClassChoices, folder: Path, overwrite: bool
) -> Split:
    """Split one cloud, or several that overlap, along one straight line."""
    clouds = [_labeled_cloud(survey, choices) for survey in surveys]
    spacing = max(survey.spacing for survey in surveys)
    try:
        blocks, side = block_of_points(
            np.concatenate([_horizontal(cloud) for cloud in clouds]),
            np.concatenate([_labels(cloud) for cloud in clouds]),
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
                        f"{survey.path}: another cloud that must be split has the same "
                        "name; rename one of them"
                    )
                written[target] = survey.path, chosen
            if chosen.any():
                found[block].append(target)
            else:
                del written[target]
    _write_blocks(written, folder, overwrite)
    whole = surveys[0].path.name if len(surveys) == 1 else "all clouds, which overlap"
    reason = (
        f"the {side} end of {whole}; a gap of {np.mean(blocks == 0):.0%} is left out"
    )
    return Split(found[TRAIN], found[VALIDATION], reason)


def _sizes(split: Split, choices: ClassChoices, surveys: Sequence[Survey]) -> Sizes:
    grid_size = choose_grid_size(surveys)
    codes = {choice.name: list(choice.codes) for choice in choices.classes}
    clouds = [
        read_cells(path, codes, grid_size) for path in [*split.train, *split.validation]
    ]
    return choose_sizes(
        clouds,
        codes,
        grid_size,
        terrestrial=is_terrestrial(surveys),
        validation=clouds[len(split.train) :],
    )
