"""Shape and density of the neighborhood of a point, from a k-d tree."""

import numpy as np
from scipy.spatial import KDTree

SHAPES = ("linearity", "planarity", "verticality", "curvature")
NEIGHBORS = 32  # a plane sampled at a third of the radius has 28 in the disk
CHUNK = 32_768  # points per step: (CHUNK, 32, 3) takes 25 MB


def density(
    xyz: np.ndarray, radius: float, grid_size: float, threads: int = 1
) -> np.ndarray:
    """Logarithm of the occupancy of the neighborhood of a point.

    For the ``n`` grid cells within a sphere of `radius`, itself included::

        y = ln(n / max(1, pi radius^2 / grid_size^2))

    It is 0 on a flat surface that is scanned without gaps, positive in volumes, and
    negative at edges, on wires and where the scan is sparse.

    Args:
        xyz: ``(n, 3)`` float64 in meters.
        radius: Radius of the sphere in meters.
        grid_size: Edge of the grid cells in meters.
        threads: Threads of the search.

    Returns:
        ``(n,)`` float64.
    """
    if not len(xyz):
        return np.zeros(0)
    tree = KDTree(xyz, balanced_tree=False)
    count = tree.query_ball_point(xyz, radius, workers=threads, return_length=True)
    return np.log(count / max(1.0, np.pi * (radius / grid_size) ** 2))


def eigenvalue_features(
    xyz: np.ndarray, radius: float, grid_size: float, threads: int = 1
) -> dict[str, np.ndarray]:
    """Shape of the neighborhood of a point, from the eigenvalues of its covariance.

    For eigenvalues ``l1 >= l2 >= l3`` and the normal ``n`` (direction of l3)::

        linearity    (l1 - l2) / l1
        planarity    (l2 - l3) / l1
        curvature    l3 / (l1 + l2 + l3)
        verticality  1 - |n_z|

    The neighbors are the 32 nearest within `radius` among the means of voxels
    whose edge is a third of it, or among the grid cells where these are larger.
    A wide radius thus costs no more than a small one and still covers all of a
    surface. All four features are 0 with fewer than three neighbors, the point
    included, or where all have the same coordinates. On a line the normal is not
    unique: n_z is then its root mean square over all normals, and ``sqrt(1/3)``
    where no direction is distinguished.

    Args:
        xyz: ``(n, 3)`` float64 in meters.
        radius: Radius of the neighborhood in meters.
        grid_size: Edge of the grid cells in meters.
        threads: Threads of the search.

    Returns:
        Name to ``(n,)`` float32, all within 0..1.

    Source:
        Weinmann et al., *Semantic point cloud interpretation based on optimal
        neighborhoods* (2015), for linearity and planarity; Hackel et al.,
        *Fast semantic segmentation of 3D point clouds* (2016), for change of
        curvature, verticality and coarser supports at wider radii. Weinmann
        takes all neighbors within the radius, Hackel a fixed number.
    """
    shape = {name: np.zeros(len(xyz), np.float32) for name in SHAPES}
    if not len(xyz):
        return shape
    support = xyz if radius <= 3 * grid_size else _voxel_means(xyz, radius / 3)
    tree = KDTree(support, balanced_tree=False)
    k = min(NEIGHBORS, len(support))
    padded = np.vstack(
        [support, np.zeros(3)]
    )  # the tree returns n for missing neighbors

    for first in range(0, len(xyz), CHUNK):
        points = xyz[first : first + CHUNK]
        distance, index = tree.query(
            points, np.arange(1, k + 1), distance_upper_bound=radius, workers=threads
        )
        present = np.isfinite(distance)
        offsets = np.where(present[..., None], padded[index] - points[:, None], 0.0)
        values = _shape_features(offsets, present.sum(axis=1))
        for name in SHAPES:
            shape[name][first : first + CHUNK] = values[name]
    return shape


def _voxel_means(xyz: np.ndarray, edge: float) -> np.ndarray:
    voxel = np.floor(xyz / edge).astype(np.int64)
    voxel -= voxel.min(axis=0)
    shape = tuple(voxel.max(axis=0) + 1)
    key = np.ravel_multi_index(tuple(voxel.T), shape)
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    counts = np.diff(starts, append=len(xyz))
    return np.add.reduceat(xyz[order], starts, axis=0) / counts[:, None]


def _shape_features(offsets: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """Features of ``(m, k, 3)`` offsets, zero where missing, and ``(m,)`` counts."""
    n = np.maximum(count, 1)
    x, y, z = np.moveaxis(offsets, -1, 0)
    mx, my, mz = (values.sum(axis=1) / n for values in (x, y, z))

    def moment(a, b, mean_a, mean_b):
        return np.einsum("mk,mk->m", a, b) / n - mean_a * mean_b

    xx, yy, zz = moment(x, x, mx, mx), moment(y, y, my, my), moment(z, z, mz, mz)
    xy, xz, yz = moment(x, y, mx, my), moment(x, z, mx, mz), moment(y, z, my, mz)
    trace = xx + yy + zz
    known = (count >= 3) & (trace > 1e-12)
    scale = np.where(known, trace, 1.0)  # eigenvalues of a unit trace
    xx, yy, zz, xy, xz, yz = (value / scale for value in (xx, yy, zz, xy, xz, yz))
    l1, l2, l3 = _eigenvalues(xx, yy, zz, xy, xz, yz)

    def squared_z(own, other, third):
        """Squared z of the eigenvector of `own`, from the minor's eigenvalues."""
        gap = (own - other) * (own - third)
        minor = (own - xx) * (own - yy) - xy**2
        return np.clip(minor / np.where(np.abs(gap) > 1e-9, gap, np.inf), 0, 1)

    line = l2 - l3 < 1e-5
    ball = line & (l1 - l2 < 1e-5)
    nz2 = np.where(line, (1 - squared_z(l1, l2, l3)) / 2, squared_z(l3, l1, l2))
    nz2 = np.where(ball, 1 / 3, nz2)
    largest = np.where(known, np.maximum(l1, 1e-9), 1.0)
    values = {
        "linearity": (l1 - l2) / largest,
        "planarity": (l2 - l3) / largest,
        "verticality": 1 - np.sqrt(nz2),
        "curvature": l3,
    }
    return {
        name: np.where(known, np.clip(value, 0, 1), 0.0)
        for name, value in values.items()
    }


def _eigenvalues(
    xx: np.ndarray,
    yy: np.ndarray,
    zz: np.ndarray,
    xy: np.ndarray,
    xz: np.ndarray,
    yz: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of symmetric 3 x 3 matrices, descending (Smith, 1961).

    The closed form is several times faster than `numpy.linalg.eigvalsh`.
    """
    mean = (xx + yy + zz) / 3
    off = xy**2 + xz**2 + yz**2
    a, b, c = xx - mean, yy - mean, zz - mean
    p = np.sqrt(np.maximum((a**2 + b**2 + c**2 + 2 * off) / 6, 0.0))
    det = a * (b * c - yz**2) - xy * (xy * c - yz * xz) + xz * (xy * yz - b * xz)
    ratio = np.clip(det / np.maximum(2 * p**3, 1e-30), -1, 1)
    angle = np.arccos(ratio) / 3
    l1 = mean + 2 * p * np.cos(angle)
    l3 = mean + 2 * p * np.cos(angle + 2 * np.pi / 3)
    return l1, 3 * mean - l1 - l3, l3
