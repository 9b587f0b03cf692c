"""Shapes of receptive fields, and a fast search for the points inside."""

from dataclasses import dataclass

import numpy as np

from vl3d_lite.geometry.subsampling import run_rows, run_starts

FINEST_BITS = 6  # of a Morton key: the smallest boxes have 4 x 4 x 4 cells
STEP_BITS = 6  # a larger box holds up to 4 x 4 x 4 of the smaller ones
FEW_BOXES = 64  # so many are tested without a larger tier


@dataclass(frozen=True)
class Shape:
    """A ball or box in two or three axes.

    Attributes:
        halves: ``(2,)`` or ``(3,)`` radius, or half edges, in meters along each
            bounded axis; infinite for a ball without a radius.
        round: Whether it is a ball (or disk); a box otherwise.
    """

    halves: np.ndarray
    round: bool

    @property
    def axes(self) -> int:
        """Bounded axes: 2 (unbounded in height) or 3."""
        return len(self.halves)

    @property
    def limit(self) -> float:
        """Largest `measure` of a point inside."""
        return float(self.halves[0]) ** 2 if self.round else 1.0

    def measure(self, offsets: list[np.ndarray]) -> np.ndarray:
        """Distances from the center in the metric of the shape.

        Args:
            offsets: For each bounded axis ``(n,)`` meters from the center.

        Returns:
            ``(n,)``: the squared distance for a ball; for a box the largest ratio
            of an offset to a half edge.
        """
        if self.round:
            return sum(offset * offset for offset in offsets)
        shares = [np.abs(o) / h for o, h in zip(offsets, self.halves, strict=True)]
        return np.maximum.reduce(shares)

    def scaled(self, measure: float) -> "Shape":
        """The same shape, scaled so that its limit is at points of that measure."""
        if self.round:
            return Shape(np.full(self.axes, np.sqrt(measure)), True)
        return Shape(self.halves * measure, False)


class BoxTree:
    """Boxes around runs of points, and boxes around those.

    Points in the order of their Morton keys form runs that share the upper bits of
    the key. A search tests few large boxes, then the boxes inside those, and finally
    the points of the smallest boxes.

    Args:
        xyz: ``(n, 3)`` points.
        keys: ``(n,)`` their Morton keys, ascending.
        axes: ``(3, n)`` contiguous, the same points axis by axis, if that is known.
    """

    def __init__(
        self, xyz: np.ndarray, keys: np.ndarray, axes: np.ndarray | None = None
    ):
        self.axes = [np.ascontiguousarray(a) for a in (xyz.T if axes is None else axes)]
        # From the largest boxes: (low, high, starts, counts).
        self.tiers: list[
            tuple[list[np.ndarray], list[np.ndarray], np.ndarray, np.ndarray]
        ] = []
        low = high = self.axes
        keys = keys >> np.uint64(FINEST_BITS)
        while True:
            starts = run_starts(keys)
            counts = np.diff(starts, append=len(keys))
            if len(keys):
                low = [np.minimum.reduceat(axis, starts) for axis in low]
                high = [np.maximum.reduceat(axis, starts) for axis in high]
            self.tiers.insert(0, (low, high, starts, counts))
            if len(starts) <= FEW_BOXES:
                break
            keys = keys[starts] >> np.uint64(STEP_BITS)

    def inside(
        self, shape: Shape, center: np.ndarray, limit: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the points whose measure is at most `limit`.

        Args:
            shape: The shape with the metric.
            center: ``(3,)``, meters.
            limit: Largest measure.

        Returns:
            ``(n,)`` ascending rows and ``(n,)`` their measures.
        """
        rows = np.arange(len(self.tiers[0][2]))
        for low, high, starts, counts in self.tiers:
            gaps = [
                np.maximum(
                    np.maximum(low[a].take(rows) - center[a], 0),
                    center[a] - high[a].take(rows),
                )
                for a in range(shape.axes)
            ]
            near = rows[shape.measure(gaps) <= limit]
            rows = run_rows(starts[near], counts[near])
        measures = shape.measure(
            [self.axes[a].take(rows) - center[a] for a in range(shape.axes)]
        )
        keep = measures <= limit
        return rows[keep], measures[keep]


def crop(
    rows: np.ndarray, measures: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the `count` rows with the smallest measures, in their order.

    Args:
        rows: ``(n,)``.
        measures: ``(n,)``.
        count: At least 1.

    Returns:
        At most `count` rows, and their measures.
    """
    if len(rows) <= count:
        return rows, measures
    keep = np.zeros(len(rows), bool)
    keep[np.argpartition(measures, count - 1)[:count]] = True
    return rows[keep], measures[keep]
