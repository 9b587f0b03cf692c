"""What a colleague would say about a spec, having seen its clouds."""

from collections.abc import Iterator, Sequence

import numpy as np

from vl3d_lite.guide.plan.cloud_facts import CloudFacts, counted_classes
from vl3d_lite.spec.schema.clouds import feature_columns
from vl3d_lite.spec.schema.spec import Spec

FEWEST = 200  # training points of a class
FULL = 0.95  # share of the fields that should be full
COARSE = 5.0  # grid sizes above this many spacings lose what was measured
FINE = 0.5  # grid sizes below this share of the spacing only cost time
APART = 2.0  # how many times as dense clouds may be that share a spec
CONSTANT = 1e-6  # of a feature's mean, as in scaling


def warnings_of(spec: Spec, clouds: Sequence[CloudFacts], steps: int) -> list[str]:
    """Warnings, the gravest first.

    Args:
        spec: The run.
        clouds: As `plan` sees them.
        steps: Of an epoch.
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


def _classes(spec: Spec, train: Sequence[CloudFacts]) -> Iterator[str]:
    cells = np.sum([cloud.labels for cloud in train], axis=0)
    for number, (name, points) in enumerate(
        counted_classes(spec, train, "train").items()
    ):
        if points < FEWEST:
            yield (
                f"class `{name}` has {points} training points in {cells[number]} "
                f"cells; below {FEWEST} nothing can be learned: label more, or merge it"
            )


def _spacing(spec: Spec, train: Sequence[CloudFacts]) -> Iterator[str]:
    grid = spec.fields.grid_size
    spacing = float(np.median([1 / np.sqrt(cloud.density) for cloud in train]))
    nearest = float(np.median([cloud.nearest for cloud in train]))
    kernel = spec.model.kpconvx.kernel_radius * grid
    limits = [kernel, spec.model.stages[0].neighbor_radius or kernel]
    if min(limits) < nearest:
        yield (
            f"the first stage looks {min(limits):.2g} m around a point, and the next "
            f"cell is {nearest:.2g} m away: a point sees itself alone; raise "
            "`fields.grid_size` or `model.kpconvx.kernel_radius`"
        )
    if grid > COARSE * spacing:
        yield (
            f"cells of {grid:g} m hold {(grid / spacing) ** 2:.0f} points each, which "
            f"share a class; points are {spacing:.2g} m apart: lower `fields.grid_size`"
        )
    if grid < FINE * spacing:
        yield (
            f"cells of {grid:g} m are finer than the {spacing:.2g} m between points: "
            "nothing is gained, and coarser stages hardly shrink; raise "
            "`fields.grid_size`"
        )
    densities = [cloud.density for cloud in train]
    if max(densities) > APART**2 * min(densities):
        yield (
            f"training clouds hold {min(densities):.2g} to {max(densities):.2g} points "
            "a square meter; what is learned on one may not hold on the other"
        )


def _fields(spec: Spec, train: Sequence[CloudFacts]) -> Iterator[str]:
    counts = np.concatenate([cloud.fields for cloud in train])
    first = spec.model.stages[0].points
    full = float((counts[:, 0] >= first).mean())
    if full < FULL:
        half = float(np.median(counts[:, 0])) / first
        yield (
            f"{full:.0%} of the training fields are full, the median holds {half:.0%} "
            "of its points, and the rest is padding that costs as much; raise "
            f"`fields.radius` or lower `model.stages.0.points` (now {first})"
        )
    for number, stage in enumerate(spec.model.stages[1:], 1):
        wanted = counts[:, number]
        if np.median(wanted) < stage.points / 2:
            yield (
                f"stage {number} has room for {stage.points} points and fields hold "
                f"{np.median(wanted):.0f}; lower `model.stages.{number}.points`"
            )
        elif np.median(wanted) >= stage.points > 0.9 * spec.model.stages[0].points:
            yield (
                f"stage {number} keeps {stage.points / first:.0%} of the points of the "
                "first: cells hold one point each; raise `fields.grid_size`"
            )
    widest = max(cloud.footprint for cloud in train)
    width = 2 * typical_radius(spec, train)
    if widest and width < widest:
        yield (
            f"a field is about {width:.0f} m wide and the widest building "
            f"{widest:.0f} m: its roof may be taken for ground; raise "
            "`model.stages.0.points` and `fields.radius`, or `fields.grid_size`"
        )


def typical_radius(spec: Spec, train: Sequence[CloudFacts]) -> float:
    """How far most fields reach in meters: less than the radius where cells abound."""
    cells = sum(cloud.cells[0] for cloud in train)
    area = sum(cloud.points / cloud.density for cloud in train)
    used = float(np.sqrt(spec.model.stages[0].points * area / (np.pi * cells)))
    reach = spec.fields.reach
    return used if reach is None else min(reach, used)


def _features(spec: Spec, train: Sequence[CloudFacts]) -> Iterator[str]:
    names = feature_columns(spec.features)
    weights = np.array([cloud.cells[0] for cloud in train], float)
    weights /= weights.sum()
    means = np.stack([cloud.means for cloud in train])
    mean = weights @ means
    square = weights @ np.stack([c.spread**2 + c.means**2 for c in train])
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    for name, deviation, value in zip(names, spread, mean, strict=True):
        if deviation <= CONSTANT * max(1.0, abs(value)):
            yield (
                f"feature `{name}` is {value:.4g} in all training clouds; it teaches "
                "nothing: leave it out"
            )


def _amount(spec: Spec, train: Sequence[CloudFacts], steps: int) -> Iterator[str]:
    cells = sum(cloud.cells[0] for cloud in train)
    seen = steps * spec.training.epochs * spec.points_per_batch
    if seen < cells:
        yield (
            f"the training sees {seen / cells:.0%} of its cells once; raise "
            "`training.epochs` or `training.steps_per_epoch`"
        )


def _validation(
    spec: Spec, train: Sequence[CloudFacts], held_out: Sequence[CloudFacts]
) -> Iterator[str]:
    if not held_out:
        yield (
            "no validation cloud: the loss of the training chooses the best epoch; "
            "hold one out"
        )
        return
    same = {c.path.resolve() for c in train} & {c.path.resolve() for c in held_out}
    for path in sorted(same):
        yield (
            f"{path.name} is trained on and validates too: scores will flatter; take "
            "it out of one"
        )
    for name, points in counted_classes(spec, held_out, "validation").items():
        if not points:
            yield (f"class `{name}` has no validation point: no epoch is chosen for it")
    if train:
        ratio = float(
            np.median([c.density for c in held_out])
            / np.median([c.density for c in train])
        )
        if not 1 / APART**2 < ratio < APART**2:
            yield (
                f"validation clouds are {ratio:.2g} times as dense as training clouds"
            )
