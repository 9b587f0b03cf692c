"""Random changes of training clouds and fields."""

from dataclasses import replace

import numpy as np

from vl3d_lite.clouds import PointCloud
from vl3d_lite.dataset.extractor import ReceptiveField
from vl3d_lite.spec import AugmentationSpec


def move_points(
    field: ReceptiveField,
    spec: AugmentationSpec,
    grid_size: float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Rotate, flip, scale and jitter a field about its center.

    Args:
        field: The field; it is not changed.
        spec: The augmentation.
        grid_size: Unit of the jitter in meters.
        rng: Random generator.

    Returns:
        For each level ``(R_l, 3)`` float32.
    """
    matrix = np.diag(1 + spec.scale * rng.uniform(-1, 1, 3))
    if spec.rotation:
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = matrix @ [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    if spec.flip and rng.random() < 0.5:
        matrix = matrix @ np.diag([-1, 1, 1])
    matrix = matrix.T.astype(np.float32)
    moved = [xyz @ matrix for xyz in field.xyz]
    if spec.jitter:
        for xyz in moved:
            noise = rng.standard_normal(xyz.shape, np.float32)
            xyz += np.float32(spec.jitter * grid_size) * noise
    return moved


def drop_neighbors(
    neighbors: list[np.ndarray], share: float, rng: np.random.Generator
) -> None:
    """Replace a random share of neighbors by -1, in place; a point keeps itself.

    Args:
        neighbors: For each level ``(R_l, K_l)`` int32, self first.
        share: Largest share in [0, 1); that of a field is uniform in [0, share).
        rng: Random generator.
    """
    field_share = rng.uniform(0, share)
    for rows in neighbors:
        drop = rng.random(rows.shape, np.float32) < field_share
        drop[:, 0] = False
        rows[drop] = -1


def change_features(
    features: np.ndarray,
    names: list[str],
    spec: AugmentationSpec,
    rng: np.random.Generator,
) -> None:
    """Shift intensities and drop features of a field, in place.

    Args:
        features: ``(R, C)`` float32, scaled: in standard deviations from the mean.
        names: ``C`` names; every name that contains "intensity" is shifted.
        spec: The augmentation.
        rng: Random generator.
    """
    if spec.intensity_shift:
        shift = np.float32(rng.uniform(-1, 1) * spec.intensity_shift)
        columns = [n for n, name in enumerate(names) if "intensity" in name.lower()]
        features[:, columns] += shift
    if spec.feature_dropout:
        features[:, rng.random(len(names)) < spec.feature_dropout] = 0


def thin(cloud: PointCloud, share: float, rng: np.random.Generator) -> PointCloud:
    """Remove a random share of the points of a cloud; at least one point remains.

    Args:
        cloud: At least one point.
        share: Largest share in [0, 1); the share itself is uniform in [0, share).
        rng: Random generator.
    """
    kept = rng.random(len(cloud)) >= rng.uniform(0, share)
    if not kept.any():
        kept[0] = True
    return cloud.select(kept)


def tilt(cloud: PointCloud, slope: float, rng: np.random.Generator) -> PointCloud:
    """Put a cloud on a slope: ``z + g . (x, y)``. Vertical lines stay vertical.

    Args:
        cloud: Any number of points.
        slope: Largest rise over run, not negative; the length of ``g`` is uniform in
            [0, slope), its direction uniform over the circle.
        rng: Random generator.
    """
    angle = rng.uniform(0, 2 * np.pi)
    gradient = rng.uniform(0, slope) * np.array([np.cos(angle), np.sin(angle)])
    local = cloud.local.copy()
    local[:, 2] += local[:, :2] @ gradient
    kept = True if cloud.excluded is None else ~cloud.excluded
    # As read from a file: nowhere negative.
    local[:, 2] -= local[:, 2].min(initial=0, where=kept)
    return replace(cloud, local=local)
