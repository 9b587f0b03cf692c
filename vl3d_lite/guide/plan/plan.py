"""`vl3d-lite plan`: estimate what a run needs before it starts, and warn."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from vl3d_lite.clouds import describe_las
from vl3d_lite.dataset import (
    CloudSize,
    check_clouds,
    cloud_bytes,
    cloud_warnings,
    labeled_warnings,
    open_cache,
)
from vl3d_lite.guide.domain import domain_warning
from vl3d_lite.guide.plan.cloud_facts import (
    CloudFacts,
    ReadCloudFacts,
    header_facts,
    recall_facts,
)
from vl3d_lite.guide.plan.timing import Timing, measure_timing, swept_fields
from vl3d_lite.guide.plan.warnings import cost_warnings
from vl3d_lite.model import count_parameters
from vl3d_lite.spec import LoadedSpec, Spec, feature_columns
from vl3d_lite.training import Memory, compiles, require_memory_for, steps_per_epoch

GROUPS = ("train", "validation", "predict")
COMPRESSION = 0.5  # compressed share of what a prediction adds to a LAZ file, at most
OUTPUT_BYTES = {  # bytes per point of each entry of `prediction.write`
    "prediction": 2,
    "confidence": 4,
    "entropy": 4,
    "classification": 0,
}
CHECKPOINTS = 6  # copies of the weights in a run folder: model, best, last, moments


@dataclass(frozen=True, eq=False)
class Plan:
    """The work of a run and the resources that it needs.

    Attributes:
        loaded: The spec.
        clouds: The clouds of all groups.
        parameters: Parameters of the network, by formula.
        steps: Training steps per epoch.
        batches: Batches of one pass over the validation clouds.
        jit: Whether XLA compiles the training on a CPU.
        memory: Estimated memory.
        disk: Bytes of predictions and run folder.
        cached: Bytes of the prepared clouds in the cache; 0 where it is off, or cannot
            hold them: they count in `memory` then.
        warnings: One sentence each.
        timing: Estimated seconds, if steps were measured.
    """

    loaded: LoadedSpec
    clouds: Sequence[CloudFacts]
    parameters: int
    steps: int
    batches: int
    jit: bool
    memory: Memory
    disk: float
    cached: float = 0.0
    warnings: list[str] = field(default_factory=list)
    timing: Timing | None = None


def plan_run(
    loaded: LoadedSpec,
    *,
    threads: int = 1,
    accelerator: bool = False,
    measure: bool = False,
) -> Plan:
    """Read the clouds of a spec and estimate its run.

    Training and validation clouds are read and reduced; of the clouds to predict,
    only the headers are. Keras is imported only to measure.

    Args:
        loaded: The spec with its clouds.
        threads: CPU threads of the run.
        accelerator: Whether the run will use a GPU.
        measure: Whether to time some steps of the training.

    Raises:
        DataError: A cloud cannot be used.
        ResourceError: The run does not fit into memory; the message names settings
            that reduce it.
    """
    spec = loaded.spec
    # Refuse what never fits before the clouds are read.
    require_memory_for(spec, loaded.path, threads=threads, accelerator=accelerator)
    for group, paths in loaded.clouds.items():
        check_clouds(paths, spec, count_classes=group == "train")
    read = [
        recall_facts(path, group, spec, threads)
        for group in ("train", "validation")
        for path in loaded.clouds[group]
    ]
    predict = [header_facts(path, spec, read) for path in loaded.clouds["predict"]]
    clouds = [*read, *predict]
    sizes, cached = _cached(_sizes(clouds, spec), spec)
    steps = steps_per_epoch(spec, sum(size.cells[0] for size in sizes["train"]))
    columns = len(feature_columns(spec.features))
    parameters = count_parameters(spec.model, columns, len(spec.classes))
    return Plan(
        loaded=loaded,
        clouds=clouds,
        parameters=parameters,
        steps=steps,
        batches=-(-swept_fields(clouds) // spec.prediction_batch),
        jit=compiles(spec, steps * spec.training.epochs),
        memory=require_memory_for(
            spec,
            loaded.path,
            sizes["train"],
            sizes["validation"],
            sizes["predict"],
            threads=threads,
            accelerator=accelerator,
        ),
        disk=_disk_bytes(loaded, parameters),
        cached=cached,
        warnings=_warnings(loaded, read, steps, threads),
        timing=measure_timing(loaded, clouds, steps, threads) if measure else None,
    )


def _warnings(
    loaded: LoadedSpec, read: Sequence[ReadCloudFacts], steps: int, threads: int
) -> list[str]:
    domain = domain_warning(loaded, threads)
    return [
        *cloud_warnings(loaded.spec, loaded.clouds),
        *labeled_warnings(loaded.spec, [cloud.labeled for cloud in read]),
        *cost_warnings(loaded.spec, read, steps),
        *([domain] if domain else []),
    ]


def _sizes(clouds: Sequence[CloudFacts], spec: Spec) -> dict[str, list[CloudSize]]:
    """Sizes of the prepared clouds by group; training clouds count once per grid."""
    sizes = {
        group: [CloudSize(c.points, c.cells) for c in clouds if c.group == group]
        for group in GROUPS
    }
    sizes["train"] *= spec.training.augmentation.grids
    return sizes


def _cached(
    sizes: dict[str, list[CloudSize]], spec: Spec
) -> tuple[dict[str, list[CloudSize]], float]:
    """The sizes, mapped where the cache can hold all prepared clouds, and its bytes."""
    cache = open_cache(spec)
    prepared = {group: sizes[group] for group in ("train", "validation")}
    total = sum(cloud_bytes(spec, one) for group in prepared.values() for one in group)
    if cache is None or not cache.can_hold(total):
        return sizes, 0.0
    mapped = {
        group: [replace(size, mapped=True) for size in own]
        for group, own in prepared.items()
    }
    return {**sizes, **mapped}, total


def _disk_bytes(loaded: LoadedSpec, parameters: int) -> float:
    """Bytes of the predicted clouds and of the weights in the run folder."""
    spec = loaded.spec
    added = sum(
        OUTPUT_BYTES.get(name, 4 * len(spec.classes)) for name in spec.prediction.write
    )
    total = 4.0 * CHECKPOINTS * parameters
    for path in loaded.clouds["predict"]:
        summary = describe_las(path)
        share = COMPRESSION if summary.compressed else 1.0
        total += path.stat().st_size + summary.points * added * share
    return total
