"""Receptive fields, extracted from the hierarchy of a prepared cloud."""

import threading
from dataclasses import dataclass

import numpy as np

from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.geometry import (
    CHILDREN,
    INTERPOLATED,
    BoxTree,
    Shape,
    crop,
    farthest_points,
    make_tree,
    nearest,
    nearest_along_curve,
    neighbors_within,
    run_starts,
)
from vl3d_lite.spec import FieldsSpec, Spec


@dataclass(frozen=True)
class ReceptiveField:
    """The points of a neighborhood at every level, not padded.

    Attributes:
        center: ``(3,)`` float64, meters, local frame of the cloud. Where the shape
            is unbounded in height, z is the median of the field.
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
    """The shape of the fields of a spec; infinite where it has no bounds."""
    if fields.shape == "box":
        return Shape(np.array(fields.size) / 2, round=False)
    reach = np.inf if fields.radius is None else fields.radius
    return Shape(np.full(2 if fields.shape == "cylinder" else 3, reach), round=True)


def interlevel_widths(spec: Spec) -> tuple[list[int], int]:
    """Columns of `down` at each level but the last, and of `up`."""
    stages = spec.model.stages[:-1]
    up = INTERPOLATED if spec.model.upsampling == "interpolated" else 1
    if (
        spec.fields.interlevel_neighbors == "nearest"
        or spec.fields.sampling == "farthest"
    ):
        return [stage.neighbors for stage in stages], up
    return [CHILDREN] * len(stages), up


class FieldExtractor:
    """Extracts receptive fields from a cloud. Threads may share one.

    Args:
        prepared: The cloud.
        spec: The spec with the shape of the fields and the points of each stage.
    """

    def __init__(self, prepared: PreparedCloud, spec: Spec):
        self.prepared = prepared
        self.stages = spec.model.stages
        self.shape = field_shape(spec.fields)
        self.farthest = spec.fields.sampling == "farthest"
        self.up_width = interlevel_widths(spec)[1]
        self.gathers_nearest = spec.fields.shape == "nearest"
        self.grid_size = spec.fields.grid_size
        # A square of this half edge holds the points of a surface without gaps.
        self.first_reach = spec.fields.grid_size * np.sqrt(self.stages[0].points) / 2
        axes = prepared.stored.axes if prepared.stored else None
        self.tree = BoxTree(prepared.xyz, prepared.hierarchy.keys, axes)
        self._memory = threading.local()

    def inside(self, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All points of the finest level inside the shape of a field.

        Args:
            center: ``(3,)``, local frame.

        Returns:
            ``(n,)`` ascending rows and ``(n,)`` their measures (see `Shape`). A field
            of the nearest points has at most as many as the first stage.
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
        """The rows of the finest level that a field at `center` holds.

        Where the shape holds more points than the first stage, the points nearest
        to the center are kept or, by farthest-point sampling, evenly spread ones.

        Args:
            center: ``(3,)``, local frame.

        Returns:
            ``(R_0,)`` ascending rows.
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
        """Extract the field around a center.

        Args:
            center: ``(3,)`` float64, local frame. z is ignored where the shape is
                unbounded in height.
            rows: ``(R_0,)`` ascending rows of the finest level, at most as many as
                the first stage has points; those of `select` by default.
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
        """For each level the row of the field at each row of the cloud, else -1.

        Arrays have one element more than there are points: -1 as an index finds a
        -1 at the end. Each thread has its own, all -1 between two fields.
        """
        if not hasattr(self._memory, "lookups"):
            self._memory.lookups = [
                np.full(len(level.xyz) + 1, -1, np.int32)
                for level in self.prepared.hierarchy.levels
            ]
        return self._memory.lookups

    def _descend(self, center: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        """Rows of each level: the parents of the rows of the finer level."""
        levels = self.prepared.hierarchy.levels
        level_rows = [rows]
        for level, coarse, stage in zip(
            levels, levels[1:], self.stages[1:], strict=False
        ):
            assert level.parent is not None  # only the coarsest level lacks it
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
            # Only the coarsest level lacks them.
            assert level.down is not None
            assert level.up is not None
            assert level.parent is not None
            down = renumber(level.down, coarse_rows, lookups[number])
            # All fine neighbors of a coarse point may lie outside of the field.
            lost = np.flatnonzero((down < 0).all(axis=1))
            if len(lost):
                down[lost, 0] = nearest(make_tree(fine), coarse[lost], 1)[:, 0]
            field.down.append(down)
            up = renumber(level.up, rows, lookups[number + 1])
            if up.shape[1] > 1:
                present_first = np.argsort(up < 0, axis=1, kind="stable")
                up = np.take_along_axis(up, present_first, axis=1)
            # A full coarse level has no room for the parents of some fine points.
            lost = np.flatnonzero(up[:, 0] < 0)
            if len(lost):
                parents = level.parent.take(rows[lost])
                positions = np.searchsorted(coarse_rows, parents)
                up[lost, 0] = nearest_along_curve(fine[lost], positions, coarse)
            field.up.append(up)
        return field

    def _sample(self, center: np.ndarray, rows: np.ndarray) -> ReceptiveField:
        """The field by farthest-point sampling, with its own neighbor searches."""
        xyz = self._xyz(rows) - center
        # A half-full field keeps the ratios between its levels.
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


def renumber(table: np.ndarray, rows: np.ndarray, lookup: np.ndarray) -> np.ndarray:
    """Take rows of a table of the cloud and convert its entries to rows of a field.

    Args:
        table: ``(N, K)`` int32 rows of a level of the cloud; -1 missing.
        rows: ``(R,)`` rows of the table to take.
        lookup: ``(M + 1,)`` int32, the row of the field for each of the ``M`` rows of
            the level, -1 outside of the field; the last element is -1.

    Returns:
        ``(R, K)`` int32; -1 where missing or outside the field.
    """
    return lookup.take(table.take(rows, axis=0), mode="wrap")
