"""Kernel points on concentric shells, each a golden-angle lattice."""

import keras
import numpy as np

from vl3d_lite.errors import DeepLearningException

# Multiples of it never repeat a direction, so points of a shell keep apart.
GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))


@keras.saving.register_keras_serializable(package="vl3d_lite")
class FibonacciShellInitializer(keras.initializers.Initializer):
    """Kernel points spread evenly over concentric spheres, or circles in 2D.

    Point ``i`` of a shell of ``n`` points and radius ``r``, in 3D::

        z = 1 - (2 i + 1) / n,  t = i * golden angle
        q = r (sqrt(1 - z^2) cos t, sqrt(1 - z^2) sin t, z)

    In 2D the points of shell ``s`` are at ``2 pi i / n + s * golden angle``, so
    that shells are not aligned. A shell of radius 0 is the origin. The same
    arguments always give the same points.

    Args:
        shell_radii: Radius of each shell, in the unit of the coordinates
            (meters). Not negative, increasing.
        shell_points: Number of points on each shell, at least 1 each; exactly
            1 where the radius is 0.

    Raises:
        DeepLearningException: The lists are out of these ranges or of different
            lengths, or the requested shape is not (points, 2) or (points, 3).

    Source:
        Gonzalez, *Measurement of areas on a sphere using Fibonacci and
        latitude-longitude lattices* (2010), with ``n`` points of any parity.
        KPConvX's own code distributes its points by gradient descent.
    """

    def __init__(self, shell_radii, shell_points):
        self.shell_radii, self.shell_points = check_shells(shell_radii, shell_points)

    def __call__(self, shape, dtype=None):
        if len(shape) != 2 or shape[0] != self.mq or shape[1] not in (2, 3):
            raise DeepLearningException(
                f"kernel points of shells {self.shell_points} have the shape "
                f"({self.mq}, 2) or ({self.mq}, 3). Received: shape={tuple(shape)}"
            )
        return keras.ops.convert_to_tensor(
            self.points(shape[1]), dtype=dtype or keras.backend.floatx()
        )

    @property
    def mq(self):
        """The number of kernel points."""
        return sum(self.shell_points)

    def points(self, dimension=3):
        """Return the kernel points, ``(mq, dimension)`` float64 NumPy."""
        shells = zip(self.shell_radii, self.shell_points, strict=True)
        if dimension == 3:
            return np.concatenate([r * _unit_sphere(n) for r, n in shells])
        return np.concatenate(
            [r * _unit_circle(n, s) for s, (r, n) in enumerate(shells)]
        )

    def min_distance(self, dimension=3):
        """Return the smallest distance between two kernel points, in meters.

        Infinite for a single point. Kernel points much nearer to each other than
        the influence distance have nearly the same neighbors.
        """
        points = self.points(dimension)
        offsets = points[:, None] - points
        distances = np.linalg.norm(offsets, axis=-1)
        np.fill_diagonal(distances, np.inf)
        return float(distances.min())

    def get_config(self):
        return {"shell_radii": self.shell_radii, "shell_points": self.shell_points}


def check_shells(shell_radii, shell_points):
    """Check both lists and return them as lists of plain numbers.

    Raises:
        DeepLearningException: See `FibonacciShellInitializer`.
    """
    radii = [float(radius) for radius in np.ravel(shell_radii)]
    counts = [float(count) for count in np.ravel(shell_points)]
    received = f"Received: shell_radii={radii}, shell_points={counts}"
    if not radii or len(radii) != len(counts):
        raise DeepLearningException(
            "`shell_radii` and `shell_points` must have one entry for each shell, "
            f"at least one. {received}"
        )
    if not np.isfinite(radii).all() or radii[0] < 0 or (np.diff(radii) <= 0).any():
        raise DeepLearningException(
            f"`shell_radii` must increase from 0 or more (meters). {received}"
        )
    if any(count < 1 or not count.is_integer() for count in counts):
        raise DeepLearningException(
            f"`shell_points` must be whole numbers of at least 1. {received}"
        )
    if radii[0] == 0 and counts[0] != 1:
        raise DeepLearningException(
            f"a shell of radius 0 is the origin and has exactly 1 point. {received}"
        )
    return radii, [int(count) for count in counts]


def _unit_sphere(count):
    index = np.arange(count)
    z = 1.0 - (2.0 * index + 1.0) / count
    ring = np.sqrt(1.0 - z**2)
    angle = index * GOLDEN_ANGLE
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=-1)


def _unit_circle(count, shell):
    angle = 2.0 * np.pi * np.arange(count) / count + shell * GOLDEN_ANGLE
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
