"""Settings that reduce the memory of a run."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.dataset.sizes import CloudSize, coarser
from vl3d_lite.errors import ResourceError
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.resources import memory_limit
from vl3d_lite.training.memory import Memory, estimate

logger = logging.getLogger(__name__)


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
