"""The most memory a run will hold, estimated before it begins. No Keras.

A sum of parts that each say what they are for; the constants were measured
(benchmarks/bench_plan.py holds the sum against runs).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.reading import describe_las
from vl3d_lite.dataset.batches import batch_spec
from vl3d_lite.dataset.extractor import transfer_widths
from vl3d_lite.dataset.files import BYTES_PER_POINT
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.errors import ResourceError, VL3DError
from vl3d_lite.model.cost import (
    LayerCost,
    count_parameters,
    network_cost,
    pays_to_compile,
)
from vl3d_lite.spec.schema.spec import Spec, feature_columns
from vl3d_lite.system.resources import memory_limit

logger = logging.getLogger(__name__)

MEBI = 2**20
RUNTIME = 760 * MEBI  # Python with Keras and TensorFlow, before a network is built
SHRINKS = 0.4  # cells of a level for each of the level before, where not counted
SWEEP = 1.7  # fields that hold a cell in a pass over a cloud
COPIES = 5  # of a weight: itself, gradient, two moments, the best so far
SURE = 1.25  # times the limit an estimate must be for a training to be refused

# Bytes that the graph of a layer takes for good, with validation's; and what
# XLA takes beyond that while it compiles, before the first step.
GRAPH = {False: 13 * MEBI, True: 50 * MEBI}
COMPILING = {False: 0, True: 41 * MEBI}
# Times the numbers a step keeps by formula (`cost.LayerCost`) that it was seen to
# hold: gradients and temporaries come on top.
HELD = {False: 1.33, True: 1.78}


@dataclass(frozen=True)
class CloudSize:
    """How large a cloud is once it is prepared.

    Attributes:
        points: Of the file.
        cells: Of each level; the finest alone where others are not known.
    """

    points: int
    cells: tuple[int, ...]


def size_of(cloud: PreparedCloud) -> CloudSize:
    """The size of a prepared cloud."""
    cells = tuple(len(level.xyz) for level in cloud.hierarchy.levels)
    return CloudSize(len(cloud.cell_of_point), cells)


@dataclass(frozen=True)
class Memory:
    """An estimate, in bytes.

    Attributes:
        runtime: Python, Keras and TensorFlow.
        clouds: Prepared clouds: coordinates, neighbors, features.
        reading: Beyond them, while the largest is read and prepared.
        graph: The traced, and where so chosen compiled, network.
        compiling: Beyond that, before the first step.
        step: What a training step keeps for its gradient.
        weights: Parameters, gradients and moments.
        batches: Batches made ahead.
        accelerator: Whether step and weights lie on a GPU.
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
        """Peak of RAM."""
        step, weights = (0, 0) if self.accelerator else (self.step, self.weights)
        training = self.graph + max(self.compiling, step) + weights + self.batches
        return self.runtime + self.clouds + max(self.reading, training)

    @property
    def device(self) -> float:
        """Peak of GPU memory, if one is used: formula only."""
        return self.step + self.weights + self.batches


def compiles(spec: Spec, total_steps: int) -> bool:
    """Whether training on a CPU compiles with XLA, as `train.choose_jit` does."""
    setting = spec.training.jit
    if setting != "auto":
        return setting == "on"
    return pays_to_compile(spec, total_steps)


def estimate(
    spec: Spec,
    train: Sequence[CloudSize] = (),
    validation: Sequence[CloudSize] = (),
    predict: Sequence[CloudSize] = (),
    *,
    threads: int = 1,
    accelerator: bool = False,
) -> Memory:
    """The most memory of training and of what follows it in a run.

    Args:
        spec: The run.
        train: Training clouds, on each of their grids; with none, the network
            alone is counted.
        validation: Validation clouds, which are kept beside them.
        predict: Clouds predicted afterwards, one at a time; the next one is made
            ready beside it only where that fits (`fits_beside`).
        threads: Of preparation.
        accelerator: Whether a GPU computes.
    """
    columns = len(feature_columns(spec.features))
    layers = network_cost(spec.model, columns, len(spec.classes))
    parameters = count_parameters(spec.model, columns, len(spec.classes))
    steps = spec.training.epochs * steps_per_epoch(
        spec, sum(size.cells[0] for size in train)
    )
    jit = accelerator or compiles(spec, steps)
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
    """Batches of an epoch: as the spec says, or as many as cover the clouds.

    Args:
        spec: The run.
        cells: Of the finest level of the training clouds, on all their grids.
    """
    size = spec.points_per_batch * spec.training.augmentation.grids
    return spec.training.steps_per_epoch or max(1, -(-cells // size))


def step_bytes(spec: Spec, layers: Sequence[LayerCost], jit: bool) -> float:
    """What a training step keeps until its gradient is done."""
    half = spec.training.precision != "float32"
    numbers = sum(
        spec.model.stages[cost.stage].points
        * (cost.per_point + cost.per_neighbor * spec.model.stages[cost.stage].neighbors)
        for cost in layers
    )
    return HELD[jit] * spec.training.batch_size * numbers * (2 if half else 4)


def cloud_bytes(spec: Spec, size: CloudSize, *, swept: bool = False) -> float:
    """Bytes of a prepared cloud with its features and, if swept, its fields."""
    stages = spec.model.stages
    down, up = transfer_widths(spec)
    cells = list(size.cells)
    while len(cells) < len(stages):
        cells.append(round(cells[-1] * SHRINKS))
    total = 4.0 * size.points
    columns = len(feature_columns(spec.features))
    # Features, scaled ones, labels, counts, keys, and coordinates in order.
    total += cells[0] * (8 * columns + 4 + 4 + 8 + 24)
    for number, stage in enumerate(stages):
        total += cells[number] * (24 + 4 * stage.neighbors + 4)
        if number + 1 < len(stages):
            total += cells[number + 1] * 4 * down[number] + cells[number] * 4 * (up + 1)
    if swept:
        total += cells[0] * (8 * SWEEP + 8 * len(spec.classes) + 8)
    else:
        total += 8 * cells[0]
    return total


def fits_beside(path: Path, spec: Spec) -> bool:
    """Whether a cloud may be prepared while another one is predicted.

    It takes half of the memory that is free at most, however few of its points
    share a cell.
    """
    try:
        points = describe_las(path).points
    except VL3DError:  # it is told when the cloud's turn has come
        return False
    size = CloudSize(points, (points,))
    needed = points * BYTES_PER_POINT + cloud_bytes(spec, size, swept=True)
    return needed <= memory_limit() / 2


@dataclass(frozen=True)
class Remedy:
    """A setting, and the peak it would bring.

    Attributes:
        text: As ``--set`` takes it.
        host: Bytes.
    """

    text: str
    host: float


def remedies(spec: Spec, measure: Callable[[Spec], Memory], limit: float) -> list:
    """The three settings that lower the peak most, each changed by itself.

    Each is halved until the peak fits, or until it is as low as makes sense.

    Args:
        spec: The run.
        measure: Gives the estimate of a changed spec.
        limit: Bytes.
    """
    found = []
    for change in (_batch, _points, _channels, _neighbors, _grid):
        best, now = None, spec
        for _ in range(40):
            step = change(now, spec)
            if step is None:
                break
            now, text = step
            host = measure(now).host
            best = Remedy(text, host)
            if host <= limit:
                break
        if best is not None:
            found.append(best)
    found.sort(key=lambda remedy: remedy.host)
    return found[:3]


def _training(spec: Spec, **changes) -> Spec:
    return spec.model_copy(
        update={"training": spec.training.model_copy(update=changes)}
    )


def _stages(spec: Spec, **changes: Callable[[int], int]) -> Spec:
    stages = [
        stage.model_copy(
            update={name: f(getattr(stage, name)) for name, f in changes.items()}
        )
        for stage in spec.model.stages
    ]
    return spec.model_copy(
        update={"model": spec.model.model_copy(update={"stages": stages})}
    )


def _batch(now: Spec, spec: Spec):
    size = now.training.batch_size // 2
    if size < 1:
        return None
    return _training(now, batch_size=size), f"training.batch_size={size}"


def _points(now: Spec, spec: Spec):
    halved = _stages(now, points=lambda n: n // 2)
    stages = halved.model.stages
    if any(stage.points < stage.neighbors for stage in stages):
        return None
    told = ", ".join(
        f"model.stages.{n}.points={s.points}" for n, s in _numbered(stages)
    )
    return halved, told


def _channels(now: Spec, spec: Spec):
    groups = int(np.lcm(spec.model.kpconvx.groups, spec.model.gva.groups))
    halved = _stages(now, channels=lambda n: n // 2 // groups * groups)
    stages = halved.model.stages
    if any(stage.channels < groups for stage in stages):
        return None
    told = ", ".join(
        f"model.stages.{n}.channels={s.channels}" for n, s in _numbered(stages)
    )
    return halved, told


def _neighbors(now: Spec, spec: Spec):
    if now.model.stages[0].neighbors // 2 < 8:
        return None
    halved = _stages(now, neighbors=lambda n: max(8, n // 2))
    told = ", ".join(
        f"model.stages.{n}.neighbors={s.neighbors}"
        for n, s in _numbered(halved.model.stages)
    )
    return halved, told


def _grid(now: Spec, spec: Spec):
    size = now.fields.grid_size * 2
    if size > 4 * spec.fields.grid_size:
        return None
    fields = now.fields.model_copy(update={"grid_size": size})
    return now.model_copy(update={"fields": fields}), f"fields.grid_size={size:g}"


def _numbered(stages):
    return list(enumerate(stages))


def coarser(sizes: Sequence[CloudSize], factor: float) -> list[CloudSize]:
    """Clouds on a grid `factor` times as coarse: surfaces have its square fewer."""
    return [
        replace(size, cells=tuple(max(1, round(n / factor**2)) for n in size.cells))
        for size in sizes
    ]


def require_memory_for(
    spec: Spec,
    where: str | Path,
    train: Sequence[CloudSize] = (),
    validation: Sequence[CloudSize] = (),
    predict: Sequence[CloudSize] = (),
    *,
    threads: int = 1,
    accelerator: bool = False,
    sure: float = 1.0,
) -> Memory:
    """Refuse a run that will not fit, and say what would bring it down.

    Args:
        spec: The run.
        where: What messages call it.
        train: As in `estimate`.
        validation: As in `estimate`.
        predict: As in `estimate`.
        threads: As in `estimate`.
        accelerator: As in `estimate`.
        sure: How many times the free memory the estimate must be.

    Returns:
        The estimate.

    Raises:
        ResourceError: It names the amounts and three settings.
    """

    def measure(changed: Spec) -> Memory:
        factor = changed.fields.grid_size / spec.fields.grid_size
        return estimate(
            changed,
            *(coarser(sizes, factor) for sizes in (train, validation, predict)),
            threads=threads,
            accelerator=accelerator,
        )

    memory, limit = measure(spec), memory_limit()
    if memory.host > sure * limit:
        told = "; ".join(
            f"`--set {remedy.text.replace(', ', ' --set ')}` "
            f"({remedy.host / 2**30:.1f} GiB)"
            for remedy in remedies(spec, measure, limit)
        )
        raise ResourceError(
            f"{where}: needs about {memory.host / 2**30:,.1f} GiB of memory and "
            f"{limit / 2**30:.1f} GiB are free. What brings it down most, each by "
            f"itself: {told}"
        )
    if memory.host > limit:
        logger.warning(
            "%s: needs about %.1f GiB of memory and %.1f GiB are free; it may not fit",
            where,
            memory.host / 2**30,
            limit / 2**30,
        )
    return memory
