"""The peak memory of a run, estimated before it begins. No Keras.

It is a sum of named parts. The constants are measured; benchmarks/bench_plan.py
compares the sum with runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vl3d_lite.dataset import BYTES_PER_POINT, CloudSize, batch_spec, cloud_bytes
from vl3d_lite.model import LayerCost, count_parameters, network_cost
from vl3d_lite.spec import Spec, feature_columns
from vl3d_lite.training.compilation import compiles

MEBI = 2**20
RUNTIME = 760 * MEBI  # Python with Keras and TensorFlow, before a network is built
COPIES = 5  # of a weight: value, gradient, two moments, best value so far
# Estimate by free memory above which a training is refused: an estimate may be too
# high, so a training that is close to the limit is tried.
REFUSE_ABOVE = 1.25
# Bytes that the graph of a layer takes permanently, for training and validation; and
# what XLA takes beyond that while it compiles, before the first step. By use of XLA.
GRAPH = {False: 13 * MEBI, True: 50 * MEBI}
COMPILING = {False: 0, True: 41 * MEBI}
# Measured memory of a step by the memory of the formula (`cost.LayerCost`), which
# counts neither gradients nor temporary arrays. By use of XLA.
HELD = {False: 1.33, True: 1.78}


@dataclass(frozen=True)
class Memory:
    """An estimate of memory, in bytes.

    Attributes:
        runtime: Python, Keras and TensorFlow.
        clouds: Prepared clouds: coordinates, neighbors, features.
        reading: Beyond `clouds`, while the largest cloud is read and prepared.
        graph: The traced network, compiled where XLA pays.
        compiling: Beyond `graph`, before the first step.
        step: What a training step keeps for its gradient.
        weights: Parameters, gradients and moments.
        batches: Batches that are made ahead.
        accelerator: Whether step and weights are in the memory of a GPU.
    """

    runtime: float
    clouds: float
    reading: float
    graph: float
    compiling: float
    step: float
    weights: float
    batches: float
    accelerator: bool = False

    @property
    def host(self) -> float:
        """Peak of the main memory."""
        step, weights = (0, 0) if self.accelerator else (self.step, self.weights)
        training = self.graph + max(self.compiling, step) + weights + self.batches
        return self.runtime + self.clouds + max(self.reading, training)

    @property
    def device(self) -> float:
        """Peak of the GPU memory, if a GPU is used: by formula, not measured."""
        return self.step + self.weights + self.batches


def estimate(
    spec: Spec,
    train: Sequence[CloudSize] = (),
    validation: Sequence[CloudSize] = (),
    predict: Sequence[CloudSize] = (),
    *,
    threads: int = 1,
    accelerator: bool = False,
) -> Memory:
    """Estimate the peak memory of a training and of the predictions that follow.

    Args:
        spec: The spec of the run.
        train: Training clouds, on each of their grids. Without any, only the network
            counts.
        validation: Validation clouds, which are kept beside them.
        predict: Clouds predicted afterwards, one at a time. The next one is prepared
            beside it only where it fits (`fits_beside`), so it does not count.
        threads: Threads that prepare batches.
        accelerator: Whether a GPU or TPU computes.
    """
    columns = len(feature_columns(spec.features))
    layers = network_cost(spec.model, columns, len(spec.classes))
    parameters = count_parameters(spec.model, columns, len(spec.classes))
    steps = spec.training.epochs * steps_per_epoch(
        spec, sum(size.cells[0] for size in train)
    )
    jit = compiles(spec, steps, accelerator=accelerator)
    own = [cloud_bytes(spec, size) for size in train]
    held_out = [cloud_bytes(spec, size, swept=True) for size in validation]
    later = [cloud_bytes(spec, size, swept=True) for size in predict]
    largest = max((s.points for s in (*train, *validation)), default=0)
    batch = sum(
        np.prod(shape) * dtype.itemsize
        for shape, dtype in batch_spec(spec, columns).values()
    )
    made = spec.training.batch_size + bool(validation) * spec.prediction_batch
    return Memory(
        runtime=RUNTIME,
        clouds=sum(own) + sum(held_out) + max(later, default=0),
        reading=largest * BYTES_PER_POINT,
        graph=len(layers) * GRAPH[jit],
        compiling=len(layers) * COMPILING[jit],
        step=step_bytes(spec, layers, jit),
        weights=4 * COPIES * parameters,
        batches=float(batch * made * 2 * threads),
        accelerator=accelerator,
    )


def steps_per_epoch(spec: Spec, cells: int) -> int:
    """Number of batches per epoch: that of the spec, or as many as cover the clouds.

    Args:
        spec: The spec of the run.
        cells: Cells of the finest level of the training clouds, on all their grids.
    """
    size = spec.points_per_batch * spec.training.augmentation.grids
    return spec.training.steps_per_epoch or max(1, -(-cells // size))


def step_bytes(spec: Spec, layers: Sequence[LayerCost], jit: bool) -> float:
    """Bytes that a training step keeps until its gradient is computed.

    Args:
        spec: The spec of the run.
        layers: The layers of its network.
        jit: Whether XLA compiles it.
    """
    half = spec.training.precision != "float32"
    numbers = sum(
        spec.model.stages[cost.stage].points
        * (cost.per_point + cost.per_neighbor * spec.model.stages[cost.stage].neighbors)
        for cost in layers
    )
    return HELD[jit] * spec.training.batch_size * numbers * (2 if half else 4)
