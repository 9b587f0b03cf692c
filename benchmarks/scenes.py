"""Simulated scans of any density, on which `init` and `plan` are tested.

They are coarser than the town of ``data/``, but have any extent and density.
"""

from pathlib import Path

import laspy
import numpy as np

HILL, WAVE = 3.0, 90.0  # m, height and length of the hills
GROUND, VEGETATION, BUILDING = 2, 5, 6


def airborne(path: Path, density: float, size: float, seed: int = 0) -> None:
    """An airborne scan: hills, flat roofs, trees with several returns.

    Args:
        path: To write.
        density: Points/m2.
        size: Edge of the square extent in meters.
        seed: Seed of all random choices.
    """
    rng = np.random.default_rng(seed)
    n = int(density * size**2 / 1.15)  # trees add returns
    xy = rng.uniform(0, size, (n, 2))
    z = _hills(xy)
    code, returns, number = np.full(n, GROUND), np.ones(n, int), np.ones(n, int)
    intensity = rng.normal(900, 80, n)
    for corner, sides, height in _houses(size, rng):
        roof = np.all((xy > corner) & (xy < corner + sides), axis=1)
        z[roof] = _hills(corner[None])[0] + height
        code[roof], intensity[roof] = BUILDING, rng.normal(1400, 90, roof.sum())
    more = []
    for center, radius in _trees(size, rng):
        crown = np.linalg.norm(xy - center, axis=1) < radius
        crown &= code == GROUND
        below = crown & (rng.random(n) < 0.6)
        more.append((xy[below], z[below]))
        returns[below] = 2
        z[crown] += rng.uniform(2, 3 + 2 * radius, crown.sum())
        code[crown], intensity[crown] = VEGETATION, rng.normal(500, 90, crown.sum())
    lower = [np.concatenate(part) for part in zip(*more, strict=True)]
    last = len(lower[1])
    _write(
        path,
        np.column_stack([np.concatenate([xy, lower[0]]), np.concatenate([z, lower[1]])])
        + rng.normal(0, 0.02, (n + last, 3)),
        np.concatenate([code, np.full(last, GROUND)]),
        np.concatenate([intensity, rng.normal(600, 80, last)]),
        np.concatenate([returns, np.full(last, 2)]),
        np.concatenate([number, np.full(last, 2)]),
    )


def terrestrial(path: Path, rays: int, seed: int = 0) -> None:
    """A terrestrial scan from three stations: walls, crowns, decreasing density."""
    rng = np.random.default_rng(seed)
    houses = _houses(60.0, rng)
    trees = list(_trees(60.0, rng))[:12]
    xyz, code = [], []
    for station in ((10.0, 30.0), (30.0, 31.0), (50.0, 29.0)):
        azimuth = rng.uniform(-np.pi, np.pi, rays // 3)
        elevation = rng.uniform(np.radians(-60), np.radians(50), rays // 3)
        along = np.cos(elevation)
        ray = np.column_stack(
            [along * np.cos(azimuth), along * np.sin(azimuth), np.sin(elevation)]
        )
        start = np.array([*station, 1.8])
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(ray[:, 2] < 0, -start[2] / ray[:, 2], np.inf)
            hit = np.full(len(ray), GROUND)
            for corner, sides, height in houses:
                low, high = np.append(corner, 0), np.append(corner + sides, height)
                walls = np.stack([(low - start) / ray, (high - start) / ray])
                near, far = walls.min(axis=0).max(axis=1), walls.max(axis=0).min(axis=1)
                seen = (near > 0) & (near < far) & (near < reach)
                reach[seen], hit[seen] = near[seen], BUILDING
            for center, radius in trees:
                middle = np.append(center, 2 + radius) - start
                ahead = ray @ middle
                gap = radius**2 - (middle @ middle - ahead**2)
                depth = ahead + rng.uniform(-1, 1, len(ray)) * np.sqrt(gap)
                seen = (gap > 0) & (depth > 0.5) & (depth < reach)
                seen &= rng.random(len(ray)) < 0.7
                reach[seen], hit[seen] = depth[seen], VEGETATION
        found = reach < 45
        xyz.append(start + ray[found] * reach[found, None])
        code.append(hit[found])
    xyz, code = np.concatenate(xyz), np.concatenate(code)
    once = np.ones(len(code), int)
    intensity = 700 + 300 * (code == BUILDING) + rng.normal(0, 60, len(code))
    _write(path, xyz + rng.normal(0, 0.003, xyz.shape), code, intensity, once, once)


def tiled(source: Path, target: Path, tiles: int) -> None:
    """Copies of a cloud side by side, as one file."""
    cloud = laspy.read(source)
    step = (np.ptp(cloud.x), np.ptp(cloud.y))
    side = int(np.ceil(np.sqrt(tiles)))
    with laspy.open(target, "w", header=cloud.header) as writer:
        for tile in range(tiles):
            points = cloud.points.copy()
            row, column = divmod(tile, side)
            points["X"] += round(column * step[0] / cloud.header.scales[0])
            points["Y"] += round(row * step[1] / cloud.header.scales[1])
            writer.write_points(points)


def _hills(xy: np.ndarray) -> np.ndarray:
    return HILL * (np.sin(xy[:, 0] / WAVE) + np.cos(xy[:, 1] / (WAVE * 0.7)))


def _houses(size: float, rng: np.random.Generator) -> list:
    houses = []
    for x in np.arange(4, size - 16, 24.0):
        for y in np.arange(4, size - 16, 28.0):
            if abs(y - 30) < 4:  # the street of the stations
                continue
            sides = rng.uniform(8, 15, 2)
            houses.append((np.array([x, y]), sides, rng.uniform(4, 11)))
    return houses


def _trees(size: float, rng: np.random.Generator):
    for _ in range(int(size**2 / 180)):
        yield rng.uniform(0, size, 2), rng.uniform(1.5, 4.5)


def _write(path, xyz, code, intensity, returns, number) -> None:
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = [0.001] * 3, [450_000, 5_410_000, 0]
    las = laspy.LasData(header)
    las.x, las.y = xyz[:, 0] + 450_000, xyz[:, 1] + 5_410_000
    las.z = xyz[:, 2] + 100
    las.classification = code
    las.intensity = np.clip(intensity, 0, 65_535)
    las.number_of_returns, las.return_number = returns, number
    las.write(path)
