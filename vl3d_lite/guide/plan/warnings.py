"""Warnings about a spec, from facts about its clouds."""

from collections.abc import Iterator, Sequence

import numpy as np

from vl3d_lite.guide.plan.cloud_facts import ReadCloudFacts, count_classes
from vl3d_lite.spec import Spec, feature_columns

MIN_POINTS = 200  # training points of a class
FULL = 0.95  # share of the fields that should be full
COARSE = 5.0  # spacings; coarser cells lose most of what was measured
FINE = 0.5  # spacings; finer cells cost time and gain nothing
DENSITY_RATIO = 4.0  # of clouds that share a spec; twice the point spacing
CONSTANT = 1e-6  # deviation in shares of the mean, as in dataset.scaling


def find_warnings(
    spec: Spec, clouds: Sequence[ReadCloudFacts], steps: int
) -> list[str]:
    """Find what is likely to harm a run, the most serious first.

    Args:
        spec: The run.
        clouds: Its training and validation clouds.
        steps: Training steps per epoch.

    Returns:
        One sentence per warning, with what to change.
    """
    train = [cloud for cloud in clouds if cloud.group == "train"]
    held_out = [cloud for cloud in clouds if cloud.group == "validation"]
    result: list[str] = []
    if train:
        result += _classes(spec, train)
        result += _spacing(spec, train)
        result += _fields(spec, train)
        result += _features(spec, train)
        result += _amount(spec, train, steps)
    result += _validation(spec, train, held_out)
    return result


def _classes(spec: Spec, train: Sequence[ReadCloudFacts]) -> Iterator[str]:
    cells = np.sum([cloud.class_cells for cloud in train], axis=0)
    points = count_classes(spec, train, "train")
    for (name, count), own in zip(points.items(), cells, strict=True):
        if count < MIN_POINTS:
            yield (
                f"class `{name}` has {count} training points in {own} cells; fewer "
                f"than {MIN_POINTS} are too few to learn from: label more points, or "
                "merge the class with another"
            )


def _spacing(spec: Spec, train: Sequence[ReadCloudFacts]) -> Iterator[str]:
    grid = spec.fields.grid_size
    spacing = float(np.median([1 / np.sqrt(cloud.density) for cloud in train]))
    nearest = float(np.median([cloud.nearest for cloud in train]))
    kernel = spec.model.kpconvx.kernel_radius * grid
    limits = [kernel, spec.model.stages[0].neighbor_radius or kernel]
    if min(limits) < nearest:
        yield (
            f"the neighborhood of the first stage has a radius of {min(limits):.2g} m, "
            f"and the nearest cell is {nearest:.2g} m away: a point has no neighbors; "
            "raise `fields.grid_size` or `model.kpconvx.kernel_radius`"
        )
    if grid > COARSE * spacing:
        yield (
            f"the grid size of {grid:g} m is too coarse for a point spacing of "
            f"{spacing:.2g} m: {(grid / spacing) ** 2:.0f} points share a cell and its "
            "class; lower `fields.grid_size`"
        )
    if grid < FINE * spacing:
        yield (
            f"the grid size of {grid:g} m is finer than the point spacing of "
            f"{spacing:.2g} m: it adds no detail, and coarser stages keep most points; "
            "raise `fields.grid_size`"
        )
    densities = [cloud.density for cloud in train]
    if max(densities) > DENSITY_RATIO * min(densities):
        yield (
            f"the training clouds have densities from {min(densities):.2g} to "
            f"{max(densities):.2g} points/m2; the network may not generalize from one "
            "to another"
        )


def _fields(spec: Spec, train: Sequence[ReadCloudFacts]) -> Iterator[str]:
    counts = np.concatenate([c.fields for c in train if c.fields is not None])
    first = spec.model.stages[0].points
    full = float((counts[:, 0] >= first).mean())
    if full < FULL:
        half = float(np.median(counts[:, 0])) / first
        yield (
            f"{full:.0%} of the training fields are full, and the median field is "
            f"filled to {half:.0%}; the rest is padding, which costs as much; raise "
            f"`fields.radius` or lower `model.stages.0.points` (now {first})"
        )
    for number, stage in enumerate(spec.model.stages[1:], 1):
        wanted = counts[:, number]
        if np.median(wanted) < stage.points / 2:
            yield (
                f"stage {number} has room for {stage.points} points, and the median "
                f"field has {np.median(wanted):.0f}; lower "
                f"`model.stages.{number}.points`"
            )
        elif np.median(wanted) >= stage.points > 0.9 * spec.model.stages[0].points:
            yield (
                f"stage {number} keeps {stage.points / first:.0%} of the points of the "
                "first, since cells hold one point each; raise `fields.grid_size`"
            )
    widest = max(cloud.footprint for cloud in train)
    width = 2 * typical_radius(spec, train)
    if widest and width < widest:
        yield (
            f"a field is about {width:.0f} m wide and the widest building "
            f"{widest:.0f} m: the network may confuse its roof with ground; raise "
            "`model.stages.0.points` and `fields.radius`, or `fields.grid_size`"
        )


def typical_radius(spec: Spec, train: Sequence[ReadCloudFacts]) -> float:
    """Distance in meters at which most fields have all their points.

    It is smaller than the field radius where cells are dense.
    """
    cells = sum(cloud.cells[0] for cloud in train)
    area = sum(cloud.points / cloud.density for cloud in train)
    used = float(np.sqrt(spec.model.stages[0].points * area / (np.pi * cells)))
    reach = spec.fields.reach
    return used if reach is None else min(reach, used)


def _features(spec: Spec, train: Sequence[ReadCloudFacts]) -> Iterator[str]:
    names = feature_columns(spec.features)
    cells = np.array([cloud.cells[0] for cloud in train])
    weights = cells / cells.sum()
    means = np.stack([cloud.means for cloud in train])
    mean = weights @ means
    square = weights @ np.stack([c.deviations**2 + c.means**2 for c in train])
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    for name, deviation, value in zip(names, spread, mean, strict=True):
        if deviation <= CONSTANT * max(1.0, abs(value)):
            yield (
                f"feature `{name}` is {value:.4g} in all training clouds and carries "
                "no information; remove it"
            )


def _amount(spec: Spec, train: Sequence[ReadCloudFacts], steps: int) -> Iterator[str]:
    cells = sum(cloud.cells[0] for cloud in train)
    seen = steps * spec.training.epochs * spec.points_per_batch
    if seen < cells:
        yield (
            f"the training processes {seen / cells:.0%} of its cells once; raise "
            "`training.epochs` or `training.steps_per_epoch`"
        )


def _validation(
    spec: Spec, train: Sequence[ReadCloudFacts], held_out: Sequence[ReadCloudFacts]
) -> Iterator[str]:
    if not held_out:
        yield (
            "no validation cloud: the training loss selects the best epoch; hold a "
            "cloud out"
        )
        return
    shared = {c.path.resolve() for c in train} & {c.path.resolve() for c in held_out}
    for path in sorted(shared):
        yield (
            f"{path.name} is in the training and in the validation clouds: scores will "
            "be optimistically biased; remove it from one of them"
        )
    for name, points in count_classes(spec, held_out, "validation").items():
        if not points:
            yield (
                f"class `{name}` has no validation points: it does not affect the "
                "choice of the best epoch"
            )
    if train:
        ratio = float(
            np.median([c.density for c in held_out])
            / np.median([c.density for c in train])
        )
        if not 1 / DENSITY_RATIO < ratio < DENSITY_RATIO:
            yield (
                f"validation clouds are {ratio:.2g} times as dense as training clouds; "
                "validate on similar clouds"
            )
