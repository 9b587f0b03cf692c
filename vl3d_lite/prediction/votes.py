"""Votes: overlapping fields predict cells until every point has a class."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import keras
import numpy as np
from scipy.spatial import cKDTree

from vl3d_lite.dataset import Inputs, SweepBatches
from vl3d_lite.errors import DataError
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.prediction.class_groups import sum_groups
from vl3d_lite.system import Interrupts, ProgressBar, prefetch

logger = logging.getLogger(__name__)


class Votes:
    """Sums of the probabilities that overlapping fields give each cell.

    Args:
        n: Number of cells of the cloud.
        n_classes: Number of classes.

    Attributes:
        sum: ``(n, n_classes)`` float32, sum of the probabilities.
        count: ``(n,)`` int32, number of votes.
    """

    def __init__(self, n: int, n_classes: int):
        self.sum = np.zeros((n, n_classes), np.float32)
        self.count = np.zeros(n, np.int32)

    def add(self, indices: np.ndarray, probabilities: np.ndarray) -> None:
        """Add the votes of a batch.

        Args:
            indices: ``(B, R)`` int, cells; -1 on padding. A field holds each cell at
                most once.
            probabilities: ``(B, R, classes)`` float.
        """
        for rows, values in zip(indices, probabilities, strict=True):
            present = rows >= 0
            self.sum[rows[present]] += values[present]
            self.count[rows[present]] += 1

    def merge(self, other: "Votes") -> None:
        """Add the votes that another worker counted on the same cells."""
        self.sum += other.sum
        self.count += other.count

    def result(self, xyz: np.ndarray) -> "CellPrediction":
        """Mean probabilities; a cell without votes takes those of the nearest cell.

        Args:
            xyz: ``(n, 3)`` float, centers of the cells in meters.
        """
        voted = self.count > 0
        probabilities = self.sum / np.maximum(self.count, 1)[:, None]
        if not voted.all() and voted.any():
            _, nearest = cKDTree(xyz[voted]).query(xyz[~voted])
            probabilities[~voted] = probabilities[voted][nearest]
        return CellPrediction(probabilities, voted)


@dataclass
class CellPrediction:
    """The prediction of each cell of a cloud.

    Attributes:
        probabilities: ``(n, classes)`` float32; rows sum to 1.
        voted: ``(n,)`` bool; False where a cell is filled from the nearest voted
            one.
    """

    probabilities: np.ndarray
    voted: np.ndarray

    def calibrated(self, temperature: Temperature) -> "CellPrediction":
        """The same cells with calibrated probabilities."""
        return replace(self, probabilities=temperature.apply(self.probabilities))

    def grouped(self, groups: Sequence[Sequence[int]]) -> "CellPrediction":
        """The same cells with the probabilities of each class group summed.

        Args:
            groups: Class indices of each group, as `group_classes` returns them.
        """
        return replace(self, probabilities=sum_groups(self.probabilities, groups))

    @property
    def class_index(self) -> np.ndarray:
        """``(n,)`` int32, index of the most probable class; the lowest on a tie."""
        return np.argmax(self.probabilities, axis=1).astype(np.int32)

    @property
    def confidence(self) -> np.ndarray:
        """``(n,)`` float32 in [1 / classes, 1], the highest probability."""
        return np.max(self.probabilities, axis=1)

    @property
    def entropy(self) -> np.ndarray:
        """``(n,)`` float32 in [0, 1], Shannon entropy over log(classes)."""
        p = np.clip(self.probabilities, 1e-12, 1.0)  # 0 log 0 is 0
        entropy = -np.sum(p * np.log(p), axis=1) / np.log(p.shape[1])
        return np.clip(entropy, 0.0, 1.0)


def mean_over_grids(
    parts: Iterable[tuple[CellPrediction, np.ndarray]],
) -> tuple[CellPrediction, np.ndarray]:
    """Average the predictions of several grids of one cloud, point by point.

    Points that share a cell of one grid are in different cells of other grids.

    Args:
        parts: For each grid, at least one, the prediction of its cells, and the
            ``(n,)`` int cell of each point of the cloud.

    Returns:
        The mean probabilities with one row per point, voted where any grid voted;
        and ``(n,)`` int, the row of each point. A single grid is returned as it is.
    """
    parts = iter(parts)
    first, rows = next(parts)
    total: np.ndarray | None = None
    voted, count = first.voted, 1
    for prediction, cell_of_point in parts:
        if total is None:
            total, voted = first.probabilities[rows], first.voted[rows]
        total += prediction.probabilities[cell_of_point]
        voted |= prediction.voted[cell_of_point]
        count += 1
    if total is None:
        return first, rows
    total /= count
    return CellPrediction(total, voted), np.arange(len(rows))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of ``(..., classes)`` logits, of the same dtype."""
    # Without the shift the exponential of large logits is infinite.
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def predict_cells(
    model: keras.Model,
    batches: SweepBatches,
    xyz: np.ndarray,
    *,
    at_once: int = 1,
    interrupts: Interrupts | None = None,
    quiet: bool = True,
    description: str = "predicting",
) -> CellPrediction:
    """Predict the fields of a cloud and count their votes.

    Args:
        model: The network, which returns logits.
        batches: The fields that cover the cloud.
        xyz: ``(n, 3)`` float, centers of the cells in meters.
        at_once: Batches that the network predicts at the same time.
        interrupts: Checked before every batch for a signal.
        quiet: Show no progress bar.
        description: Text before the progress bar.

    Raises:
        DataError: An output of the network is not finite.
        InterruptedRunError: A signal came.
    """

    def predict(
        batch: tuple[Inputs, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        inputs, indices = batch
        logits = np.asarray(model.predict_on_batch(inputs))
        if not np.isfinite(logits).all():
            raise DataError(
                f"{description}: an output of the network is not finite; train again "
                "with `training.precision: float32` or a lower learning rate"
            )
        return indices, softmax(logits)

    votes = Votes(len(xyz), model.output_shape[-1])
    with (
        ProgressBar(
            desc=description, total=len(batches), unit="batch", quiet=quiet
        ) as bar,
        contextlib.ExitStack() as threads,
    ):
        rest = iter(batches)
        first = map(predict, islice(rest, 1))  # traces and compiles, once
        others = (
            map(predict, rest) if at_once == 1 else prefetch(predict, rest, at_once)
        )
        for some in (rest, others):
            threads.callback(getattr(some, "close", lambda: None))
        for indices, probabilities in chain(first, others):
            if interrupts is not None:
                interrupts.check(f"{description} was interrupted; nothing was written")
            votes.add(indices, probabilities)
            bar.update()
    return votes.result(xyz)
