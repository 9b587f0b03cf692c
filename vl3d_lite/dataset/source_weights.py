"""How much each point of a cloud may say to others in envelope-gated attention."""

import logging

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.features import required_dimensions
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.blocks import SourceWeightsSpec
from vl3d_lite.spec.schema.spec import Spec

logger = logging.getLogger(__name__)


def dimensions_to_read(spec: Spec) -> dict[str, str]:
    """LAS dimensions that a run needs of each cloud, and the key that asks for them.

    Returns:
        Name to ``features`` or ``model.source_weights``, in the order of need.
    """
    names = dict.fromkeys(required_dimensions(spec.features), "features")
    if spec.model.source_weights is not None:
        names.setdefault(spec.model.source_weights.dimension, "model.source_weights")
    return names


def point_weights(cloud: PointCloud, spec: SourceWeightsSpec) -> np.ndarray:
    """Source weight of each point: a dimension, or 0 where its value mutes.

    Args:
        cloud: Any number of points.
        spec: The dimension, and which of its values mean weight 0.

    Returns:
        ``(n,)`` float32, finite, not negative.

    Raises:
        DataError: The dimension is missing, not one number a point, or, without
            `zero_weight_values`, negative or not finite somewhere.
    """
    name = spec.dimension
    place = f"{cloud.name or 'the cloud'}: dimension `{name}`, `model.source_weights`,"
    if name not in cloud.attributes:
        raise DataError(
            f"{place} is missing. The cloud has: "
            f"{', '.join(cloud.attributes) or 'none'}"
        )
    values = np.asarray(cloud.attributes[name])
    if values.ndim != 1:
        raise DataError(
            f"{place} must have one number a point. Received: {values.shape[1]} "
            "numbers a point"
        )
    if spec.zero_weight_values is not None:
        weights = np.where(np.isin(values, spec.zero_weight_values), 0, 1).astype(
            np.float32
        )
    else:
        fits = (values >= 0) & (values <= np.finfo(np.float32).max)
        if not fits.all():
            point = int(np.argmin(fits))
            raise DataError(
                f"{place} must be finite and not negative. Received: {values[point]} "
                f"at point {point}, and {np.count_nonzero(~fits) - 1} more. Repair "
                "the file, or name the values that mean 0 in "
                "`model.source_weights.zero_weight_values`"
            )
        weights = values.astype(np.float32)
    if len(weights) and not weights.any():
        logger.warning(
            "%s gives every point the weight 0; attention sees nothing there", place
        )
    return weights
