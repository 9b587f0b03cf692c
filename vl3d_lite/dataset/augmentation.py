"""Random changes of training fields."""

from dataclasses import replace

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.extractor import ReceptiveField
from vl3d_lite.spec.schema.training import AugmentationSpec


def move_points(
    field: ReceptiveField,
    spec: AugmentationSpec,
    grid_size: float,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Turn, mirror, scale and jitter a field about its center.

    Args:
        field: The field; it is left as it is.
        spec: What to do.
        grid_size: Unit of the jitter in meters.
        rng: Draws the changes.

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
    """Make a random share of neighbors missing, in place; never a point itself.

    Args:
        neighbors: For each level ``(R_l, K_l)`` int32, self first.
        share: Largest share; each field draws its own between zero and this.
        rng: Draws the share and the neighbors.
    """
    own = rng.uniform(0, share)
    for rows in neighbors:
        drop = rng.random(rows.shape, np.float32) < own
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
        features: ``(R, C)`` float32 scaled: zero is a feature's mean, one its
            standard deviation.
        names: ``C`` names; intensities are those that say so.
        spec: What to do.
        rng: Draws the changes.
    """
    if spec.intensity_shift:
        shift = np.float32(rng.uniform(-1, 1) * spec.intensity_shift)
        columns = [n for n, name in enumerate(names) if "intensity" in name.lower()]
        features[:, columns] += shift
    if spec.feature_dropout:
        features[:, rng.random(len(names)) < spec.feature_dropout] = 0


def thin(cloud: PointCloud, share: float, rng: np.random.Generator) -> PointCloud:
    """A cloud without a random share of its points, at least one of which stays.

    Args:
        cloud: At least one point.
        share: Largest share left out, in [0, 1); the share itself is drawn
            between zero and this.
        rng: Draws the share and the points.
    """
    stays = rng.random(len(cloud)) >= rng.uniform(0, share)
    if not stays.any():
        stays[0] = True
    return cloud.select(stays)


def tilt(cloud: PointCloud, slope: float, rng: np.random.Generator) -> PointCloud:
    """A cloud on a slope: ``z + g . (x, y)``, so upright things stay upright.

    Args:
        cloud: Any number of points.
        slope: Largest rise over run, not negative; that of ``g`` is drawn between
            zero and this, its direction from all around.
        rng: Draws ``g``.
    """
    angle = rng.uniform(0, 2 * np.pi)
    gradient = rng.uniform(0, slope) * np.array([np.cos(angle), np.sin(angle)])
    local = cloud.local.copy()
    local[:, 2] += local[:, :2] @ gradient
    local[:, 2] -= local[:, 2].min(initial=0)  # cells count from zero
    return replace(cloud, local=local)
