"""Settings that reduce the memory of a run."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.dataset import CloudSize, coarser
from vl3d_lite.errors import ResourceError
from vl3d_lite.spec import Spec
from vl3d_lite.system import memory_limit
from vl3d_lite.training.memory import Memory, estimate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remedy:
    """A setting, and the peak of the main memory with it.

    Attributes:
        text: The setting as ``--set`` takes it; several are separated by commas.
        host: The peak in bytes.
    """

    text: str
    host: float


# A changed spec, and the settings that were changed.
Change = tuple[Spec, str]


def remedies(
    spec: Spec, measure: Callable[[Spec], Memory], limit: float
) -> list[Remedy]:
    """The three settings that lower the peak most, each changed on its own.

    Each setting is halved until the peak fits, or until it reaches its lowest
    sensible value.

    Args:
        spec: The spec of the run.
        measure: Returns the estimate of a changed spec.
        limit: Free memory in bytes.
    """
    found = []
    for change in (_batch, _points, _channels, _neighbors, _grid):
        best: Remedy | None = None
        now = spec
        # 40 halvings end every setting; the bound guards against an endless loop.
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


def _batch(now: Spec, spec: Spec) -> Change | None:
    size = now.training.batch_size // 2
    if size < 1:
        return None
    return _training(now, batch_size=size), f"training.batch_size={size}"


def _points(now: Spec, spec: Spec) -> Change | None:
    halved = _stages(now, points=lambda n: n // 2)
    stages = halved.model.stages
    if any(stage.points < stage.neighbors for stage in stages):
        return None
    text = ", ".join(
        f"model.stages.{n}.points={s.points}" for n, s in enumerate(stages)
    )
    return halved, text


def _channels(now: Spec, spec: Spec) -> Change | None:
    groups = int(np.lcm(spec.model.kpconvx.groups, spec.model.gva.groups))
    halved = _stages(now, channels=lambda n: n // 2 // groups * groups)
    stages = halved.model.stages
    if any(stage.channels < groups for stage in stages):
        return None
    text = ", ".join(
        f"model.stages.{n}.channels={s.channels}" for n, s in enumerate(stages)
    )
    return halved, text


def _neighbors(now: Spec, spec: Spec) -> Change | None:
    if now.model.stages[0].neighbors // 2 < 8:
        return None
    halved = _stages(now, neighbors=lambda n: max(8, n // 2))
    text = ", ".join(
        f"model.stages.{n}.neighbors={s.neighbors}"
        for n, s in enumerate(halved.model.stages)
    )
    return halved, text


def _grid(now: Spec, spec: Spec) -> Change | None:
    size = now.fields.grid_size * 2
    if size > 4 * spec.fields.grid_size:
        return None
    fields = now.fields.model_copy(update={"grid_size": size})
    return now.model_copy(update={"fields": fields}), f"fields.grid_size={size:g}"


def require_memory_for(
    spec: Spec,
    where: str | Path,
    train: Sequence[CloudSize] = (),
    validation: Sequence[CloudSize] = (),
    predict: Sequence[CloudSize] = (),
    *,
    threads: int = 1,
    accelerator: bool = False,
    refuse_above: float = 1.0,
) -> Memory:
    """Refuse a run that does not fit into memory, and name settings that lower it.

    Args:
        spec: The spec of the run.
        where: Its name in messages.
        train, validation, predict: Sizes of the clouds, as in `estimate`.
        threads, accelerator: As in `estimate`.
        refuse_above: Estimate by free memory above which the run is refused. Below
            it, a run that may not fit is a warning.

    Returns:
        The estimate.

    Raises:
        ResourceError: The run does not fit. The message names the amounts and three
            settings.
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
    if memory.host > refuse_above * limit:
        settings = "; ".join(
            f"`--set {remedy.text.replace(', ', ' --set ')}` "
            f"({remedy.host / 2**30:.1f} GiB)"
            for remedy in remedies(spec, measure, limit)
        )
        raise ResourceError(
            f"{where}: needs about {memory.host / 2**30:,.1f} GiB of memory and "
            f"{limit / 2**30:.1f} GiB are free. Each of these settings lowers it: "
            f"{settings}"
        )
    if memory.host > limit:
        logger.warning(
            "%s: needs about %.1f GiB of memory and %.1f GiB are free; it may not fit",
            where,
            memory.host / 2**30,
            limit / 2**30,
        )
    return memory
