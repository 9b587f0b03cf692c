"""Warnings about the clouds of a spec: what is likely to harm a run or its scores.

`check`, `plan`, `train` and `run` report all of them. A new warning about clouds is a
function in `CLOUD_CHECKS`, which has their paths, or in `LABELED_CHECKS`, which has
facts about those that train or validate.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import differing_systems, read_crs, read_header
from vl3d_lite.dataset.cloud_facts import LabeledFacts
from vl3d_lite.dataset.known_facts import open_cache
from vl3d_lite.dataset.overlap import overlap_warnings
from vl3d_lite.dataset.scaling import least_spread
from vl3d_lite.errors import DataError
from vl3d_lite.spec import Spec, feature_columns

MIN_POINTS = 200  # training points of a class
COARSE = 5.0  # spacings; coarser cells lose most of what was measured
FINE = 0.5  # spacings; finer cells cost time and gain nothing
DENSITY_RATIO = 4.0  # of clouds that share a spec; twice the point spacing

Clouds = Mapping[str, Sequence[Path]]
Facts = Sequence[LabeledFacts]


def cloud_warnings(spec: Spec, clouds: Clouds) -> list[str]:
    """Find what is wrong with clouds by their headers and their content.

    Args:
        spec: The spec of the run.
        clouds: The clouds of ``train``, ``validation`` and ``predict``.

    Returns:
        One sentence per warning. Clouds that cannot be read are left out: whatever
        uses them names the error.
    """
    return [text for check in CLOUD_CHECKS for text in check(spec, clouds)]


def labeled_warnings(spec: Spec, facts: Facts) -> list[str]:
    """Find what is wrong with training and validation clouds by what they hold.

    Args:
        spec: The spec of the run.
        facts: Facts about its training and validation clouds.

    Returns:
        One sentence per warning, with what to change.
    """
    train = [cloud for cloud in facts if cloud.group == "train"]
    validation = [cloud for cloud in facts if cloud.group == "validation"]
    return [text for check in LABELED_CHECKS for text in check(spec, train, validation)]


def _overlaps(spec: Spec, clouds: Clouds) -> Iterator[str]:
    yield from overlap_warnings(clouds, spec.clouds.unit, open_cache(spec))


def _systems(spec: Spec, clouds: Clouds) -> Iterator[str]:
    paths = dict.fromkeys(path for group in clouds.values() for path in group)
    systems = {}
    for path in paths:
        with contextlib.suppress(DataError):
            systems[path] = read_crs(read_header(path), spec.clouds.unit)
    difference = differing_systems(systems)
    if difference:
        yield difference


def _few_points(spec: Spec, train: Facts, validation: Facts) -> Iterator[str]:
    if not train:
        return
    points = _total(train, "class_points")
    cells = _total(train, "class_cells")
    for name, count, own in zip(spec.classes, points, cells, strict=True):
        if count < MIN_POINTS:
            yield (
                f"class `{name}` has {count} training points in {own} cells; fewer "
                f"than {MIN_POINTS} are too few to learn from: label more points, or "
                "merge the class with another"
            )


def _spacing(spec: Spec, train: Facts, validation: Facts) -> Iterator[str]:
    if not train:
        return
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


def _densities(spec: Spec, train: Facts, validation: Facts) -> Iterator[str]:
    densities = [cloud.density for cloud in train]
    if densities and max(densities) > DENSITY_RATIO * min(densities):
        yield (
            f"the training clouds have densities from {min(densities):.2g} to "
            f"{max(densities):.2g} points/m2; the network may not generalize from one "
            "to another"
        )
    if train and validation:
        ratio = float(np.median([c.density for c in validation]) / np.median(densities))
        if not 1 / DENSITY_RATIO < ratio < DENSITY_RATIO:
            yield (
                f"validation clouds are {ratio:.2g} times as dense as training clouds; "
                "validate on similar clouds"
            )


def _constant_features(spec: Spec, train: Facts, validation: Facts) -> Iterator[str]:
    if not train:
        return
    names = feature_columns(spec.features)
    cells = np.array([cloud.cells for cloud in train], float)
    means = np.stack([cloud.means for cloud in train])
    deviations = np.stack([cloud.deviations for cloud in train])
    wide = any(cloud.wide for cloud in train)
    for name, own, deviation in zip(names, means.T, deviations.T, strict=True):
        known = np.isfinite(own)
        if not known.any():
            yield f"feature `{name}` is missing in all training clouds; remove it"
            continue
        mean = np.average(own[known], weights=cells[known])
        # The difference of mean square and squared mean would cancel, as of GPS time.
        squares = deviation[known] ** 2 + (own[known] - mean) ** 2
        spread = np.sqrt(np.average(squares, weights=cells[known]))
        if spread <= least_spread(mean, wide):
            yield (
                f"feature `{name}` is {mean:.4g} in all training clouds and carries "
                "no information; remove it"
            )


def _validation(spec: Spec, train: Facts, validation: Facts) -> Iterator[str]:
    points = _total(validation, "class_points")
    if not np.any(points):
        yield (
            "no validation cloud has labels: the training loss selects the best epoch; "
            "hold a cloud out"
            if validation
            else "no validation cloud: the training loss selects the best epoch; hold "
            "a cloud out"
        )
        return
    for name, count in zip(spec.classes, points, strict=True):
        if not count:
            yield (
                f"class `{name}` has no validation points: it does not affect the "
                "choice of the best epoch"
            )
    if len(spec.classes) > 1 and np.count_nonzero(points) == 1:
        yield (
            "the validation clouds hold a single class, and a network that predicts "
            "nothing else would be perfect: the training loss selects the best epoch; "
            "validate on a cloud with all classes"
        )


CLOUD_CHECKS: list[Callable[[Spec, Clouds], Iterator[str]]] = [_overlaps, _systems]
LABELED_CHECKS: list[Callable[[Spec, Facts, Facts], Iterator[str]]] = [
    _few_points,
    _spacing,
    _densities,
    _constant_features,
    _validation,
]


def _total(clouds: Facts, name: str) -> np.ndarray:
    """Sum of an array over clouds; 0 without clouds."""
    return np.asarray(sum(getattr(cloud, name) for cloud in clouds))
