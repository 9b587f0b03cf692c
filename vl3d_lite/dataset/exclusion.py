"""Points that the network does not see, as the spec names them."""

import numpy as np

from vl3d_lite.clouds import Exclusion
from vl3d_lite.geometry import make_tree, nearest
from vl3d_lite.spec import Spec


def exclusion(spec: Spec) -> Exclusion:
    """The excluded points of a spec: codes and flags of `excluded_points`.

    Points of an excluded code that belongs to a class stay, whatever their flags:
    noise that is a class is often flagged withheld as well.
    """
    section = spec.excluded_points
    of_classes = {code for codes in spec.class_codes.values() for code in codes}
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
