"""Per-point inputs of the network: LAS dimensions and computed features."""

from collections.abc import Sequence

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.errors import DataError
from vl3d_lite.geometry.eigenvalues import density, eigenvalue_features
from vl3d_lite.geometry.height import height_above_minimum, height_above_opening
from vl3d_lite.spec.schema.clouds import (
    COMPUTED_FEATURES,
    EIGENVALUE_FEATURES,
    FeatureSpec,
    feature_columns,
)

HEIGHT_RADIUS = 10.0  # wider than a house's wall is from its own ground
GROUND_RADIUS = 20.0  # objects of up to 40 m width stand above the ground

_DIMENSIONS = {
    "return_ratio": ("return_number", "number_of_returns"),
    "relative_intensity": ("intensity",),
}
_COUNTED_FROM_ONE = ("return_number", "number_of_returns")  # 0 says: not known


def required_dimensions(specs: Sequence[FeatureSpec]) -> list[str]:
    """LAS dimensions that must be read to compute the features.

    Args:
        specs: Features as the spec names them.

    Returns:
        Names without repetition, in the order of first need.
    """
    names = {}
    for spec in specs:
        own = () if spec.name in COMPUTED_FEATURES else (spec.name,)
        names |= dict.fromkeys(_DIMENSIONS.get(spec.name, own))
    return list(names)


def compute_features(
    cells: PointCloud,
    specs: Sequence[FeatureSpec],
    grid_size: float,
    threads: int = 1,
) -> tuple[np.ndarray, list[str]]:
    """Compute the inputs of the network for the grid cells of a cloud.

    Args:
        cells: One point a grid cell, attributes averaged over the cell.
        specs: Features as the spec names them.
        grid_size: Edge of the grid cells in meters.
        threads: Threads of the neighbor search.

    Returns:
        ``(n, C)`` float32, finite, not yet scaled; and the ``C`` names, such as
        ``intensity`` or ``planarity_1.5``.

    Raises:
        DataError: A dimension is missing, not one number a point, or not finite.
    """
    xyz = cells.local
    shapes: dict[float, dict[str, np.ndarray]] = {}
    names = feature_columns(specs)
    matrix = np.empty((len(xyz), len(names)), np.float32)
    column = 0
    for number, spec in enumerate(specs):
        for radius in spec.radii or [spec.radius]:
            if spec.name in EIGENVALUE_FEATURES:
                if radius not in shapes:
                    shapes[radius] = eigenvalue_features(
                        xyz, radius, grid_size, threads
                    )
                values = shapes[radius][spec.name]
            elif spec.name == "height":
                values = height_above_minimum(
                    xyz, radius or HEIGHT_RADIUS, grid_size, threads
                )
            elif spec.name == "height_above_ground":
                values = height_above_opening(
                    xyz, radius or GROUND_RADIUS, grid_size, threads
                )
            elif spec.name == "density":
                values = density(xyz, radius, grid_size, threads)
            elif spec.name == "vertical":
                values = np.zeros(len(xyz), np.float32)
            else:
                values = _from_dimensions(cells, spec.name, number)
            matrix[:, column] = values
            column += 1
    return matrix, names


def return_ratio(return_number, number_of_returns) -> np.ndarray:
    """Place of an echo in its pulse: 1 for the last, ``1 / n`` for the first of n.

    A 0, which says that a file does not know, counts as 1; the result is cut to 0..1.
    """
    return np.clip(
        np.maximum(return_number, 1) / np.maximum(number_of_returns, 1), 0, 1
    )


def relative_intensity(intensity) -> np.ndarray:
    """Intensity free of the sensor's gain, on a scale of logarithms.

    For the median ``m`` of the cloud's positive intensities::

        y = ln(1 + max(I, 0) / m) - ln 2

    0 at the median, never below -ln 2, and unchanged when all intensities are
    multiplied by a factor. A cloud without positive intensity gets zeros.
    """
    positive = intensity[intensity > 0]
    if not len(positive):
        return np.zeros(len(intensity))
    relative = np.maximum(intensity, 0) / np.median(positive)
    return np.log1p(relative) - np.log(2)


def _from_dimensions(cells: PointCloud, name: str, number: int) -> np.ndarray:
    dimensions = [
        _dimension(cells, dimension, number)
        for dimension in _DIMENSIONS.get(name, (name,))
    ]
    if name == "return_ratio":
        return return_ratio(*dimensions)
    if name == "relative_intensity":
        return relative_intensity(*dimensions)
    if name in _COUNTED_FROM_ONE:
        return np.maximum(dimensions[0], 1)
    return dimensions[0]


def _dimension(cells: PointCloud, dimension: str, number: int) -> np.ndarray:
    where = cells.name or "the cloud"
    if dimension not in cells.attributes:
        raise DataError(
            f"{where}: no dimension `{dimension}`, which features[{number}] needs. "
            f"It has: {', '.join(cells.attributes) or 'none'}"
        )
    values = np.asarray(cells.attributes[dimension])
    if values.ndim != 1:
        raise DataError(
            f"{where}: dimension `{dimension}`, which features[{number}] needs, must "
            f"have one number a point. Received: {values.shape[1]} numbers a point"
        )
    values = values.astype(np.float64, copy=False)
    finite = np.isfinite(values) & (np.abs(values) <= np.finfo(np.float32).max)
    if not finite.all():
        point = int(np.argmin(finite))
        raise DataError(
            f"{where}: dimension `{dimension}`, which features[{number}] needs, must "
            f"be finite. Received: {values[point]} at point {point} of the grid cells, "
            f"and {np.count_nonzero(~finite) - 1} more. Repair the file or drop the "
            "feature"
        )
    return values
