"""Convex solids as sets of planes, with their intersections with pulses."""

from dataclasses import dataclass

import numpy as np

GROUND, VEGETATION, BUILDING, OTHER = 2, 5, 6, 1  # ASPRS codes


@dataclass(frozen=True)
class Solid:
    """The points ``p`` with ``normals @ (p - center) <= offsets``.

    Args:
        center: ``(3,)``.
        normals: ``(m, 3)``, unit, outward.
        offsets: ``(m,)``.
        radius: Radius of a sphere around the center that contains the solid.
        code: ASPRS class; vegetation is split into height bands later.
        reflectance: 0 to 1, at the scanner's wavelength.
        free_path: Mean distance in m of a pulse between two leaves; 0 for an opaque
            solid.
    """

    center: np.ndarray
    normals: np.ndarray
    offsets: np.ndarray
    radius: float
    code: int
    reflectance: float
    free_path: float = 0.0

    def cross(self, origins, directions):
        """Ranges at which rays enter and leave the solid.

        For a ray that misses the solid, the entry is behind the exit.

        Args:
            origins, directions: ``(n, 3)``; directions are unit vectors.

        Returns:
            Range of entry, range of exit, cosine of incidence at the entry.
        """
        speed = directions @ self.normals.T  # (n, m)
        distance = self.offsets - (origins - self.center) @ self.normals.T
        with np.errstate(divide="ignore", invalid="ignore"):
            ranges = distance / speed
        entries = np.where(speed < 0, ranges, -np.inf)
        face = entries.argmax(axis=1)
        row = np.arange(len(face))
        leave = np.where(speed >= 0, ranges, np.inf).min(axis=1)
        return entries[row, face], leave, -speed[row, face]


def solid(x, y, z, yaw, faces, radius, **looks):
    """A solid from ``faces`` (nx, ny, nz, offset) in a frame rotated by `yaw`."""
    faces = np.asarray(faces, dtype=float)
    faces = faces / np.linalg.norm(faces[:, :3], axis=1, keepdims=True)
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    center = np.array([x, y, z])
    return Solid(center, faces[:, :3] @ turn, faces[:, 3], radius, **looks)


def box(x, y, z, yaw, length, width, height, **looks):
    """A box with its bottom at ``z``."""
    faces = [(1, 0, 0, length / 2), (-1, 0, 0, length / 2), (0, 0, 1, height)]
    faces += [(0, 1, 0, width / 2), (0, -1, 0, width / 2), (0, 0, -1, 0)]
    radius = np.sqrt(length**2 / 4 + width**2 / 4 + height**2)
    return solid(x, y, z, yaw, faces, radius, **looks)


def roof(x, y, z, yaw, length, width, shape, pitch, **looks):
    """A gable, hip or shed roof over eaves at ``z``; a shed roof has half the slope."""
    half, rise = (length / 2, width / 2), np.tan(pitch)
    faces = [(0, 0, -1, 0)]
    if shape == "shed":
        faces += [(0, rise / 2, 1, rise / 2 * half[1]), (0, -1, 0, half[1])]
    else:
        faces += [(0, side * rise, 1, rise * half[1]) for side in (1, -1)]
    for end in (1, -1):
        hip = end * rise, 0, 1, rise * half[0]
        faces.append(hip if shape == "hip" else (end, 0, 0, half[0]))
    radius = np.hypot(*half) * np.sqrt(1 + rise**2)
    return solid(x, y, z, yaw, faces, radius, **looks)


def crown(rng, x, y, z, radius, height, shape, **looks):
    """An irregular crown with its bottom at ``z``: a ``cone`` or an ellipsoid."""
    if shape == "cone":
        turns = 2 * np.pi * np.arange(11) / 11
        slant = np.full(11, radius / height)
        sides = np.cos(turns), np.sin(turns), slant, np.full(11, radius)
        faces = np.vstack([np.stack(sides, axis=1), (0, 0, -1, 0)])
    else:
        k = np.arange(32) + 0.5  # a Fibonacci sphere
        up, turns = 1 - k / 16, k * np.pi * (3 - np.sqrt(5))
        flat = np.sqrt(1 - up**2)
        normals = np.stack([flat * np.cos(turns), flat * np.sin(turns), up], axis=1)
        reach = np.linalg.norm(normals * (radius, radius, height / 2), axis=1)
        faces, z = np.column_stack([normals, reach]), z + height / 2
    faces[:, 3] *= rng.uniform(0.85, 1.1, len(faces))
    turn, reach = rng.uniform(0, 2 * np.pi), 1.3 * np.hypot(radius, height)
    return solid(x, y, z, turn, faces, reach, **looks)
