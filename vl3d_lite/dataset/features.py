"""Per-point inputs of the network: LAS dimensions and computed features."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from vl3d_lite.clouds import PointCloud
from vl3d_lite.errors import DataError
from vl3d_lite.geometry import (
    density,
    eigenvalue_features,
    height_above_minimum,
    height_above_opening,
)
from vl3d_lite.spec import (
    COMPUTED_FEATURES,
    EIGENVALUE_FEATURES,
    FeatureSpec,
    feature_columns,
)

HEIGHT_RADIUS = 10.0  # meters; wider than a wall is from the ground beside the house
GROUND_RADIUS = 20.0  # meters; objects up to 40 m wide stand above the ground

_DIMENSIONS = {
    "return_ratio": ("return_number", "number_of_returns"),
    "relative_intensity": ("intensity",),
}
# Fewer steps of float32 within a standard deviation lose digits of a feature.
FEWEST_STEPS = 4096
SMALLEST_SPREAD = 1e-12  # of the values; less is rounding of their means in float64
_COUNTED_FROM_ONE = ("return_number", "number_of_returns")  # 0 means unknown


def required_dimensions(specs: Sequence[FeatureSpec]) -> list[str]:
    """LAS dimensions that must be read to compute the features.

    Args:
        specs: The features of the spec.

    Returns:
        Names without repetition, in the order of first use.
    """
    names: dict[str, None] = {}
    for spec in specs:
        own = () if spec.name in COMPUTED_FEATURES else (spec.name,)
        names |= dict.fromkeys(_DIMENSIONS.get(spec.name, own))
    return list(names)


def nan_dimensions(specs: Sequence[FeatureSpec]) -> frozenset[str]:
    """LAS dimensions of the features whose NaN the spec declares as missing."""
    return frozenset(required_dimensions([s for s in specs if s.nan == "missing"]))


class FeatureInput:
    """The input of a computed feature: the grid cells of a cloud.

    Args:
        cells: One point per grid cell, attributes averaged over the cell.
        grid_size: Edge of the grid cells in meters.
        threads: Threads of neighbor searches.

    Attributes:
        xyz: ``(n, 3)`` float64, meters, local frame.
        key: The key of the spec that needs the feature, for messages.
    """

    def __init__(self, cells: PointCloud, grid_size: float, threads: int) -> None:
        self.cells, self.grid_size, self.threads = cells, grid_size, threads
        self.xyz = cells.local
        self.key = ""
        self._eigenvalues: dict[float, dict[str, np.ndarray]] = {}

    def eigenvalue_feature(self, name: str, radius: float) -> np.ndarray:
        """One of the four features that share the eigenvalues of a radius."""
        if radius not in self._eigenvalues:
            self._eigenvalues[radius] = eigenvalue_features(
                self.xyz, radius, self.grid_size, self.threads
            )
        return self._eigenvalues[radius][name]

    def dimension(self, name: str) -> np.ndarray:
        """A LAS dimension, ``(n,)`` float64, NaN where a cell has no value.

        Raises:
            DataError: It is not there, has several numbers per point, or a number
                that is neither finite nor missing.
        """
        where = f"{self.cells.name or 'the cloud'}: "
        if name not in self.cells.attributes:
            raise DataError(
                f"{where}no dimension `{name}`, which {self.key} needs. It has: "
                f"{', '.join(self.cells.attributes) or 'none'}"
            )
        where += f"dimension `{name}`, which {self.key} needs, must"
        values = np.asarray(self.cells.attributes[name])
        if values.ndim != 1:
            raise DataError(
                f"{where} have one number per point. Received: {values.shape[1]} "
                "numbers per point"
            )
        values = values.astype(np.float64, copy=False)
        finite = np.abs(values) <= np.finfo(np.float32).max
        if name in self.cells.missing:
            finite |= np.isnan(values)
        if not finite.all():
            point = int(np.argmin(finite))
            raise DataError(
                f"{where} be finite. Received: {values[point]} at grid cell {point}, "
                f"and {np.count_nonzero(~finite) - 1} more. Repair the file or remove "
                "the feature"
            )
        return values


def compute_features(
    cells: PointCloud,
    specs: Sequence[FeatureSpec],
    grid_size: float,
    threads: int = 1,
) -> tuple[np.ndarray, list[str]]:
    """Compute the inputs of the network for the grid cells of a cloud.

    Args:
        cells: One point per grid cell, attributes averaged over the cell.
        specs: The features of the spec.
        grid_size: Edge of the grid cells in meters.
        threads: Threads of the neighbor search.

    Returns:
        ``(n, C)`` float32, not yet scaled, NaN where a value is missing; float64
        where float32 would lose digits, as of GPS time. And the ``C`` names, such
        as ``intensity`` or ``planarity_1.5``.

    Raises:
        DataError: A dimension is missing, has several numbers per point, or is not
            finite.
    """
    names = feature_columns(specs)
    matrix = np.empty((len(cells.local), len(names)), np.float32)
    given = FeatureInput(cells, grid_size, threads)
    column = 0
    for number, spec in enumerate(specs):
        given.key = f"features[{number}]"
        radii: Sequence[float | None] = spec.radii or [spec.radius]
        for radius in radii:
            if spec.name in COMPUTED:
                values = COMPUTED[spec.name](given, radius)
            else:
                values = _las_dimension(given, spec.name)
            if matrix.dtype == np.float32 and _loses_digits(values):
                matrix = matrix.astype(np.float64)
            matrix[:, column] = values
            column += 1
    return matrix, names


def _loses_digits(values: np.ndarray) -> bool:
    """Whether float32 has few steps within the standard deviation of values."""
    present = values[~np.isnan(values)]
    if not len(present):
        return False
    largest, deviation = np.abs(present).max(), present.std(dtype=np.float64)
    step = np.spacing(np.float32(largest))
    return bool(SMALLEST_SPREAD * largest < deviation < FEWEST_STEPS * step)


def return_ratio(
    return_number: np.ndarray, number_of_returns: np.ndarray
) -> np.ndarray:
    """Position of an echo in its pulse: ``1 / n`` for the first of n, 1 for the last.

    A 0, which means that the value is unknown, counts as 1; the result is clipped to
    0..1.

    Args:
        return_number: ``(n,)``.
        number_of_returns: ``(n,)``.

    Returns:
        ``(n,)`` float64.
    """
    return np.clip(
        np.maximum(return_number, 1) / np.maximum(number_of_returns, 1), 0, 1
    )


def relative_intensity(intensity: np.ndarray) -> np.ndarray:
    """Intensity on a logarithmic scale, independent of the gain of the sensor.

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


def _las_dimension(given: FeatureInput, name: str) -> np.ndarray:
    values = given.dimension(name)
    return np.maximum(values, 1) if name in _COUNTED_FROM_ONE else values


def _from_dimensions(
    name: str, compute: Callable, given: FeatureInput, _: float | None
) -> np.ndarray:
    return compute(*map(given.dimension, _DIMENSIONS[name]))


def _height(given: FeatureInput, radius: float | None) -> np.ndarray:
    radius = radius or HEIGHT_RADIUS
    return height_above_minimum(given.xyz, radius, given.grid_size, given.threads)


def _height_above_ground(given: FeatureInput, radius: float | None) -> np.ndarray:
    radius = radius or GROUND_RADIUS
    return height_above_opening(given.xyz, radius, given.grid_size, given.threads)


def _density(given: FeatureInput, radius: float | None) -> np.ndarray:
    assert radius is not None  # the spec requires it
    return density(given.xyz, radius, given.grid_size, given.threads)


def _vertical(given: FeatureInput, _: float | None) -> np.ndarray:
    """Zeros: the height over the center is known only in a field."""
    return np.zeros(len(given.xyz), np.float32)


def _eigenvalue_feature(
    name: str, given: FeatureInput, radius: float | None
) -> np.ndarray:
    assert radius is not None  # the spec requires it
    return given.eigenvalue_feature(name, radius)


# Name to a function of the cells and a radius that returns (n,) values. A test
# compares the names with those of the spec.
COMPUTED: dict[str, Callable[[FeatureInput, float | None], np.ndarray]] = {
    "height": _height,
    "height_above_ground": _height_above_ground,
    "return_ratio": partial(_from_dimensions, "return_ratio", return_ratio),
    "relative_intensity": partial(
        _from_dimensions, "relative_intensity", relative_intensity
    ),
    "vertical": _vertical,
    "density": _density,
    **{name: partial(_eigenvalue_feature, name) for name in EIGENVALUE_FEATURES},
}
