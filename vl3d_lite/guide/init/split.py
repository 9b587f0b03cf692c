"""Training and validation apart in space: whole clouds, or blocks of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import laspy
import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.guide.init.survey import Survey
from vl3d_lite.system.writing import replacing

KEPT = 0.5  # of a cloud's labelled points must stay where others border on it
SHARE = 0.2  # of the points, to validate on
GAP_SPACINGS = 10  # left out between two blocks
GAP_SHARE = 0.05  # of the extent, the most that is left out
LEFT_OUT, TRAIN, VALIDATION = 0, 1, 2
CHUNK = 1_000_000


def choose_validation(surveys: Sequence[Survey], of_code: Mapping[int, int]) -> int:
    """Which of several labelled clouds to validate on.

    The one whose mix of classes is closest to that of all and whose size is
    closest to a fifth, among those that leave every class to training; if all
    take one away, the one that takes the fewest.

    Args:
        surveys: At least two.
        of_code: LAS code to class.

    Returns:
        Its number.
    """
    counts = np.array([class_points(s.codes, of_code) for s in surveys])
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


def class_points(codes: Mapping[int, int], of_code: Mapping[int, int]) -> np.ndarray:
    """Points of each class, ``(classes,)``."""
    result = np.zeros(max(of_code.values(), default=-1) + 1)
    for code, number in of_code.items():
        result[number] += codes.get(code, 0)
    return result


def _distance(own: np.ndarray, total: np.ndarray) -> float:
    """Half the L1 distance of two mixes, and how far the size is from a fifth."""
    if not own.sum():
        return np.inf
    mix = np.abs(own / own.sum() - total / total.sum()).sum() / 2
    return float(mix + abs(own.sum() / total.sum() - SHARE))


def _overlap(one: Survey, other: Survey) -> float:
    """Area that the bounding boxes of two clouds share, in square meters."""
    low = np.maximum(one.corners[0, :2], other.corners[0, :2])
    high = np.minimum(one.corners[1, :2], other.corners[1, :2])
    sides = np.maximum(high - low, 0)
    slack = 2 * max(one.spacing, other.spacing)
    return float(np.prod(np.where(sides > slack, sides, 0)))


def beside(
    xy: np.ndarray, spacing: float, others: Sequence[Survey]
) -> tuple[np.ndarray, float]:
    """Which points of a cloud lie in other clouds or right beside them.

    Args:
        xy: ``(n, 2)`` float64, meters, as in the surveys.
        spacing: Mean distance of points in meters.
        others: Clouds, each taken as its bounding box.

    Returns:
        ``(n,)`` bool, and the width of the gap in meters.
    """
    gap = min(GAP_SPACINGS * spacing, GAP_SHARE * float(np.ptp(xy, axis=0).max()))
    near = np.zeros(len(xy), bool)
    for other in others:
        low, high = other.corners[:, :2]
        near |= np.all((xy > low - gap) & (xy < high + gap), axis=1)
    return near, gap


def block_of_points(
    xy: np.ndarray, labels: np.ndarray, spacing: float
) -> tuple[np.ndarray, str]:
    """Cut a cloud straight across into a training and a validation block.

    Four cuts, one from each side, leave a fifth of the points to validation;
    the one whose mix of classes is closest to that of the whole is taken, if
    it leaves every class to training. Between the blocks a gap stays out.

    Args:
        xy: ``(n, 2)`` float, meters.
        labels: ``(n,)`` int classes; -1 ignored.
        spacing: Mean distance of points in meters.

    Returns:
        ``(n,)`` uint8: 0 left out, 1 training, 2 validation; and the side the
        validation block lies on.

    Raises:
        DataError: No cut leaves labelled points on both sides.
    """
    total = np.bincount(labels[labels >= 0])
    best = None
    for axis, sign, side in (
        (0, -1, "west"),
        (0, 1, "east"),
        (1, -1, "south"),
        (1, 1, "north"),
    ):
        place = sign * xy[:, axis]
        border = np.quantile(place, 1 - SHARE)
        gap = min(GAP_SPACINGS * spacing, GAP_SHARE * np.ptp(place))
        blocks = np.full(len(xy), LEFT_OUT, np.uint8)
        blocks[place < border - gap / 2] = TRAIN
        blocks[place > border + gap / 2] = VALIDATION
        mixes = [
            np.bincount(labels[(labels >= 0) & (blocks == b)], minlength=len(total))
            for b in (TRAIN, VALIDATION)
        ]
        if not all(mix.sum() for mix in mixes):
            continue
        lost = int(np.count_nonzero((total > 0) & (mixes[0] == 0)))
        absent = int(np.count_nonzero((total > 0) & (mixes[1] == 0)))
        cost = lost, absent + _distance(mixes[1], total)
        if best is None or cost < best[0]:
            best = cost, blocks, side
    if best is None:
        raise DataError(
            "the cloud cannot be cut into two blocks that both carry labels; give a "
            "second labelled cloud"
        )
    return best[1], best[2]


def write_block(source: Path, target: Path, chosen: np.ndarray) -> None:
    """Write the chosen points of a LAS or LAZ file, with all their dimensions.

    Args:
        source: The file; it is only read.
        target: The block; written beside and renamed.
        chosen: ``(n,)`` bool.

    Raises:
        ResourceError: `target` cannot be written.
    """
    with (
        replacing(target) as part,
        laspy.open(source) as reader,
        laspy.open(
            part,
            mode="w",
            header=reader.header,
            do_compress=target.suffix.lower() == ".laz",
        ) as writer,
    ):
        start = 0
        for points in reader.chunk_iterator(CHUNK):
            writer.write_points(points[chosen[start : start + len(points)]])
            start += len(points)
