"""The text of a commented spec."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from vl3d_lite.guide.init.classes import ClassChoices, class_weights
from vl3d_lite.guide.init.sizing import Sizes
from vl3d_lite.guide.init.survey import OVERLAP, WITHHELD, Survey

CHANNELS = (32, 64, 128, 192)
BLOCKS = (
    "[kpconvx, gva]",
    "[kpconvx, gva]",
    "[kpconvx, kpconvx, gva]",
    "[kpconvx, gva]",
)
HEIGHT_RADIUS = 10.0  # m, at least; wider than half of a common house
SPARSE_HEIGHT = 10  # grid sizes that the disk spans at least
WIDEST_HEIGHT = 60.0  # m; beyond it hills count
MOST_GRIDS = 6  # that a training cloud is reduced on
GRID_CELLS = 8_000_000  # of all of them together; 2 to 3 GB
SHAPE_RADII = (3, 6)  # grid sizes of eigenvalue features
BATCH, EPOCHS, FEWEST_STEPS, MOST_STEPS = 4, 24, 60, 500
COLUMN = 46  # where comments begin, if the text leaves room
COLORS = ("red", "green", "blue", "nir")
KNOWN = {"return_number", "number_of_returns", "intensity"}


@dataclass(frozen=True)
class Facts:
    """All that a spec is written from.

    Attributes:
        surveys: Of the labelled clouds.
        choices: Classes and ignored codes.
        sizes: Grid size, fields and stages.
        train: Paths.
        validation: Paths.
        predict: Paths.
        split: Why these validate.
        terrestrial: Whether the scans come from the ground.
        inputs: Dimensions that vary in every cloud.
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


def spec_text(facts: Facts, folder: Path) -> str:
    """A spec of at most 60 lines.

    Args:
        facts: What the clouds are like.
        folder: Where it will lie; paths are relative to it.
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
        f"# about {_told(middle)} a square meter ({_told(low)} to {_told(high)}). The "
        "comments say why; change what you",
        "# know better. `vl3d-lite plan` tells what a run costs.",
    ]


def _told(density: float) -> str:
    return f"{density:,.0f}" if density >= 10 else f"{density:.2g}"


def _classes(facts: Facts) -> list[str]:
    choices = facts.choices
    total = sum(survey.points for survey in facts.surveys)
    lines = [_line("classes:", "name: LAS codes; share of the points")]
    for choice in choices.classes:
        codes = choice.codes
        entry = str(codes[0])
        if len(codes) > 1:
            entry = (
                f"{{codes: {list(codes)}, output_code: "
                f"{2 if 2 in codes else max(codes)}}}"
            )
        share = f"{choice.points / total:.1%}"
        told = f"{share}; {choice.why}" if choice.why else share
        lines.append(_line(f"  {choice.name}: {entry}", told))
    pooled: dict[int, int] = {}
    for survey in facts.surveys:
        for code, count in survey.codes.items():
            pooled[code] = pooled.get(code, 0) + count
    left_out = [
        f"{code} ({why.split(',')[0]}, {pooled[code]:,})"
        for code, why in sorted(choices.ignored.items())
    ]
    for first in range(0, min(len(left_out), 9), 3):
        lines.append(f"# Ignored in loss and scores: {', '.join(left_out[first:][:3])}")
    withheld, overlap = (
        sum(getattr(survey, name) for survey in facts.surveys)
        for name in (WITHHELD, OVERLAP)
    )
    if overlap:
        lines.append(
            f"# {overlap:,} points are flagged overlap; their codes count, unless you "
            "add the flag below."
        )
    flags = f"ignored_flags: [{WITHHELD}]"
    if withheld:
        lines.append(_line(flags, f"{withheld:,} points are withheld, as if deleted"))
    elif overlap:
        lines.append(_line(flags, "no point has it; [withheld, overlap] ignores both"))
    return lines


def _clouds(facts: Facts, folder: Path) -> list[str]:
    predict = "" if facts.predict != facts.validation else "name your own here"
    return [
        _line("clouds:", "relative to this file"),
        _line(f"  train: {_paths(facts.train, folder)}"),
        _line(f"  validation: {_paths(facts.validation, folder)}", facts.split),
        _line(f"  predict: {_paths(facts.predict, folder)}", predict),
    ]


def _paths(paths: Sequence[Path], folder: Path) -> str:
    own = [Path(os.path.relpath(path, folder or ".")).as_posix() for path in paths]
    return yaml.safe_dump(
        own, default_flow_style=True, width=1 << 30, allow_unicode=True
    ).strip()


def _features(facts: Facts) -> list[str]:
    sizes, inputs = facts.sizes, facts.inputs
    lines = [_line("features:", "beside the coordinates of neighbors")]
    codes = {code for choice in facts.choices.classes for code in choice.codes}
    if 2 in codes:
        radius = max(HEIGHT_RADIUS, SPARSE_HEIGHT * sizes.grid_size)
        radius = min(max(radius, sizes.footprint * 0.75), WIDEST_HEIGHT)
        widest = f"; the widest building measures {sizes.footprint:.0f} m"
        name, told = "height", f"over the lowest of {radius:.0f} m around"
        if not _slope(facts):  # nothing teaches it slopes
            name, radius = "height_above_ground", max(radius, 2 * HEIGHT_RADIUS)
            told = f"over what is left without things narrower than {2 * radius:.0f} m"
        told += widest if sizes.footprint else ""
        lines.append(_line(f"  - {{name: {name}, radius: {radius:.0f}}}", told))
    if "number_of_returns" in inputs:
        lines += ["  - return_ratio", "  - number_of_returns"]
    if "intensity" in inputs:
        lines.append(_line("  - relative_intensity", "free of the sensor's gain"))
    if len(lines) < 4 or facts.terrestrial:
        near, far = (f"{step * sizes.grid_size:.3g}" for step in SHAPE_RADII)
        lines.append("  - vertical")
        lines += [
            f"  - {{name: {name}, radii: [{near}, {far}]}}"
            for name in ("linearity", "planarity", "verticality")
        ]
    empty = set.intersection(*(set(survey.constant) for survey in facts.surveys))
    if empty:
        lines.append(f"# Constant, so left out: {_few(sorted(empty))}.")
    unusable = {name for survey in facts.surveys for name in survey.unusable}
    if unusable:
        told = _few(sorted(unusable))
        lines.append(f"# Not finite throughout, so left out: {told}.")
    more = sorted(inputs - KNOWN)
    if more:
        lines.append(f"# Also there, if every cloud to predict has it: {_few(more)}.")
    return lines


def _few(names: Sequence[str]) -> str:
    told = ", ".join(names[:8])
    return told if len(names) <= 8 else f"{told} and {len(names) - 8} more"


def _fields(facts: Facts) -> list[str]:
    sizes = facts.sizes
    radius = "" if sizes.radius is None else f", radius: {sizes.radius:g}"
    text = f"fields: {{shape: {sizes.shape}{radius}, grid_size: {sizes.grid_size:g}}}"
    return [
        f"# Points of a cell of {sizes.grid_size:g} m share a class. A field holds the "
        f"{sizes.points[0]} cells nearest to",
        f"# its center, mostly {sizes.typical:.2g} m around it; its radius finds as "
        "many at the border too.",
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
    steps = min(max(steps, FEWEST_STEPS), MOST_STEPS)
    intensity = "intensity_shift: 0.3, " if "intensity" in facts.inputs else ""
    weights = class_weights(facts.choices.classes)
    told = "balanced centers draw rare classes already"
    if weights == "auto":
        told = "one class is very rare"
    return [
        "training:",
        f"  epochs: {EPOCHS}",
        f"  batch_size: {BATCH}",
        f"  steps_per_epoch: {steps}",
        "  learning_rate: 0.005",
        _line(f"  class_weights: {weights}", told),
        "  label_smoothing: 0.1",
        _line("  weight_averaging: 0.99", "validates and keeps the running mean"),
        *_augmentation(facts, intensity),
    ]


def _augmentation(facts: Facts, intensity: str) -> list[str]:
    entry = f"scale: 0.1, {intensity}point_dropout: 0.2"
    grids, slope = _grids(facts), _slope(facts)
    if grids < 2:
        return [f"  augmentation: {{{entry}}}"]
    entry += f", grids: {grids}, thinning: 0.5"
    told = f"each cloud {grids} times, thinned"
    if slope:
        entry += f", slope: {slope}"
        told += " and tilted"
    return [_line("  augmentation:", told), f"    {{{entry}}}"]


def _grids(facts: Facts) -> int:
    """Grids that each training cloud is reduced on."""
    return min(MOST_GRIDS, GRID_CELLS // max(1, facts.sizes.cells))


def _slope(facts: Facts) -> float:
    """How steeply training clouds are tilted at most; 0 is not at all."""
    if facts.terrestrial or _grids(facts) < 2:
        return 0.0
    return 0.3 if facts.sizes.grid_size >= 1 else 0.5  # wide fields, gentler slopes
