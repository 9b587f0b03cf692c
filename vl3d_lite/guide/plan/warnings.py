"""Warnings about the cost of a run: its fields and the length of its training."""

from collections.abc import Iterator, Sequence

import numpy as np

from vl3d_lite.guide.plan.cloud_facts import ReadCloudFacts
from vl3d_lite.spec import Spec

FULL = 0.95  # share of the fields that should be full


def cost_warnings(
    spec: Spec, clouds: Sequence[ReadCloudFacts], steps: int
) -> list[str]:
    """Find what makes a run wasteful or too short.

    Warnings about the clouds themselves are those of `dataset.labeled_warnings`.

    Args:
        spec: The run.
        clouds: Its training and validation clouds.
        steps: Training steps per epoch.

    Returns:
        One sentence per warning, with what to change.
    """
    train = [cloud for cloud in clouds if cloud.group == "train"]
    if not train:
        return []
    return [*_fields(spec, train), *_amount(spec, train, steps)]


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


def _amount(spec: Spec, train: Sequence[ReadCloudFacts], steps: int) -> Iterator[str]:
    cells = sum(cloud.cells[0] for cloud in train)
    seen = steps * spec.training.epochs * spec.points_per_batch
    if seen < cells:
        yield (
            f"the training processes {seen / cells:.0%} of its cells once; raise "
            "`training.epochs` or `training.steps_per_epoch`"
        )
