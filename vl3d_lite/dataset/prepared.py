"""Prepared clouds: reduced to grid cells, with features and a hierarchy."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vl3d_lite.clouds import Frame, PointCloud
from vl3d_lite.dataset.exclusion import fill_excluded
from vl3d_lite.dataset.features import (
    compute_features,
    nan_dimensions,
    required_dimensions,
)
from vl3d_lite.dataset.source_weights import point_weights
from vl3d_lite.errors import DataError
from vl3d_lite.geometry import (
    Cells,
    Hierarchy,
    build_hierarchy,
    grid_cells,
    run_means,
    run_means_of_present,
)
from vl3d_lite.spec import Spec

VERTICAL_BLOCK = 64  # cells along an edge of a block where fields have no radius


@dataclass(frozen=True)
class Stored:
    """What is stored with a prepared cloud, and would otherwise be held in memory.

    Attributes:
        key: Key of the cloud in the cache.
        axes: ``(3, N)`` float64, the coordinates of the finest level axis by axis.
    """

    key: str
    axes: np.ndarray


@dataclass(frozen=True)
class PreparedCloud:
    """A cloud reduced to grid cells, from which receptive fields are extracted.

    Attributes:
        name: Name of the cloud.
        origin: ``(3,)`` float64, meters, origin of the local frame.
        hierarchy: The levels; the finest has ``N`` points.
        features: ``(N, C)`` float32, not scaled; float64 where float32 would lose
            digits. NaN where a cell has no value. The column of ``vertical``
            holds the height over the mean of a field-sized block, to which the
            scaling is fitted; each field replaces it by its own heights.
        feature_names: ``C`` names.
        labels: ``(N,)`` int32 class indices; -1 ignored or unlabeled.
        cell_of_point: ``(n,)`` int32, the cell of each point of the file; of an
            excluded point the nearest cell.
        point_counts: ``(N,)`` int32, points in each cell, without excluded ones.
        source_weights: ``(N,)`` float32, not negative, the mean of a cell's
            points; None where the spec has none.
        grid: Number of the grid.
        excluded: ``(n,)`` bool, points that are in no cell; None for none.
        point_labels: ``(n,)`` int16 class index of each point of the file; -1
            ignored or unlabeled.
        meters_per_unit: ``(3,)`` float64, meters in one unit of the file.
        crs: Name of the file's reference system; empty where it has none.
        stored: What was stored with a cloud from the cache, whose arrays are mapped
            into memory and read-only; None for one that is held in memory.
    """

    name: str
    origin: np.ndarray
    hierarchy: Hierarchy
    features: np.ndarray
    feature_names: list[str]
    labels: np.ndarray
    cell_of_point: np.ndarray
    point_counts: np.ndarray
    point_labels: np.ndarray
    source_weights: np.ndarray | None = None
    grid: int = 0
    excluded: np.ndarray | None = None
    meters_per_unit: np.ndarray = field(default_factory=lambda: np.ones(3))
    crs: str = ""
    stored: "Stored | None" = None

    @property
    def frame(self) -> Frame:
        """The place of the cloud in its file, and the file's own unit."""
        return Frame(self.origin, self.meters_per_unit, self.crs)

    @property
    def xyz(self) -> np.ndarray:
        """``(N, 3)`` float64 points of the finest level, local frame."""
        return self.hierarchy.levels[0].xyz


def reduce_cloud(cloud: PointCloud, grid_size: float) -> tuple[PointCloud, np.ndarray]:
    """Reduce a cloud to one point per grid cell.

    The point of a cell is the mean of its points, its attributes are the means of
    their values present, and its label is the most frequent class of the labeled ones
    (ties: the lowest index). Excluded points are in no cell.

    Args:
        cloud: At least one point.
        grid_size: Edge of a cell in meters.

    Returns:
        The cells as a cloud, in the order of their Morton keys, and the
        ``(n,)`` int32 cell of each point, of an excluded point the nearest one.

    Raises:
        DataError: The cloud is empty or all its points are excluded, a coordinate is
            not finite, or the cloud is too large for the grid.
    """
    cells, reduced = _reduce(cloud, grid_size, np.zeros(3), cloud.missing)
    return reduced, cells.cell_of_point


def grid_shift(spec: Spec, grid: int) -> np.ndarray:
    """The offset of a grid: the random shift of all but the first.

    Args:
        spec: The spec with the seed and the stages. A shift is less than an edge of
            the coarsest cells, so that these move as well.
        grid: Number of the grid; grid 0 has no shift.

    Returns:
        ``(3,)`` meters, not negative.
    """
    if not grid:
        return np.zeros(3)
    return np.random.default_rng([spec.seed, grid]).random(3) * spec.spacings[-1]


def _reduce(
    cloud: PointCloud,
    grid_size: float,
    shift: np.ndarray,
    missing: frozenset[str],
    threads: int = 1,
) -> tuple[Cells, PointCloud]:
    cells = _cells(cloud, grid_size, shift)
    # One axis at a time: the ordered copy of a large cloud stays small.
    local = np.stack(
        [run_means(axis[cells.order], cells.starts) for axis in cloud.local.T], axis=1
    )
    attributes = {}
    with np.errstate(over="ignore", invalid="ignore"):  # features are checked
        for name, values in cloud.attributes.items():
            means = run_means_of_present if name in missing else run_means
            attributes[name] = means(values[cells.order], cells.starts)
    labels = cloud.labels
    if cloud.excluded is not None:
        labels = np.where(cloud.excluded, -1, labels)
        fill_excluded(cells.cell_of_point, cloud.local, cloud.excluded, local, threads)
    reduced = PointCloud(
        local=local,
        origin=cloud.origin,
        attributes=attributes,
        labels=_majority(labels, cells.cell_of_point, len(cells.keys)),
        name=cloud.name,
        missing=missing,
    )
    return cells, reduced


def _cells(cloud: PointCloud, grid_size: float, shift: np.ndarray) -> Cells:
    """The cells of the points; an excluded point is in none and has the cell -1."""
    if len(cloud.local) == 0:
        raise DataError(f"{cloud.name}: the cloud has no points")
    excluded = cloud.excluded
    local = cloud.local if excluded is None else cloud.local[~excluded]
    if len(local) == 0:
        raise DataError(
            f"{cloud.name}: all {len(cloud):,} points are excluded by `excluded_points`"
        )
    if shift.any() and excluded is None:
        local = local + shift
    elif shift.any():
        local += shift  # a copy of its own
    try:
        cells = grid_cells(local, grid_size)
    except DataError as error:
        raise DataError(f"{cloud.name}: {error}") from error
    if excluded is None:
        return cells
    rows = np.flatnonzero(~excluded)
    cell_of_point = np.full(len(cloud), -1, np.int32)
    cell_of_point[rows] = cells.cell_of_point
    return cells._replace(cell_of_point=cell_of_point, order=rows[cells.order])


def _majority(labels: np.ndarray, cell_of_point: np.ndarray, count: int) -> np.ndarray:
    best = np.full(count, -1, np.int32)
    most = np.zeros(count, np.int64)
    for label in range(int(labels.max(initial=-1)) + 1):
        votes = np.bincount(cell_of_point[labels == label], minlength=count)
        wins = votes > most
        best[wins] = label
        most[wins] = votes[wins]
    return best


def prepare_cloud(
    cloud: PointCloud,
    spec: Spec,
    *,
    grid: int = 0,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedCloud:
    """Reduce a cloud, compute its features and build its hierarchy.

    Args:
        cloud: At least one point.
        spec: The spec of the run.
        grid: Number of the grid; each has its own shift (see `grid_shift`).
        threads: Threads that search neighbors.
        progress: Called with (points searched so far, points of all levels).

    Raises:
        DataError: The cloud is empty or too large for the grid, a coordinate or a
            feature is not finite, or a source weight is negative.
    """
    weights = None
    if spec.model.source_weights is not None:
        weights = point_weights(cloud, spec.model.source_weights)
    missing = cloud.missing | nan_dimensions(spec.features)
    cells, reduced = _reduce(
        cloud, spec.fields.grid_size, grid_shift(spec, grid), missing, threads
    )
    if weights is not None:
        # From points, not from cells: a mean of class codes is no class code.
        weights = run_means(weights[cells.order], cells.starts).astype(np.float32)
    _require_finite(cloud, reduced, required_dimensions(spec.features))
    features, names = compute_features(
        reduced, spec.features, spec.fields.grid_size, threads
    )
    if "vertical" in names:
        features[:, names.index("vertical")] = _vertical(reduced.local, spec)
    hierarchy = _hierarchy(reduced.local, cells.keys, spec, threads, progress)
    return PreparedCloud(
        name=cloud.name,
        origin=np.asarray(cloud.origin),
        hierarchy=hierarchy,
        features=features,
        feature_names=list(names),
        labels=reduced.labels,
        cell_of_point=cells.cell_of_point,
        point_counts=np.diff(cells.starts, append=len(cells.order)).astype(np.int32),
        point_labels=cloud.labels.astype(np.int16),
        source_weights=weights,
        grid=grid,
        excluded=cloud.excluded,
        meters_per_unit=cloud.meters_per_unit,
        crs=cloud.crs,
    )


def _hierarchy(
    xyz: np.ndarray,
    keys: np.ndarray,
    spec: Spec,
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> Hierarchy:
    stages = spec.model.stages
    # With farthest-point sampling each field searches its own neighbors.
    searched = spec.fields.sampling == "grid"
    between = spec.fields.interlevel_neighbors if searched else "parents"
    return build_hierarchy(
        xyz,
        keys,
        [stage.neighbors if searched else 1 for stage in stages],
        radii=[stage.neighbor_radius for stage in stages],
        interlevel_neighbors=between,
        interpolate=searched and spec.model.upsampling == "interpolated",
        threads=threads,
        progress=progress,
    )


def _vertical(local: np.ndarray, spec: Spec) -> np.ndarray:
    """Heights over the mean of horizontal blocks of the size of a field."""
    reach = spec.fields.reach
    edge = VERTICAL_BLOCK * spec.fields.grid_size if reach is None else 2 * reach
    corners = np.floor(local[:, :2] / edge).astype(np.int64)
    corners -= corners.min(axis=0)
    # One number per block: `np.unique` is slow on rows.
    numbers = corners[:, 0] * (corners[:, 1].max() + 1) + corners[:, 1]
    block = np.unique(numbers, return_inverse=True)[1]
    means = np.bincount(block, local[:, 2]) / np.bincount(block)
    return local[:, 2] - means[block]


def _require_finite(cloud: PointCloud, cells: PointCloud, names: list[str]) -> None:
    """Raise a `DataError` that names the first point with a value not finite."""
    largest = np.finfo(np.float32).max  # the network's inputs are float32
    for name in names:
        if name not in cells.attributes:
            continue
        values = cells.attributes[name]
        present = np.isnan(values) if name in cells.missing else False
        if ((np.abs(values) <= largest) | present).all():
            continue
        values = np.asarray(cloud.attributes[name])
        fits = np.abs(values) <= largest
        if name in cells.missing:
            fits |= np.isnan(values)
        if cloud.excluded is not None:
            fits |= cloud.excluded
        odd = np.flatnonzero(~fits)
        remedy = "Repair the file or remove the feature"
        if np.isnan(values[odd[0]]):
            remedy += ", or set its key `nan: missing`"
        raise DataError(
            f"{cloud.name}: dimension `{name}`, a feature, must be finite. "
            f"Received: {values[odd[0]]} at point {odd[0]}, and {len(odd) - 1} "
            f"more. {remedy}"
        )
