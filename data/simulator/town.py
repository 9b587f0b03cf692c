"""Objects on the ground: houses, apartments, parks, trees, hedges, cars, lamps.

Positions are street coordinates ``u, v``, in which streets are straight.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from simulator.solids import BUILDING, OTHER, VEGETATION, Solid, box, crown, roof
from simulator.terrain import STREET_EDGE, from_street, terrain

STREETS = np.cumsum([-110.0, 43, 47, 42, 45, 44, 46, 43])  # v of their axes
AVENUES = np.cumsum([-40.0, 62, 55, 66, 58, 63, 57])  # u of their axes
PARKING_LANE = STREET_EDGE - 2.9
ACROSS = np.pi / 2


class Town:
    """All solids of the town of a seed.

    Blocks of houses, apartments and parks alternate between the streets. Buildings
    of a block are placed first, so that plants and cars avoid them.
    """

    def __init__(self, seed: int):
        self.solids: list[Solid] = []
        self.rng = np.random.default_rng(seed)
        self._footprints: list[tuple[float, ...]] = []
        kinds = self.houses, self.houses, self.flats, self.houses, self.park
        for i, (west, east) in enumerate(pairwise(AVENUES)):
            for j, (south, north) in enumerate(pairwise(STREETS)):
                inside = west + STREET_EDGE, east - STREET_EDGE
                inside += south + STREET_EDGE, north - STREET_EDGE
                kinds[(i + 2 * j) % len(kinds)](*inside)
                self.street(west, east, south)
                self.avenue(south, north, west)

    def is_free(self, x: float, y: float, margin: float) -> bool:
        """Whether no building is within `margin` of a position."""
        for east, north, yaw, length, width in self._footprints:
            along = np.cos(yaw) * (x - east) + np.sin(yaw) * (y - north)
            across = -np.sin(yaw) * (x - east) + np.cos(yaw) * (y - north)
            if abs(along) < length / 2 + margin and abs(across) < width / 2 + margin:
                return False
        return True

    # Blocks and streets

    def houses(self, west: float, east: float, south: float, north: float) -> None:
        """Two rows of parcels back to back: house, garage, car, garden."""
        rng, depth = self.rng, (north - south) / 2
        rows = [(south, 1), (north, -1)]
        parcels = [(*row, *ends) for row in rows for ends in self._cut(west, east)]
        for front, inward, start, end in parcels:
            length = min(rng.uniform(8, 12.5), end - start - 4)
            width, eaves = rng.uniform(7, 9.5), rng.uniform(2.7, 6.2)
            v = front + inward * (rng.uniform(3, 5) + width / 2)
            shape = rng.choice(["gable", "hip", "flat", "shed"], p=[0.4, 0.3, 0.2, 0.1])
            turn = rng.normal(0, 0.08)
            self.building((start + end) / 2, v, turn, length, width, eaves, shape)
            if rng.random() < 0.5:
                low = 3.2, 6.0, rng.uniform(2.4, 2.9), "flat"
                self.building(end - 1.7, front + inward * 9, 0.0, *low)
        for front, inward, start, end in parcels:
            if rng.random() < 0.6:
                self.car(end - 1.7, front + inward * 2.8, ACROSS)
            if rng.random() < 0.7:
                self.hedge((start, front + inward), (start, front + inward * depth))
            if rng.random() < 0.5:
                edge = front + inward * 0.6
                self.hedge((start, edge), (end - 3.5, edge))
            ends = sorted([front + inward * 1.5, front + inward * (depth - 0.5)])
            self.grow(start + 1, end - 1, *ends, rng.integers(4, 7), 0.9)

    def _cut(self, west: float, east: float) -> Iterator[tuple[float, float]]:
        """Parcels of 13 to 20 m along a street, while 12 m or more remain."""
        while east - west > 12:
            end = min(west + self.rng.uniform(13, 20), east)
            yield west, end
            west = end

    def flats(self, west: float, east: float, south: float, north: float) -> None:
        """A long apartment building, and a parking lot with trees in front of it."""
        rng, middle = self.rng, (west + east) / 2
        length, eaves = (east - west) * rng.uniform(0.55, 0.75), rng.uniform(6, 9.5)
        shape = rng.choice(["flat", "gable", "hip"])
        self.building(middle, north - 9, 0.0, length, rng.uniform(10, 12), eaves, shape)
        for v in south + 3, south + 12:
            for u in np.arange(west + 3, east - 3, 2.8):
                if rng.random() < 0.55:
                    self.car(u, v, ACROSS)
        for u in np.arange(west + 2, east, 6.0):
            self.tree(u + rng.normal(0, 0.8), south + 7.5, 0.9)
        self.hedge((west + 0.8, south), (west + 0.8, north))
        self.grow(west, east, north - 3, north, 8, 0.9)
        self.grow(west, middle - length / 2, south + 16, north, 5, 1.1)
        self.grow(middle + length / 2, east, south + 16, north, 5, 1.1)

    def park(self, west: float, east: float, south: float, north: float) -> None:
        """Trees and shrubs, two hedges and a pavilion."""
        place = (west + east) / 2, (south + north) / 2
        self.building(*place, self.rng.uniform(0, 1), 9, 7, 3.0, "hip")
        self.grow(west, east, south, north, int((east - west) * (north - south) / 45))
        for v in south, north:
            self.hedge((west, v), (east, v))

    def street(self, west: float, east: float, v: float) -> None:
        """Cars parked on both sides and lamps on one."""
        for side in -PARKING_LANE, PARKING_LANE:
            for u in np.arange(west + 8, east - 8, 5.6):
                if self.rng.random() < 0.35:
                    self.car(u, v + side, 0.0)
        for u in np.arange(west + 10, east, 19.0):
            self.lamp(u, v + STREET_EDGE - 1.4)

    def avenue(self, south: float, north: float, u: float) -> None:
        """A row of trees on either pavement."""
        for side in 0.9 - STREET_EDGE, STREET_EDGE - 0.9:
            for v in np.arange(south + 8, north - 5, 9.0):
                self.tree(u + side, v, 0.75)

    def grow(
        self,
        west: float,
        east: float,
        south: float,
        north: float,
        count: int,
        tall: float = 1.1,
    ) -> None:
        """Equal numbers of trees and shrubs at random positions between the edges."""
        places = self.rng.uniform([west, south], [east, north], (count, 2, 2))
        for tree, shrub in places:
            self.tree(*tree, tall)
            self.shrub(*shrub)

    # Objects

    def building(
        self,
        u: float,
        v: float,
        turn: float,
        length: float,
        width: float,
        eaves: float,
        shape: str,
    ) -> None:
        """Walls, a roof with an overhang, and a chimney or a superstructure."""
        x, y, yaw = from_street(u, v)
        yaw, z = yaw + turn, terrain(x, y) + eaves
        self._footprints.append((x, y, yaw, length, width))
        walls = {"code": BUILDING, "reflectance": self.rng.uniform(0.2, 0.45)}
        cover = {"code": BUILDING, "reflectance": self.rng.uniform(0.1, 0.45)}
        deep = z - eaves - 4, yaw, length, width, eaves + 4
        self.solids.append(box(x, y, *deep, **walls))
        over = self.rng.uniform(0.2, 0.6, 2)
        pitch = self.rng.uniform(0.35, 0.8)
        east, north = x + np.cos(yaw) * length / 5, y + np.sin(yaw) * length / 5
        if shape == "flat":
            slab = z, yaw, length + over[0], width + over[1], 0.3
            self.solids.append(box(x, y, *slab, **cover))
            if length > 10:
                self.solids.append(box(east, north, z, yaw, 4, 3, 2.2, **walls))
            return
        top = z, yaw, length + over[0], width + over[1], shape, pitch
        self.solids.append(roof(x, y, *top, **cover))
        chimney = 0.9 + np.tan(pitch) * width / 2
        self.solids.append(box(east, north, z, yaw, 0.8, 0.6, chimney, **walls))

    def tree(self, u: float, v: float, tall: float) -> None:
        """A trunk and a crown, which may extend over roofs and cars."""
        x, y, _ = from_street(u, v)
        if not self.is_free(x, y, 0.8):
            return
        shape = self.rng.choice(["round", "cone", "columnar"], p=[0.55, 0.25, 0.2])
        height = tall * self.rng.uniform(3.5, 11.5)
        radius = height * {"round": 0.36, "cone": 0.26, "columnar": 0.16}[shape]
        stem = height * self.rng.uniform(0.12, 0.3)
        z, girth = terrain(x, y), 0.04 * height
        bark = {"code": VEGETATION, "reflectance": 0.3}
        self.solids.append(box(x, y, z - 1, 0, girth, girth, stem + 2, **bark))
        body = x, y, z + stem, radius, height - stem, shape
        self._crown(*body, free_path=(0.5, 1.5))

    def shrub(self, u: float, v: float) -> None:
        """A round bush or, with equal probability, a patch of tall grass."""
        x, y, _ = from_street(u, v)
        if not self.is_free(x, y, 0.3):
            return
        radius, height = self.rng.uniform(0.8, 1.8), self.rng.uniform(0.7, 2.0)
        if self.rng.random() < 0.5:
            radius, height = self.rng.uniform(1.2, 2.8), self.rng.uniform(0.5, 0.9)
        z = terrain(x, y) - 0.3 * height
        self._crown(x, y, z, radius, 1.3 * height, "round", free_path=(0.25, 0.6))

    def _crown(self, *body: float | str, free_path: tuple[float, float]) -> None:
        looks = {"reflectance": self.rng.uniform(0.3, 0.55), "code": VEGETATION}
        looks["free_path"] = self.rng.uniform(*free_path)
        self.solids.append(crown(self.rng, *body, **looks))

    def hedge(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A clipped hedge between two positions, in pieces of about 2 m."""
        height, width = self.rng.uniform(0.8, 2.1), self.rng.uniform(0.7, 1.2)
        looks = {"reflectance": self.rng.uniform(0.3, 0.5), "free_path": 0.3}
        along = np.subtract(end, start)
        pieces = int(np.ceil(np.hypot(*along) / 2.0))
        for share in (np.arange(pieces) + 0.5) / pieces:
            x, y, yaw = from_street(*(start + share * along))
            if self.is_free(x, y, 0.5):
                yaw += np.arctan2(along[1], along[0])
                tall = 0.5 + height * self.rng.uniform(0.9, 1.1)
                piece = terrain(x, y) - 0.5, yaw, 2.2, width, tall
                self.solids.append(box(x, y, *piece, code=VEGETATION, **looks))

    def car(self, u: float, v: float, turn: float) -> None:
        """A car (body and cabin) or, in one of eight cases, a van."""
        x, y, yaw = from_street(u, v)
        yaw += turn + self.rng.normal(0, 0.04)
        if not self.is_free(x, y, 1.2):
            return
        paint = {"code": OTHER, "reflectance": self.rng.uniform(0.05, 0.7)}
        glass = {"code": OTHER, "reflectance": 0.1}
        z, length = terrain(x, y) + 0.15, self.rng.uniform(3.8, 4.8)
        if self.rng.random() < 0.125:
            tall = self.rng.uniform(1.8, 2.5)
            self.solids.append(box(x, y, z, yaw, 5.3, 2.0, tall, **paint))
        else:
            self.solids.append(box(x, y, z, yaw, length, 1.8, 0.75, **paint))
            cabin = z + 0.7, yaw, length / 2, 1.5, 0.6
            self.solids.append(box(x, y, *cabin, **glass))

    def lamp(self, u: float, v: float) -> None:
        """A lamp post with a lamp on an arm over the street."""
        x, y, yaw = from_street(u, v)
        z, height = terrain(x, y), self.rng.uniform(5.0, 7.5)
        metal = {"code": OTHER, "reflectance": 0.5}
        self.solids.append(box(x, y, z, yaw, 0.25, 0.25, height, **metal))
        self.solids.append(box(x, y, z + height, yaw, 0.5, 2.0, 0.2, **metal))
