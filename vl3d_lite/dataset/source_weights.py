"""Source weights: the weight of a point as a key in envelope-gated attention."""

import logging

import numpy as np

from vl3d_lite.clouds import PointCloud
from vl3d_lite.dataset.features import required_dimensions
from vl3d_lite.errors import DataError
from vl3d_lite.spec import SourceWeightsSpec, Spec

logger = logging.getLogger(__name__)


def dimensions_to_read(spec: Spec) -> dict[str, str]:
    """The LAS dimensions that a run reads, and the key of the spec that needs each.

    Returns:
        Name to ``features`` or ``model.source_weights``, in the order of first use.
    """
    names = dict.fromkeys(required_dimensions(spec.features), "features")
    if spec.model.source_weights is not None:
        names.setdefault(spec.model.source_weights.dimension, "model.source_weights")
    return names


def point_weights(cloud: PointCloud, spec: SourceWeightsSpec) -> np.ndarray:
    """The source weight of each point, from a LAS dimension.

    With `zero_weight_values` it is 0 where the dimension has one of these values and
    1 elsewhere; without, it is the value of the dimension.

    Args:
        cloud: Any number of points.
        spec: The section of the spec with the dimension and its values.

    Returns:
        ``(n,)`` float32, finite, not negative.

    Raises:
        DataError: The dimension is missing, has several numbers per point, or,
            without `zero_weight_values`, has a negative or infinite value or NaN.
    """
    name = spec.dimension
    where = f"{cloud.name or 'the cloud'}: dimension `{name}`, `model.source_weights`,"
    if name not in cloud.attributes:
        raise DataError(
            f"{where} is missing. The cloud has: "
            f"{', '.join(cloud.attributes) or 'none'}"
        )
    values = np.asarray(cloud.attributes[name])
    if values.ndim != 1:
        raise DataError(
            f"{where} must have one number per point. Received: {values.shape[1]} "
            "numbers per point"
        )
    if spec.zero_weight_values is not None:
        weights = np.where(np.isin(values, spec.zero_weight_values), 0, 1).astype(
            np.float32
        )
    else:
        fits = (values >= 0) & (values <= np.finfo(np.float32).max)
        if cloud.excluded is not None:
            fits |= cloud.excluded
        if not fits.all():
            point = int(np.argmin(fits))
            raise DataError(
                f"{where} must be finite and not negative. Received: {values[point]} "
                f"at point {point}, and {np.count_nonzero(~fits) - 1} more. Repair "
                "the file, or list the values of weight 0 in "
                "`model.source_weights.zero_weight_values`"
            )
        weights = values.astype(np.float32)
    report_weightless(cloud.name, weights, spec)
    return weights


def report_weightless(
    name: str, weights: np.ndarray | None, section: SourceWeightsSpec | None
) -> None:
    """Warn where every point or cell of a cloud has the source weight 0.

    Args:
        name: Name of the cloud.
        weights: ``(n,)``; None where the spec has none.
        section: The section of the spec; None where there is none.
    """
    if weights is not None and section and len(weights) and not weights.any():
        logger.warning(
            "%s: dimension `%s`, `model.source_weights`, gives every point the weight "
            "0; attention has no keys there",
            name or "the cloud",
            section.dimension,
        )
