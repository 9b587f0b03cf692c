"""Points that the network does not see, as the spec names them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import CODE, Exclusion
from vl3d_lite.geometry import make_tree, nearest
from vl3d_lite.spec import (
    CloudGroupSpec,
    CloudLabels,
    Spec,
    cloud_labels,
    codes_of_group,
)


def exclusion(spec: Spec, of: Path | CloudLabels | None = None) -> Exclusion:
    """The excluded points of a spec: codes and flags of `excluded_points`.

    Points of an excluded code that belongs to a class stay, whatever their flags:
    noise that is a class is often flagged withheld as well.

    Args:
        spec: The spec.
        of: The cloud, or what `cloud_labels` has found for it: its codes may have a
            meaning of their own. None for a cloud without a file.
    """
    section = spec.excluded_points
    labels = of if isinstance(of, CloudLabels) else cloud_labels(spec, of)
    of_classes = {code for codes in labels.codes.values() for code in codes}
    if labels.dimension != CODE:
        of_classes = set()
    kept = sorted(of_classes.intersection(section.codes))
    return Exclusion(tuple(section.codes), tuple(section.flags), tuple(kept))


def exclusion_warning(spec: Spec, paths: Sequence[Path]) -> str:
    """Name the codes of classes that are excluded in clouds that no group names.

    A code of `excluded_points` may be a class in a group of `clouds.train` alone. There
    its points stay; elsewhere they are kept from the network, which may surprise.

    Args:
        spec: The spec of the run.
        paths: Clouds to predict.

    Returns:
        A sentence; empty where no code is a class here and excluded there.
    """
    kept: set[int] = set()
    groups = [one for one in spec.clouds.train if isinstance(one, CloudGroupSpec)]
    for group in groups:
        if spec.labels_of(group).dimension == CODE:
            for codes in codes_of_group(spec, group).values():
                kept.update(codes)
    lost: dict[Path, list[int]] = {}
    for path in paths:
        hiding = exclusion(spec, path)
        own = kept.intersection(hiding.codes).difference(hiding.kept_codes)
        if own:
            lost[path] = sorted(own)
    if not lost:
        return ""
    named = ", ".join(map(str, sorted({c for own in lost.values() for c in own})))
    return (
        f"code {named} is a class in a group of `clouds.train`, and excluded in "
        f"{len(lost)} clouds that are in no such group ({next(iter(lost))}): these "
        "points get the class of the points nearby. To classify them, train with "
        "`excluded_points.codes` without that code"
    )


def fill_excluded(
    cell_of_point: np.ndarray,
    local: np.ndarray,
    excluded: np.ndarray,
    cells: np.ndarray,
    threads: int = 1,
) -> None:
    """Give each excluded point the nearest cell, in place.

    Args:
        cell_of_point: ``(n,)`` int32.
        local: ``(n, 3)`` coordinates of the points in meters.
        excluded: ``(n,)`` bool.
        cells: ``(N, 3)`` coordinates of the cells in meters.
        threads: Threads that search.
    """
    found = nearest(make_tree(cells), local[excluded], 1, threads=threads)
    cell_of_point[excluded] = found[:, 0]
