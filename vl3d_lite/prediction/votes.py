"""Prediction: overlapping fields vote until every point has a class."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import keras
import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from vl3d_lite.errors import DataError
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.prediction.class_groups import fold
from vl3d_lite.system.background import prefetch
from vl3d_lite.system.interrupts import Interrupts

logger = logging.getLogger(__name__)


class Votes:
    """Probabilities gathered from overlapping fields, cell by cell.

    Args:
        n: Cells of the cloud.
        n_classes: Classes.
    """

    def __init__(self, n: int, n_classes: int):
        self.sum = np.zeros((n, n_classes), np.float32)
        self.count = np.zeros(n, np.int32)

    def add(self, indices: np.ndarray, probabilities: np.ndarray) -> None:
        """Add the votes of a batch.

        Args:
            indices: ``(B, R)`` int, cells; -1 on padding. A field holds a cell
                once.
            probabilities: ``(B, R, classes)`` float.
        """
        for rows, values in zip(indices, probabilities, strict=True):
            present = rows >= 0
            self.sum[rows[present]] += values[present]
            self.count[rows[present]] += 1

    def merge(self, other: "Votes") -> None:
        """Add the votes another worker gathered on the same cells."""
        self.sum += other.sum
        self.count += other.count

    def result(self, xyz: np.ndarray) -> "CellPrediction":
        """Mean probabilities; a cell without votes takes its nearest voted one's.

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
    """What the network says of each cell of a cloud.

    Attributes:
        probabilities: ``(n, classes)`` float32; rows sum to 1.
        voted: ``(n,)`` bool; False where the nearest voted cell was asked.
    """

    probabilities: np.ndarray
    voted: np.ndarray

    def calibrated(self, temperature: Temperature) -> "CellPrediction":
        """The same with confidences that say how often they are right."""
        return replace(self, probabilities=temperature.apply(self.probabilities))

    def folded(self, groups: Sequence[Sequence[int]]) -> "CellPrediction":
        """The same with classes joined: their probabilities are summed."""
        return replace(self, probabilities=fold(self.probabilities, groups))

    @property
    def classes(self) -> np.ndarray:
        """``(n,)`` int32, the most probable class; the lowest on a tie."""
        return np.argmax(self.probabilities, axis=1).astype(np.int32)

    @property
    def confidence(self) -> np.ndarray:
        """``(n,)`` float32 in [1 / classes, 1], the highest probability."""
        return np.max(self.probabilities, axis=1)

    @property
    def entropy(self) -> np.ndarray:
        """``(n,)`` float32 in [0, 1], Shannon entropy over log(classes)."""
        p = np.clip(self.probabilities, 1e-12, 1.0)
        entropy = -np.sum(p * np.log(p), axis=1) / np.log(p.shape[1])
        return np.clip(entropy, 0.0, 1.0)


def mean_over_grids(
    parts: Iterable[tuple[CellPrediction, np.ndarray]],
) -> tuple[CellPrediction, np.ndarray]:
    """What several grids of one cloud say together, point by point.

    Points that share a cell of one grid are told apart by the others.

    Args:
        parts: For each grid, at least one, what is said of its cells, and the
            ``(n,)`` int cell of each point of the cloud.

    Returns:
        The mean of the points' probabilities, a point a row, voted where any
        grid did, and ``(n,)`` the row of each point. Of a single grid its own.
    """
    parts = iter(parts)
    first, rows = next(parts)
    total, voted, count = None, None, 1
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
    """Probabilities of ``(..., classes)`` logits, float32."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def predict_cells(
    model: keras.Model,
    batches,
    xyz: np.ndarray,
    *,
    at_once: int = 1,
    interrupts: Interrupts | None = None,
    quiet: bool = True,
    description: str = "predicting",
) -> CellPrediction:
    """Sweep the fields of a cloud through the network and count their votes.

    Args:
        model: The network; logits out.
        batches: A `SweepBatches` of the cloud.
        xyz: ``(n, 3)`` float, the cells' coordinates in meters.
        at_once: Batches that the network works on at the same time.
        interrupts: Asked before every batch whether a signal came.
        quiet: No progress bar.
        description: Text before the progress bar.

    Raises:
        DataError: The network's answer is not finite.
        InterruptedRunError: A signal came.
    """

    def answer(batch):
        inputs, indices = batch
        logits = np.asarray(model.predict_on_batch(inputs))
        if not np.isfinite(logits).all():
            raise DataError(
                f"{description}: the network's answer is not finite; train again "
                "with `training.precision: float32` or a lower learning rate"
            )
        return indices, softmax(logits)

    votes = Votes(len(xyz), model.output_shape[-1])
    with (
        tqdm(total=len(batches), desc=description, unit="batch", disable=quiet) as bar,
        contextlib.ExitStack() as threads,
    ):
        rest = iter(batches)
        first = map(answer, islice(rest, 1))  # traces and compiles, once
        others = map(answer, rest) if at_once == 1 else prefetch(answer, rest, at_once)
        for some in (rest, others):
            threads.callback(getattr(some, "close", lambda: None))
        for indices, probabilities in chain(first, others):
            if interrupts is not None:
                interrupts.check(f"{description} was interrupted; nothing was written")
            votes.add(indices, probabilities)
            bar.update()
    return votes.result(xyz)
