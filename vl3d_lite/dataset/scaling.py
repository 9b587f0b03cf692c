"""Scaling of features, fitted on the training clouds."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from vl3d_lite.dataset.features import required_dimensions
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.errors import DataError
from vl3d_lite.spec import Spec
from vl3d_lite.system import parse_record, read_text

logger = logging.getLogger(__name__)

FEWEST_POINTS = 100  # in fewer points a feature may be constant by chance


class _Entry(BaseModel):
    """The scaling of one feature, in bounds that float32 holds."""

    mean: Annotated[float, Field(gt=-1e30, lt=1e30)]
    std: Annotated[float, Field(gt=1e-30, lt=1e30)]


@dataclass(frozen=True)
class FeatureScaling:
    """Scales each feature to mean 0 and standard deviation 1.

    Attributes:
        names: ``C`` names.
        mean: ``(C,)`` float64.
        std: ``(C,)`` float64, positive.
    """

    names: list[str]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, clouds: list[PreparedCloud]) -> "FeatureScaling":
        """Fit the scaling to all cells of the clouds that have a value.

        A constant feature is only shifted: its `std` is 1.

        Raises:
            DataError: A feature has no value in any cloud.
        """
        names = clouds[0].feature_names
        count = sum((~np.isnan(cloud.features)).sum(axis=0) for cloud in clouds)
        empty = [name for name, n in zip(names, count, strict=True) if n == 0]
        if empty:
            raise DataError(
                f"feature `{empty[0]}` has no value in any training cloud: all are "
                "missing (no-data or NaN). Repair the clouds or remove the feature"
            )
        mean = sum(_sums(cloud.features) for cloud in clouds) / count
        squares = sum(_sums((cloud.features - mean) ** 2) for cloud in clouds)
        std = np.sqrt(squares / count)
        wide = any(cloud.features.dtype == np.float64 for cloud in clouds)
        constant = std <= least_spread(mean, wide)
        return cls(list(names), mean, np.where(constant, 1.0, std))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Scale ``(n, C)`` features; a missing value becomes 0, the training mean.

        Returns:
            ``(n, C)`` float32, finite.
        """
        if features.dtype == np.float64:
            scaled = np.empty(features.shape, np.float32)
            for column, values in enumerate(features.T):
                scaled[:, column] = (values - self.mean[column]) / self.std[column]
        else:
            scaled = features - self.mean.astype(np.float32)
            np.divide(scaled, self.std.astype(np.float32), out=scaled)
        scaled[np.isnan(scaled)] = 0
        return scaled

    def require(self, cloud: PreparedCloud) -> None:
        """Check that a cloud has these features, in this order.

        Raises:
            DataError: The cloud has other features.
        """
        if cloud.feature_names != self.names:
            raise DataError(
                f"{cloud.name}: features must be {', '.join(self.names)}, as in "
                f"training. Received: {', '.join(cloud.feature_names)}"
            )

    def constants(self, cloud: PreparedCloud) -> dict[str, float]:
        """Features that are constant in a cloud although they varied in training.

        Returns:
            Name to value; empty for clouds of fewer than 100 points.
        """
        # Points of the file, so that all grids of a cloud agree.
        if len(cloud.cell_of_point) < FEWEST_POINTS:
            return {}
        # `fmin` and `fmax` leave missing values out.
        low, high = np.fmin.reduce(cloud.features), np.fmax.reduce(cloud.features)
        wide = cloud.features.dtype == np.float64
        constant = (high - low <= least_spread(low, wide)) & (self.std != 1)
        return {self.names[i]: float(low[i]) for i in np.flatnonzero(constant)}

    def impute(self, cloud: PreparedCloud, names: Sequence[str]) -> PreparedCloud:
        """Replace features of a cloud by their training mean.

        Returns:
            The cloud, changed in place; one from the cache is replaced by another one.
        """
        columns = [self.names.index(name) for name in names]
        if columns and not cloud.features.flags.writeable:
            cloud = replace(cloud, features=cloud.features.copy())
        if columns:
            cloud.features[:, columns] = self.mean[columns]
        return cloud

    def to_json(self) -> str:
        """Convert to a JSON object: name to mean and std."""
        pairs = zip(self.names, self.mean.tolist(), self.std.tolist(), strict=True)
        return json.dumps({n: {"mean": m, "std": s} for n, m, s in pairs}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "FeatureScaling":
        """Convert back from `to_json`.

        Raises:
            DataError: The text is not of that form, a number is not finite, or a
                deviation is not positive.
        """
        try:
            entries = parse_record(text, dict[str, _Entry])
            if not entries:
                raise ValueError("it names no feature")
        except ValueError as error:
            raise DataError(
                "feature scaling must be JSON of the form "
                '{"height": {"mean": 1.5, "std": 2.0}}. Train again, or restore the '
                f"file. ({error})"
            ) from error
        mean = np.array([entry.mean for entry in entries.values()])
        std = np.array([entry.std for entry in entries.values()])
        return cls(list(entries), mean, std)

    @classmethod
    def read(cls, path: Path) -> "FeatureScaling":
        """Read ``features.json``.

        Raises:
            DataError: The file cannot be read, or is damaged.
        """
        text = read_text(path, "restore it from a copy, or train again")
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _sums(values: np.ndarray) -> np.ndarray:
    """``(C,)`` float64 sums of ``(n, C)`` values without NaN."""
    if np.isnan(values).any():
        return np.asarray(np.nansum(values, axis=0, dtype=np.float64))
    return values.sum(axis=0, dtype=np.float64)


def least_spread(level: np.ndarray, wide: bool) -> np.ndarray:
    """The least spread of a feature about a level that is no rounding error.

    Args:
        level: Values, such as means of features.
        wide: Whether features are float64.
    """
    relative = 1e-12 if wide else 1e-6
    return np.maximum(1e-6, relative * np.abs(level))


def impute_constant_features(
    source: Path,
    cloud: PreparedCloud,
    spec: Spec,
    scaling: FeatureScaling,
    *,
    warn: bool = True,
) -> PreparedCloud:
    """Replace features that a file does not hold by their training mean.

    Writers fill a dimension that they do not know with one value: a feature read from
    a LAS dimension that is constant here but varied in training is taken as missing.

    Args:
        source: The file, for the warning.
        cloud: The prepared cloud; its features are changed in place, unless it is
            mapped from the cache.
        spec: The spec of the run.
        scaling: The scaling fitted in training.
        warn: Whether to log a warning that names the features.

    Returns:
        The cloud to use.
    """
    read = {entry.name for entry in spec.features if required_dimensions([entry])}
    found = {k: v for k, v in scaling.constants(cloud).items() if k in read}
    if found and warn:
        values = ", ".join(f"`{name}` is {value:g}" for name, value in found.items())
        logger.warning(
            "%s: %s at every point, as in a file that does not hold it, but it varied "
            "in training; it is replaced by its training mean, and the classification "
            "may be less accurate",
            source,
            values,
        )
    return scaling.impute(cloud, list(found))
