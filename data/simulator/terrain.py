"""Bare ground and the street grid, in meters from the town's southwest corner."""

import numpy as np

STREET_YAW, BEND, BEND_LENGTH = 0.3, 5.0, 40.0  # radians, meters, meters
STREET_HALF_WIDTH, STREET_EDGE = 3.8, 5.6  # m, of the asphalt; with the pavement
HILLS = (7, 55, 105, 35), (5, 210, 45, 28), (6, 215, 150, 30)  # height, x, y, spread


def terrain(x, y):
    """Height of the bare ground: a slope, three hills, terraces every 3 m."""
    z = 92.0 + 0.03 * x + 0.02 * y + 0.4 * np.sin(x / 13.0) * np.cos(y / 17.0)
    for height, east, north, spread in HILLS:
        squares = (x - east) ** 2 + (y - north) ** 2
        z = z + height * np.exp(-squares / (2 * spread**2))
    for _ in range(2):  # steeper banks, flatter terraces; the map stays monotone
        z = z - 0.8 * 3.0 / (2 * np.pi) * np.sin(2 * np.pi * z / 3.0)
    return z


def terrain_normal(x, y):
    """Unit normals ``(n, 3)`` of the terrain, by central differences over 0.5 m."""
    dx = (terrain(x + 0.25, y) - terrain(x - 0.25, y)) / 0.5
    dy = (terrain(x, y + 0.25) - terrain(x, y - 0.25)) / 0.5
    normal = np.stack([-dx, -dy, np.ones_like(dx)], axis=-1)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def to_street(x, y):
    """Street coordinates ``u, v``, in which the curved streets are straight."""
    u = np.cos(STREET_YAW) * x + np.sin(STREET_YAW) * y
    v = -np.sin(STREET_YAW) * x + np.cos(STREET_YAW) * y
    return u, v - BEND * np.sin(u / BEND_LENGTH)


def from_street(u, v):
    """Local ``x, y`` of street coordinates, and the yaw of the street there."""
    v = v + BEND * np.sin(u / BEND_LENGTH)
    x = np.cos(STREET_YAW) * u - np.sin(STREET_YAW) * v
    y = np.sin(STREET_YAW) * u + np.cos(STREET_YAW) * v
    slope = BEND / BEND_LENGTH * np.cos(u / BEND_LENGTH)
    return x, y, STREET_YAW + np.arctan(slope)


def ground_reflectance(x, y, avenues, streets):
    """Asphalt on streets, slabs on pavements, and lawn with bare patches.

    Args:
        x, y: ``(n,)``.
        avenues: ``u`` of the axes of avenues.
        streets: ``v`` of the axes of streets.
    """
    u, v = to_street(x, y)
    to_avenue = np.abs(u[:, None] - avenues).min(axis=1)
    to_axis = np.minimum(to_avenue, np.abs(v[:, None] - streets).min(axis=1))
    lawn = np.where(np.sin(x / 3.1) * np.sin(y / 4.3 + x / 9.0) > 0.75, 0.28, 0.45)
    paved = np.where(to_axis < STREET_HALF_WIDTH, 0.15, 0.25)
    return np.where(to_axis < STREET_EDGE, paved, lawn)
