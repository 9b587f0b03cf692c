"""Hold out validation data apart in space: a whole cloud, or a block of one."""

from collections.abc import Mapping, Sequence

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.guide.init.survey import Survey

MIN_REMAINING = 0.5  # of a validation cloud's labels, once the border is left out
SHARE = 0.2  # of the points, for validation
# The gap between two blocks, so that fields of both do not see the same points.
GAP_SPACINGS = 10
MAX_GAP_SHARE = 0.05  # of the extent
LEFT_OUT, TRAIN, VALIDATION = 0, 1, 2


def choose_validation(
    surveys: Sequence[Survey], index_by_code: Mapping[int, int]
) -> int:
    """Choose which of several labeled clouds to validate on.

    The choice removes as few classes as possible from training, overlaps as few
    other clouds as possible, and has the distribution of classes closest to that of
    all clouds and a size closest to a fifth; in this order.

    Args:
        surveys: At least two.
        index_by_code: LAS code to class index.

    Returns:
        Index of the chosen cloud.
    """
    counts = np.array([class_points(s.codes, index_by_code) for s in surveys])
    total = counts.sum(axis=0)
    present = total > 0

    def cost(number: int) -> tuple:
        own = counts[number]
        lost = int(np.count_nonzero(present & (total == own)))
        absent = int(np.count_nonzero(present & (own == 0)))
        apart = sum(
            _overlap(surveys[number], other) > 0
            for other in surveys
            if other is not surveys[number]
        )
        return lost, apart, absent + _distance(own, total), surveys[number].path

    return min(range(len(surveys)), key=cost)


def class_points(
    codes: Mapping[int, int], index_by_code: Mapping[int, int]
) -> np.ndarray:
    """Number of points of each class, ``(classes,)``."""
    result = np.zeros(max(index_by_code.values(), default=-1) + 1)
    for code, number in index_by_code.items():
        result[number] += codes.get(code, 0)
    return result


def _distance(own: np.ndarray, total: np.ndarray) -> float:
    """Half the L1 distance of two distributions, plus the size's from a fifth."""
    if not own.sum():
        return float("inf")
    difference = np.abs(own / own.sum() - total / total.sum()).sum() / 2
    return float(difference + abs(own.sum() / total.sum() - SHARE))


def _overlap(one: Survey, other: Survey) -> float:
    """Area in m2 that the bounding boxes of two clouds share."""
    low = np.maximum(one.corners[0, :2], other.corners[0, :2])
    high = np.minimum(one.corners[1, :2], other.corners[1, :2])
    sides = np.maximum(high - low, 0)
    # Adjacent tiles share a strip of a point or two at their border.
    slack = 2 * max(one.spacing, other.spacing)
    return float(np.prod(np.where(sides > slack, sides, 0)))


def points_near_others(
    xy: np.ndarray, spacing: float, others: Sequence[Survey]
) -> tuple[np.ndarray, float]:
    """Find the points of a cloud that lie in other clouds or next to them.

    Args:
        xy: ``(n, 2)`` float64, meters, as in the surveys.
        spacing: Mean point spacing in meters.
        others: Other clouds, each represented by its bounding box.

    Returns:
        ``(n,)`` bool, and the width of the gap in meters.
    """
    gap = min(GAP_SPACINGS * spacing, MAX_GAP_SHARE * float(np.ptp(xy, axis=0).max()))
    near = np.zeros(len(xy), bool)
    for other in others:
        low, high = other.corners[:, :2]
        near |= np.all((xy > low - gap) & (xy < high + gap), axis=1)
    return near, gap


def block_of_points(
    xy: np.ndarray, labels: np.ndarray, spacing: float
) -> tuple[np.ndarray, str]:
    """Split a cloud along a straight line into a training and a validation block.

    Four candidates, one from each side, hold out a fifth of the points. The choice
    removes as few classes as possible from training and has the distribution of
    classes closest to that of the whole cloud. A gap between the blocks is left out.

    Args:
        xy: ``(n, 2)`` float, meters.
        labels: ``(n,)`` int class indices; -1 ignored.
        spacing: Mean point spacing in meters.

    Returns:
        ``(n,)`` uint8: 0 left out, 1 training, 2 validation; and the side on which
        the validation block lies.

    Raises:
        DataError: No line leaves labeled points on both sides.
    """
    total = np.bincount(labels[labels >= 0])
    best = None
    for axis, sign, side in (
        (0, -1, "west"),
        (0, 1, "east"),
        (1, -1, "south"),
        (1, 1, "north"),
    ):
        position = sign * xy[:, axis]
        border = np.quantile(position, 1 - SHARE)
        gap = min(GAP_SPACINGS * spacing, MAX_GAP_SHARE * np.ptp(position))
        blocks = np.full(len(xy), LEFT_OUT, np.uint8)
        blocks[position < border - gap / 2] = TRAIN
        blocks[position > border + gap / 2] = VALIDATION
        counts = [
            np.bincount(labels[(labels >= 0) & (blocks == b)], minlength=len(total))
            for b in (TRAIN, VALIDATION)
        ]
        if not all(count.sum() for count in counts):
            continue
        lost = int(np.count_nonzero((total > 0) & (counts[0] == 0)))
        absent = int(np.count_nonzero((total > 0) & (counts[1] == 0)))
        cost = lost, absent + _distance(counts[1], total)
        if best is None or cost < best[0]:
            best = cost, blocks, side
    if best is None:
        raise DataError(
            "the cloud cannot be split into two blocks that both have labels; give a "
            "second labeled cloud"
        )
    return best[1], best[2]
