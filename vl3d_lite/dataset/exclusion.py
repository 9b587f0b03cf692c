"""Points that the network does not see, as the spec names them."""

from pathlib import Path

import numpy as np

from vl3d_lite.clouds import CODE, Exclusion
from vl3d_lite.geometry import make_tree, nearest
from vl3d_lite.spec import Spec, cloud_labels


def exclusion(spec: Spec, path: Path | None = None) -> Exclusion:
    """The excluded points of a spec: codes and flags of `excluded_points`.

    Points of an excluded code that belongs to a class stay, whatever their flags:
    noise that is a class is often flagged withheld as well.

    Args:
        spec: The spec.
        path: The cloud, whose codes may have a meaning of their own; None for a
            cloud without a file.
    """
    section = spec.excluded_points
    labels = cloud_labels(spec, path)
    of_classes = {code for codes in labels.codes.values() for code in codes}
    if labels.dimension != CODE:
        of_classes = set()
    kept = sorted(of_classes.intersection(section.codes))
    return Exclusion(tuple(section.codes), tuple(section.flags), tuple(kept))


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
