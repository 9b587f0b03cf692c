"""Scaling of features, fitted on the training clouds."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.dataset.features import required_dimensions
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.spec import Spec

logger = logging.getLogger(__name__)

FEWEST_POINTS = 100


@dataclass(frozen=True)
class FeatureScaling:
    """Brings each feature to mean 0 and standard deviation 1.

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
        """Fit on all points of the clouds. A constant feature is only shifted."""
        names = clouds[0].feature_names
        count = sum(len(cloud.features) for cloud in clouds)
        mean = sum(cloud.features.sum(axis=0, dtype=np.float64) for cloud in clouds)
        mean = mean / count
        squares = sum(((cloud.features - mean) ** 2).sum(axis=0) for cloud in clouds)
        std = np.sqrt(squares / count)
        constant = std <= 1e-6 * np.maximum(1, np.abs(mean))
        return cls(list(names), mean, np.where(constant, 1.0, std))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Scaled ``(n, C)`` float32."""
        shifted = features - self.mean.astype(np.float32)
        return np.divide(shifted, self.std.astype(np.float32), out=shifted)

    def require(self, cloud: PreparedCloud) -> None:
        """Check that a cloud has these features, in this order.

        Raises:
            DataError: It has others.
        """
        if cloud.feature_names != self.names:
            raise DataError(
                f"{cloud.name}: features must be {', '.join(self.names)}, as in "
                f"training. Received: {', '.join(cloud.feature_names)}"
            )

    def constants(self, cloud: PreparedCloud) -> dict[str, float]:
        """Features of one value all over a cloud that varied in training.

        Few points may well be alike by chance: clouds of less than 100 have none.
        """
        if len(cloud.cell_of_point) < FEWEST_POINTS:  # the same on every grid
            return {}
        low, high = cloud.features.min(axis=0), cloud.features.max(axis=0)
        still = (high - low <= 1e-6 * np.maximum(1, np.abs(low))) & (self.std != 1)
        return {self.names[i]: float(low[i]) for i in np.flatnonzero(still)}

    def fill(self, cloud: PreparedCloud, names: Sequence[str]) -> None:
        """Give features of a cloud their mean of the training, in place."""
        columns = [self.names.index(name) for name in names]
        cloud.features[:, columns] = self.mean[columns]

    def to_json(self) -> str:
        """One JSON object: name to mean and std."""
        pairs = zip(self.names, self.mean.tolist(), self.std.tolist(), strict=True)
        return json.dumps({n: {"mean": m, "std": s} for n, m, s in pairs}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "FeatureScaling":
        """What `to_json` wrote.

        Raises:
            DataError: It is something else.
        """
        try:
            entries = json.loads(text)
            mean = np.array([entry["mean"] for entry in entries.values()], float)
            std = np.array([entry["std"] for entry in entries.values()], float)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "feature scaling must be JSON of the form "
                '{"height": {"mean": 1.5, "std": 2.0}}. Train again, or restore the '
                f"file. ({error})"
            ) from error
        return cls(list(entries), mean, std)


def impute_constant_features(
    source: Path,
    cloud: PreparedCloud,
    spec: Spec,
    scaling: FeatureScaling,
    *,
    warn: bool = True,
) -> None:
    """Put the mean of the training where a file carries no value of a feature.

    Args:
        source: Named in the warning.
        cloud: Its features are changed.
        spec: The run's.
        scaling: Of what the network learned from.
        warn: Whether to log a warning that names them.
    """
    read = {entry.name for entry in spec.features if required_dimensions([entry])}
    found = {k: v for k, v in scaling.constants(cloud).items() if k in read}
    if found and warn:
        told = ", ".join(f"`{name}` is {value:g}" for name, value in found.items())
        logger.warning(
            "%s: %s at every point, as where a file does not carry it, and the run "
            "learned from points where it varies: the mean of the training takes its "
            "place; expect worse classes",
            source,
            told,
        )
    scaling.fill(cloud, list(found))
