"""A rotating-mirror scanner over the town: pulses, echoes, LAS dimensions."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from simulator.solids import GROUND, VEGETATION
from simulator.terrain import ground_reflectance, terrain, terrain_normal
from simulator.town import AVENUES, STREETS

FLYING_HEIGHT, SPEED, PULSE_RATE = 400.0, 60.0, 100_000.0  # m, m/s, 1/s
FLIGHT_YAW, FLIGHT_START, FLIGHT_SECONDS = 0.12, -60.0, 6.0
FLIGHT_OFFSETS = 5.0, 125.0  # y of the lines at their start
HALF_ANGLE, ROLL, PULSES_PER_SWEEP = np.radians(20.0), np.radians(0.4), 600
SCAN_ANGLE_UNIT = 0.006  # degrees, LAS 1.4
RANGE_NOISE, DEAD_RANGE, MAX_RETURNS = 0.025, 0.5, 4
VEGETATION_BANDS = 0.5, 2.0  # upper ends of low and of medium vegetation
# m; tall objects and relief shift the hit of a pulse by up to the margin.
MEAN_GROUND, MARGIN = 105.0, 15.0
FIRST_GPS_SECOND = 411_800_000.0  # autumn 2024; LAS subtracts 1e9


@dataclass(frozen=True)
class Pulses:
    """``origins`` and unit ``directions`` ``(n, 3)``; the rest is ``(n,)``."""

    origins: np.ndarray
    directions: np.ndarray
    gps_time: np.ndarray
    scan_angle: np.ndarray
    line: np.ndarray

    def at(self, ranges):
        """Points ``(n, 3)`` at the given ranges, one per pulse."""
        return self.origins + ranges[:, None] * self.directions

    def __getitem__(self, rows):
        return Pulses(*(values[rows] for values in vars(self).values()))

    def reach_ground(self):
        """Range from each pulse to the bare terrain, by fixed-point iteration."""
        ranges = np.full(len(self.line), FLYING_HEIGHT - MEAN_GROUND)
        for _ in range(7):
            x, y, _ = self.at(ranges).T
            ranges = (self.origins[:, 2] - terrain(x, y)) / -self.directions[:, 2]
        return ranges


def fly(number, offset):
    """The pulses of one flight line; angles include the roll, positive to the right."""
    index = np.arange(int(FLIGHT_SECONDS * PULSE_RATE))
    seconds = index / PULSE_RATE
    ahead = np.array([np.cos(FLIGHT_YAW), np.sin(FLIGHT_YAW), 0.0])
    right = np.array([np.sin(FLIGHT_YAW), -np.cos(FLIGHT_YAW), 0.0])
    origins = np.array([FLIGHT_START, offset, FLYING_HEIGHT])
    origins = origins + SPEED * seconds[:, None] * ahead
    angle = HALF_ANGLE * (2 * (index % PULSES_PER_SWEEP) / PULSES_PER_SWEEP - 1)
    angle = angle + ROLL * np.sin(1.7 * seconds + number)
    down = np.array([0.0, 0.0, -1.0])
    directions = np.sin(angle)[:, None] * right + np.cos(angle)[:, None] * down
    time = FIRST_GPS_SECOND + 400.0 * number + seconds
    return Pulses(origins, directions, time, angle, np.full(len(index), number))


def fly_over(extent):
    """The pulses of all flight lines that point at an extent or close to it."""
    lines = []
    for number, offset in enumerate(FLIGHT_OFFSETS, start=1):
        line = fly(number, offset)
        aim = line.at((MEAN_GROUND - FLYING_HEIGHT) / line.directions[:, 2])
        lines.append(vars(line[is_within(aim, extent, MARGIN)]).values())
    return Pulses(*map(np.concatenate, zip(*lines, strict=True)))


def is_within(xyz, extent, margin=0.0):
    """Which points lie in an extent (west, south, east, north)."""
    low, high = np.subtract(extent[:2], margin), np.add(extent[2:], margin)
    return np.all((xyz[:, :2] >= low) & (xyz[:, :2] < high), axis=1)


def hit_solids(solids, pulses, ground, seed):
    """All hits of pulses on solids.

    Each solid has its own random generator, so an additional hit on one solid does
    not change the random numbers of the others.

    Args:
        ground: Range to the bare ground, ``(n,)``.

    Returns:
        ``(hits,)`` each: pulse, range, share of the remaining energy that the hit
        takes, reflectance times cosine of incidence, class code.
    """
    tree, hits = KDTree(pulses.at(ground)[:, :2]), []
    lean = np.tan(HALF_ANGLE + ROLL)
    for number, body in enumerate(solids):
        x, y, z = body.center
        top = max(z - terrain(x, y), 0) + body.radius
        reach = body.radius + lean * top + 2.0  # 2 m for the slope of the ground
        near = tree.query_ball_point((x, y), reach)
        near = np.sort(near).astype(int)
        enter, leave, cosine = body.cross(pulses.origins[near], pulses.directions[near])
        inside = enter < leave
        pulse, enter, leave, cosine = (
            values[inside] for values in (near, enter, leave, cosine)
        )
        rng = np.random.default_rng([seed, number])
        ranges, taken = enter[:, None], np.ones((len(pulse), 1))
        if body.free_path:
            steps = rng.exponential(body.free_path, (len(pulse), 6))
            ranges = ranges + np.cumsum(steps, axis=1)
            taken = rng.uniform(0.2, 0.7, steps.shape)
            cosine = rng.uniform(0.4, 1.0, len(pulse))
        row, column = np.nonzero(ranges < leave[:, None])
        found = pulse[row], ranges[row, column], taken[row, column]
        code = np.full(len(row), body.code)
        hits.append((*found, body.reflectance * cosine[row], code))
    return [np.concatenate(values) for values in zip(*hits, strict=True)]


def record(pulse, ranges, taken, pulse_count):
    """Select the hits that become returns.

    A pulse starts with energy 1, and every hit takes its share of the remaining
    energy. A hit is recorded if this energy is above 0.1, the dead time after the
    last return is over, and the pulse has fewer than four returns.

    Returns:
        Row of the hit, energy of the echo, return number, ``(returns,)`` each, in
        order of pulse and range.
    """
    order = np.lexsort((ranges, pulse))
    pulse, ranges, taken = pulse[order], ranges[order], taken[order]
    rank = np.arange(len(pulse)) - np.searchsorted(pulse, pulse)
    energy, count = np.ones(pulse_count), np.zeros(pulse_count, dtype=int)
    last = np.full(pulse_count, -np.inf)
    echo, number = np.zeros(len(pulse)), np.zeros(len(pulse), dtype=int)
    for step in range(rank.max() + 1):
        rows = np.flatnonzero(rank == step)
        echo[rows] = energy[pulse[rows]] * taken[rows]
        energy[pulse[rows]] -= echo[rows]
        ready = (echo[rows] > 0.1) & (ranges[rows] > last[pulse[rows]] + DEAD_RANGE)
        rows = rows[ready & (count[pulse[rows]] < MAX_RETURNS)]
        count[pulse[rows]] += 1
        number[rows] = count[pulse[rows]]
        last[pulse[rows]] = ranges[rows]
    kept = number > 0
    return order[kept], echo[kept], number[kept]


def scan(town, extent, seed):
    """Simulate the flight over an extent (west, south, east, north).

    Returns:
        LAS dimensions by name, ``(n,)`` each, in order of GPS time; ``x``, ``y``
        and ``z`` are local.
    """
    pulses = fly_over(extent)
    ground = pulses.reach_ground()
    on_ground = pulses.at(ground)
    normal = terrain_normal(*on_ground.T[:2])
    bare = ground_reflectance(*on_ground.T[:2], AVENUES, STREETS)
    bare *= -np.sum(pulses.directions * normal, axis=1)
    count = len(ground)
    floor = np.arange(count), ground, np.ones(count), bare, np.full(count, GROUND)
    hits = hit_solids(town.solids, pulses, ground, seed)
    hits = [np.concatenate(pair) for pair in zip(hits, floor, strict=True)]
    row, echo, number = record(*hits[:3], count)
    pulse, ranges, _, brightness, code = (values[row] for values in hits)

    rng = np.random.default_rng([seed, *np.abs(extent).astype(int)])
    fired = pulses[pulse]
    x, y, z = fired.at(ranges).T
    band = np.searchsorted(VEGETATION_BANDS, z - terrain(x, y))
    xyz = fired.at(ranges + rng.normal(0, RANGE_NOISE, len(row)))
    speckle = rng.normal(1.0, 0.1, len(row))
    inside = is_within(xyz, extent)
    points = {
        "x": xyz[:, 0],
        "y": xyz[:, 1],
        "z": xyz[:, 2],
        "intensity": np.clip(2000 * echo * brightness * speckle, 1, 65535),
        "return_number": number,
        "number_of_returns": np.bincount(pulse, minlength=count)[pulse],
        "classification": np.where(code == VEGETATION, 3 + band, code),
        "scan_angle": np.round(np.degrees(fired.scan_angle) / SCAN_ANGLE_UNIT),
        "point_source_id": fired.line,
        "gps_time": fired.gps_time,
    }
    return {name: values[inside] for name, values in points.items()}
