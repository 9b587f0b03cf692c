"""Write the text of a commented spec."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vl3d_lite.guide.init.classes import ClassChoices, choose_class_weights
from vl3d_lite.guide.init.sizing import Sizes
from vl3d_lite.guide.init.survey import OVERLAP, WITHHELD, Survey
from vl3d_lite.guide.init.unclear import group_lines

CHANNELS = (32, 64, 128, 192)
BLOCKS = (
    "[kpconvx, gva]",
    "[kpconvx, gva]",
    "[kpconvx, kpconvx, gva]",
    "[kpconvx, gva]",
)
MIN_HEIGHT_RADIUS = 10.0  # m; more than half the width of a common house
MIN_HEIGHT_CELLS = 10  # grid sizes that the height radius spans at least
MAX_HEIGHT_RADIUS = 60.0  # m; beyond it hills count as height
HEIGHT_FOOTPRINTS = 0.75  # of the widest building, so that its rim reaches the ground
MAX_GRIDS = 6  # on which a training cloud is reduced
MAX_GRID_CELLS = 8_000_000  # of all these grids together; 2 to 3 GB
EIGENVALUE_RADII = (3, 6)  # grid sizes
BATCH, EPOCHS, MIN_STEPS, MAX_STEPS = 4, 24, 60, 500
COLUMN = 46  # where comments begin, if the text leaves room
LISTED = 8  # names listed in a comment at most
ALREADY_USED = {"return_number", "number_of_returns", "intensity"}


@dataclass(frozen=True)
class Facts:
    """Everything a spec is written from.

    Attributes:
        surveys: Surveys of the labeled clouds.
        choices: Classes and ignored codes.
        sizes: Grid size, fields and stages.
        train: Paths of the training clouds.
        validation: Paths of the validation clouds.
        predict: Paths of the clouds to predict.
        split: Reason for the choice of the validation clouds.
        terrestrial: Whether the clouds are terrestrial scans.
        inputs: Dimensions that vary in every cloud.
        unclear: Clouds whose code 1 may hold vegetation, to its share of the points.
    """

    surveys: Sequence[Survey]
    choices: ClassChoices
    sizes: Sizes
    train: Sequence[Path]
    validation: Sequence[Path]
    predict: Sequence[Path]
    split: str
    terrestrial: bool
    inputs: set[str]
    unclear: Mapping[Path, float] = field(default_factory=dict)


def spec_text(facts: Facts, folder: Path) -> str:
    """Write a spec of at most 60 lines.

    Args:
        facts: Measurements on the clouds and choices.
        folder: Folder of the spec; paths are relative to it.
    """
    lines = [
        *_head(facts),
        "seed: 7",
        *_classes(facts),
        *_clouds(facts, folder),
        *_features(facts),
        *_fields(facts),
        *_model(facts),
        *_training(facts),
        "prediction: {votes: 1, grids: 3, write: [prediction, confidence, entropy]}",
    ]
    return "\n".join(lines) + "\n"


def _line(text: str, comment: str = "") -> str:
    return f"{text:<{COLUMN}}  # {comment}" if comment else text


def _head(facts: Facts) -> list[str]:
    surveys = facts.surveys
    points = sum(survey.points for survey in surveys)
    density = sorted(survey.density for survey in surveys)
    low, high = surveys[0].spread if len(surveys) == 1 else (density[0], density[-1])
    middle = density[len(density) // 2]
    kind = "terrestrial" if facts.terrestrial else "airborne"
    clouds = "1 cloud" if len(surveys) == 1 else f"{len(surveys)} clouds"
    return [
        f"# Written by `vl3d-lite init` from {clouds}, {kind}: {points:,} points,",
        f"# about {_density(middle)} points/m2 ({_density(low)} to {_density(high)}). "
        "The comments give the reasons; edit any value.",
        "# `vl3d-lite plan` estimates memory, time and disk use.",
    ]


def _density(density: float) -> str:
    return f"{density:,.0f}" if density >= 10 else f"{density:.2g}"


def _classes(facts: Facts) -> list[str]:
    choices = facts.choices
    total = sum(survey.points for survey in facts.surveys)
    lines = [_line("classes:", "name: LAS codes; share of the points")]
    for choice in choices.classes:
        codes = choice.codes
        entry = str(codes[0])
        if len(codes) > 1:
            entry = f"{{codes: {list(codes)}, output_code: {choice.output_code}}}"
        share = f"{choice.points / total:.1%}"
        comment = f"{share}; {choice.reason}" if choice.reason else share
        lines.append(_line(f"  {choice.name}: {entry}", comment))
    return [*lines, *_ignored_codes(facts), *_ignored_flags(facts)]


def _ignored_codes(facts: Facts) -> list[str]:
    pooled: dict[int, int] = {}
    for survey in facts.surveys:
        for code, count in survey.codes.items():
            pooled[code] = pooled.get(code, 0) + count
    ignored = [
        f"{code} ({reason.split(',')[0]}, {pooled[code]:,})"
        for code, reason in sorted(facts.choices.ignored.items())
    ]
    return [
        f"# Ignored in loss and scores: {', '.join(ignored[first:][:3])}"
        for first in range(0, min(len(ignored), 9), 3)
    ]


def _ignored_flags(facts: Facts) -> list[str]:
    withheld, overlap = (
        sum(getattr(survey, name) for survey in facts.surveys)
        for name in (WITHHELD, OVERLAP)
    )
    lines = []
    if overlap:
        lines.append(
            f"# {overlap:,} points are flagged as overlap; they are used unless you "
            "add the flag below."
        )
        lines.append(_line("ignored_flags: []", f"[{OVERLAP}] ignores them"))
    if withheld:
        lines.append(
            f"# {withheld:,} points are withheld (deleted); the network does not see "
            "them (`excluded_points`)."
        )
    return lines


def _clouds(facts: Facts, folder: Path) -> list[str]:
    lines = [
        _line("clouds:", "relative to this file"),
        *_labeled_clouds(facts, "train", facts.train, folder, ""),
        *_labeled_clouds(facts, "validation", facts.validation, folder, facts.split),
    ]
    if facts.predict == facts.validation:
        lines += [
            "  # The validation clouds choose the epoch and fit the temperature: their",
            "  # scores are no test. Replace them with your own clouds.",
        ]
    return [*lines, _line(f"  predict: {_paths(facts.predict, folder)}")]


def _labeled_clouds(
    facts: Facts, key: str, paths: Sequence[Path], folder: Path, comment: str
) -> list[str]:
    """The lines of a list of clouds; one of unclear codes is a group of its own."""
    clear = [path for path in paths if path not in facts.unclear]
    if len(clear) == len(paths):
        return [_line(f"  {key}: {_paths(paths, folder)}", comment)]
    lines = [_line(f"  {key}:", comment)]
    lines += [f"    - {_paths([path], folder)[1:-1]}" for path in clear]
    names = [choice.name for choice in facts.choices.classes]
    for path in paths:
        if path in facts.unclear:
            file = _paths([path], folder)[1:-1]
            lines += group_lines(file, facts.unclear[path], names)
    return lines


def _paths(paths: Sequence[Path], folder: Path) -> str:
    own = [Path(os.path.relpath(path, folder or ".")).as_posix() for path in paths]
    return yaml.safe_dump(
        own, default_flow_style=True, width=1 << 30, allow_unicode=True
    ).strip()


def _features(facts: Facts) -> list[str]:
    sizes, inputs = facts.sizes, facts.inputs
    lines = [_line("features:", "in addition to the coordinates of neighbors")]
    codes = {code for choice in facts.choices.classes for code in choice.codes}
    if 2 in codes:
        lines.append(_height(facts))
    if "number_of_returns" in inputs:
        lines += ["  - return_ratio", "  - number_of_returns"]
    if "intensity" in inputs:
        lines.append(_line("  - relative_intensity", "independent of the sensor gain"))
    if len(lines) < 4 or facts.terrestrial:
        near, far = (f"{step * sizes.grid_size:.3g}" for step in EIGENVALUE_RADII)
        lines.append("  - vertical")
        lines += [
            f"  - {{name: {name}, radii: [{near}, {far}]}}"
            for name in ("linearity", "planarity", "verticality")
        ]
    return [*lines, *_unused_dimensions(facts)]


def _height(facts: Facts) -> str:
    """The line of the height feature."""
    footprint = facts.sizes.footprint
    radius = max(MIN_HEIGHT_RADIUS, MIN_HEIGHT_CELLS * facts.sizes.grid_size)
    radius = min(max(radius, footprint * HEIGHT_FOOTPRINTS), MAX_HEIGHT_RADIUS)
    name, comment = "height", f"above the lowest point within {radius:.0f} m"
    if not _slope(facts):  # no tilted copies, so `height` would not learn slopes
        name, radius = "height_above_ground", max(radius, 2 * MIN_HEIGHT_RADIUS)
        comment = f"above the ground without objects up to {2 * radius:.0f} m wide"
    if footprint:
        comment += f"; the widest building is {footprint:.0f} m wide"
    return _line(f"  - {{name: {name}, radius: {radius:.0f}}}", comment)


def _unused_dimensions(facts: Facts) -> list[str]:
    """Comments on the dimensions that are no features."""
    lines = []
    constant = set(facts.surveys[0].constant)
    for survey in facts.surveys:
        constant &= set(survey.constant)
    if constant:
        lines.append(f"# Not used because constant: {_listed(sorted(constant))}.")
    unusable = {name for survey in facts.surveys for name in survey.unusable}
    if unusable:
        listed = _listed(sorted(unusable))
        lines.append(f"# Not used because of values that are not finite: {listed}.")
    more = sorted(facts.inputs - ALREADY_USED)
    if more:
        lines.append(
            f"# Available as features if every cloud to predict has them: "
            f"{_listed(more)}."
        )
    return lines


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(names[:LISTED])
    return (
        listed if len(names) <= LISTED else f"{listed} and {len(names) - LISTED} more"
    )


def _fields(facts: Facts) -> list[str]:
    sizes = facts.sizes
    radius = "" if sizes.radius is None else f", radius: {sizes.radius:g}"
    text = f"fields: {{shape: {sizes.shape}{radius}, grid_size: {sizes.grid_size:g}}}"
    return [
        f"# Points of a cell of {sizes.grid_size:g} m share a class. A field holds the "
        f"{sizes.points[0]} cells nearest to its",
        f"# center, mostly within {sizes.typical_radius:.2g} m. The radius is larger, "
        "so that fields at the border are full too.",
        text,
    ]


def _model(facts: Facts) -> list[str]:
    sizes = facts.sizes
    lines = ["model:", "  stages:"]
    for points, neighbors, channels, blocks in zip(
        sizes.points, sizes.neighbors, CHANNELS, BLOCKS, strict=False
    ):
        lines.append(
            f"    - {{points: {points}, neighbors: {neighbors}, channels: {channels}, "
            f"blocks: {blocks}}}"
        )
    return lines


def _training(facts: Facts) -> list[str]:
    sizes = facts.sizes
    steps = -(-sizes.cells // (BATCH * sizes.points[0]))
    steps = min(max(steps, MIN_STEPS), MAX_STEPS)
    intensity = "intensity_shift: 0.3, " if "intensity" in facts.inputs else ""
    weights = choose_class_weights(facts.choices.classes)
    comment = "balanced centers already favor rare classes"
    if weights == "auto":
        comment = "one class is very rare"
    return [
        "training:",
        f"  epochs: {EPOCHS}",
        f"  batch_size: {BATCH}",
        f"  steps_per_epoch: {steps}",
        "  learning_rate: 0.005",
        _line(f"  class_weights: {weights}", comment),
        "  label_smoothing: 0.1",
        _line(
            "  weight_averaging: 0.99",
            "saves a running mean of the weights",
        ),
        *_augmentation(facts, intensity),
    ]


def _augmentation(facts: Facts, intensity: str) -> list[str]:
    entry = f"scale: 0.1, {intensity}point_dropout: 0.2"
    grids, slope = _grids(facts), _slope(facts)
    if grids < 2:
        return [f"  augmentation: {{{entry}}}"]
    entry += f", grids: {grids}, thinning: 0.5"
    comment = f"{grids} copies of each cloud, thinned"
    if slope:
        entry += f", slope: {slope}"
        comment += " and tilted"
    return [_line("  augmentation:", comment), f"    {{{entry}}}"]


def _grids(facts: Facts) -> int:
    """Number of grids on which each training cloud is reduced."""
    return min(MAX_GRIDS, MAX_GRID_CELLS // max(1, facts.sizes.cells))


def _slope(facts: Facts) -> float:
    """Maximum slope by which training clouds are tilted; 0 for none."""
    if facts.terrestrial or _grids(facts) < 2:
        return 0.0
    return 0.3 if facts.sizes.grid_size >= 1 else 0.5  # wide fields see gentler slopes
