"""Receptive fields, cut out of the hierarchy of a prepared cloud."""

import threading
from dataclasses import dataclass

import numpy as np

from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.geometry.hierarchy import CHILDREN, INTERPOLATED
from vl3d_lite.geometry.neighbors import make_tree, nearest, neighbors_within
from vl3d_lite.geometry.regions import BoxTree, Shape
from vl3d_lite.geometry.subsampling import farthest_points, run_starts
from vl3d_lite.spec.schema.clouds import FieldsSpec
from vl3d_lite.spec.schema.spec import Spec

ALONG_CURVE = 4  # points looked at before and behind a place in the curve


@dataclass(frozen=True)
class ReceptiveField:
    """A piece of a cloud, at every level, not padded.

    Attributes:
        center: ``(3,)`` float64, local frame. Its height is the median of the
            field's where the shape has no bounds in height.
        indices: ``(R_0,)`` ascending rows of the cloud's finest level.
        xyz: For each level ``(R_l, 3)`` float32, meters from the center.
        neighbors: For each level ``(R_l, K_l)`` int32 rows of the field's
            level, self first; -1 missing.
        down: For each level but the last ``(R_{l+1}, D_l)`` int32 rows of
            level ``l``; -1 missing.
        up: For each level but the last ``(R_l, U)`` int32 rows of level
            ``l + 1``; -1 missing.
    """

    center: np.ndarray
    indices: np.ndarray
    xyz: list[np.ndarray]
    neighbors: list[np.ndarray]
    down: list[np.ndarray]
    up: list[np.ndarray]


def field_shape(fields: FieldsSpec) -> Shape:
    """The shape of a spec's fields."""
    if fields.shape == "box":
        return Shape(np.array(fields.size) / 2, round=False)
    reach = np.inf if fields.radius is None else fields.radius
    return Shape(np.full(2 if fields.shape == "cylinder" else 3, reach), round=True)


def interlevel_widths(spec: Spec) -> tuple[list[int], int]:
    """Slots of `down` at each level but the last, and of `up`."""
    stages = spec.model.stages[:-1]
    up = INTERPOLATED if spec.model.upsampling == "interpolated" else 1
    if (
        spec.fields.interlevel_neighbors == "nearest"
        or spec.fields.sampling == "farthest"
    ):
        return [stage.neighbors for stage in stages], up
    return [CHILDREN] * len(stages), up


class FieldExtractor:
    """Cuts receptive fields out of a cloud. Threads may share one.

    Args:
        prepared: The cloud.
        spec: Shape of the fields and points of each stage.
    """

    def __init__(self, prepared: PreparedCloud, spec: Spec):
        self.prepared = prepared
        self.stages = spec.model.stages
        self.shape = field_shape(spec.fields)
        self.farthest = spec.fields.sampling == "farthest"
        self.up_width = interlevel_widths(spec)[1]
        self.gathers_nearest = spec.fields.shape == "nearest"
        self.grid_size = spec.fields.grid_size
        self.first_reach = spec.fields.grid_size * np.sqrt(self.stages[0].points) / 2
        self.tree = BoxTree(prepared.xyz, prepared.hierarchy.keys)
        self._memory = threading.local()

    def inside(self, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the finest level in the field, however many.

        Args:
            center: ``(3,)``, local frame.

        Returns:
            Ascending rows and their measures. Fields of the nearest points
            hold no more than the first stage has.
        """
        limit = self.shape.limit
        if not self.gathers_nearest:
            return self.tree.inside(self.shape, center, limit)
        wanted, total = self.stages[0].points, len(self.prepared.xyz)
        reach = min(self.first_reach**2, limit)
        rows, measures = self.tree.inside(self.shape, center, reach)
        while len(rows) < min(wanted, total) and reach < limit:
            reach = min(4 * reach, limit)
            rows, measures = self.tree.inside(self.shape, center, reach)
        return crop(rows, measures, wanted)

    def select(self, center: np.ndarray) -> np.ndarray:
        """Ascending rows of the finest level that a field at `center` holds.

        Where the shape holds more points than the first stage, they are the
        nearest to the center or, by farthest-point sampling, spread evenly.

        Args:
            center: ``(3,)``, local frame.
        """
        rows, measures = self.inside(center)
        points = self.stages[0].points
        if len(rows) <= points:
            return rows
        if self.farthest:
            first = int(np.argmin(measures))
            return np.sort(rows[farthest_points(self._xyz(rows), points, first=first)])
        return crop(rows, measures, points)[0]

    def extract(
        self, center: np.ndarray, rows: np.ndarray | None = None
    ) -> ReceptiveField:
        """The field around a center.

        Args:
            center: ``(3,)`` float64, local frame. Only x and y matter where
                the shape has no bounds in height.
            rows: What `select` gave, if known; any ascending rows of the
                finest level, no more than the first stage has points.
        """
        if rows is None:
            rows = self.select(center)
        center = np.array(center, np.float64)
        if self.shape.axes == 2 and len(rows):
            center[2] = np.median(self.tree.axes[2].take(rows))
        if self.farthest:
            return self._sample(center, rows)
        level_rows = self._descend(center, rows)
        lookups = self._lookups()
        for lookup, own in zip(lookups, level_rows, strict=True):
            lookup[own] = np.arange(len(own), dtype=np.int32)
        try:
            return self._gather(center, level_rows, lookups)
        finally:
            for lookup, own in zip(lookups, level_rows, strict=True):
                lookup[own] = -1

    def _xyz(self, rows: np.ndarray) -> np.ndarray:
        return self.prepared.xyz.take(rows, axis=0)

    def _lookups(self) -> list[np.ndarray]:
        """For each level: row of the cloud to row of the field, -1 outside.

        One slot more than there are points, so that -1 finds a -1 at the end.
        """
        if not hasattr(self._memory, "lookups"):
            self._memory.lookups = [
                np.full(len(level.xyz) + 1, -1, np.int32)
                for level in self.prepared.hierarchy.levels
            ]
        return self._memory.lookups

    def _descend(self, center: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of each level: the parents of those of the level before."""
        levels = self.prepared.hierarchy.levels
        level_rows = [rows]
        for level, coarse, stage in zip(
            levels, levels[1:], self.stages[1:], strict=False
        ):
            parents = level.parent.take(level_rows[-1])
            parents = parents[run_starts(parents)] if len(parents) else parents
            if len(parents) > stage.points:
                offsets = coarse.xyz.take(parents, axis=0) - center
                measures = self.shape.measure(list(offsets.T[: self.shape.axes]))
                parents = crop(parents, measures, stage.points)[0]
            level_rows.append(parents)
        return level_rows

    def _gather(
        self,
        center: np.ndarray,
        level_rows: list[np.ndarray],
        lookups: list[np.ndarray],
    ) -> ReceptiveField:
        levels = self.prepared.hierarchy.levels
        field = ReceptiveField(center, level_rows[0], [], [], [], [])
        for level, rows, lookup in zip(levels, level_rows, lookups, strict=True):
            xyz = level.xyz.take(rows, axis=0) - center
            field.xyz.append(xyz.astype(np.float32))
            field.neighbors.append(renumber(level.neighbors, rows, lookup))
        for number, level in enumerate(levels[:-1]):
            rows, coarse_rows = level_rows[number : number + 2]
            fine, coarse = field.xyz[number : number + 2]
            down = renumber(level.down, coarse_rows, lookups[number])
            lost = np.flatnonzero((down < 0).all(axis=1))
            if len(lost):
                down[lost, 0] = nearest(make_tree(fine), coarse[lost], 1)[:, 0]
            field.down.append(down)
            up = renumber(level.up, rows, lookups[number + 1])
            if up.shape[1] > 1:
                present_first = np.argsort(up < 0, axis=1, kind="stable")
                up = np.take_along_axis(up, present_first, axis=1)
            lost = np.flatnonzero(up[:, 0] < 0)
            if len(lost):
                parents = level.parent.take(rows[lost])
                places = np.searchsorted(coarse_rows, parents)
                up[lost, 0] = nearest_along_curve(fine[lost], places, coarse)
            field.up.append(up)
        return field

    def _sample(self, center: np.ndarray, rows: np.ndarray) -> ReceptiveField:
        """Levels by farthest-point sampling and trees inside the field."""
        xyz = self._xyz(rows) - center
        # A field half full keeps the ratio of its levels.
        full = self.stages[0].points
        counts = [-(-len(rows) * stage.points // full) for stage in self.stages]
        order = np.zeros(0, np.intp)
        if len(rows) and len(counts) > 1:
            first = int(np.argmin(np.square(xyz[:, : self.shape.axes]).sum(axis=1)))
            order = farthest_points(xyz, counts[1], first=first)
        points = [xyz, *(xyz[np.sort(order[:count])] for count in counts[1:])]
        field = ReceptiveField(center, rows, [], [], [], [])
        for level, stage in zip(points, self.stages, strict=True):
            field.xyz.append(level.astype(np.float32))
            field.neighbors.append(
                neighbors_within(level, stage.neighbors, radius=stage.neighbor_radius)
            )
        for fine, coarse, stage in zip(points, points[1:], self.stages, strict=False):
            field.down.append(nearest(make_tree(fine), coarse, stage.neighbors))
            field.up.append(nearest(make_tree(coarse), fine, self.up_width))
        return field


def crop(
    rows: np.ndarray, measures: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the ``count`` rows of the smallest measures, in their order."""
    if len(rows) <= count:
        return rows, measures
    keep = np.zeros(len(rows), bool)
    keep[np.argpartition(measures, count - 1)[:count]] = True
    return rows[keep], measures[keep]


def renumber(table: np.ndarray, rows: np.ndarray, lookup: np.ndarray) -> np.ndarray:
    """Rows of a table, told in rows of the field.

    Args:
        table: ``(N, K)`` int32 rows of a cloud's level; -1 missing.
        rows: ``(R,)`` rows of the table.
        lookup: ``(M + 1,)`` int32, row of the field for each of the ``M`` rows
            of the cloud's level, -1 outside; the last entry is -1.

    Returns:
        ``(R, K)`` int32; -1 where missing or outside the field.
    """
    return lookup.take(table.take(rows, axis=0), mode="wrap")


def nearest_along_curve(
    queries: np.ndarray, places: np.ndarray, xyz: np.ndarray
) -> np.ndarray:
    """The nearest of the few points around a place in a space-filling curve.

    Not always the nearest of all, but found without a tree: for points whose
    parent a full stage had no room for.

    Args:
        queries: ``(m, 3)``.
        places: ``(m,)`` rows of `xyz` before which the queries would stand.
        xyz: ``(n, 3)``, at least one, in the order of the curve.

    Returns:
        ``(m,)`` rows of `xyz`.
    """
    around = places[:, None] + np.arange(-ALONG_CURVE, ALONG_CURVE)
    around = np.clip(around, 0, len(xyz) - 1)
    distances = np.square(xyz[around] - queries[:, None]).sum(axis=2)
    best = np.argmin(distances, axis=1)
    return around[np.arange(len(queries)), best]
