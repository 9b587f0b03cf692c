"""What a run will do and cost, before it begins: `vl3d-lite plan`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.reading import LasSummary, describe_las, read_las
from vl3d_lite.dataset.features import required_dimensions
from vl3d_lite.dataset.files import check_clouds
from vl3d_lite.dataset.prepared import PreparedCloud, prepare_cloud
from vl3d_lite.dataset.sizes import SWEEP, CloudSize
from vl3d_lite.guide.init.sizing import probe_fields, sweep_counts, widest_footprint
from vl3d_lite.guide.init.survey import ground_density, nearest_distance
from vl3d_lite.guide.plan.cloud_facts import CloudFacts
from vl3d_lite.guide.plan.warnings import warnings_of
from vl3d_lite.model.cost import count_parameters
from vl3d_lite.spec.reader import LoadedSpec
from vl3d_lite.spec.schema.clouds import feature_columns
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.stderr import silenced_stderr
from vl3d_lite.training.compilation import compiles
from vl3d_lite.training.memory import Memory, steps_per_epoch
from vl3d_lite.training.remedies import require_memory_for

PROBED_FIELDS = 100  # of a training cloud
SAMPLED_FIELDS = 10  # where each is sampled by farthest points, which takes long
COMPRESSION = 0.5  # of what a prediction adds to a LAZ file, at most
ADDED = {  # bytes a point of what `prediction.write` names
    "prediction": 2,
    "confidence": 4,
    "entropy": 4,
    "classification": 0,
}
CHECKPOINTS = 6  # copies of the weights in a run folder: model, best, last, moments


@dataclass(frozen=True)
class Timing:
    """Seconds, from a probe.

    Attributes:
        preparation: Of the training and validation clouds, and of the network.
        training: With compiling and validation.
        prediction: Of the clouds to predict.
        step: Of one training step.
    """

    preparation: float
    training: float
    prediction: float
    step: float


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run will do and cost.

    Attributes:
        loaded: The spec.
        clouds: Of all groups.
        parameters: Of the network, by formula.
        steps: Of an epoch.
        batches: Of a pass over the validation clouds.
        jit: Whether training compiles on a CPU.
        memory: The estimate.
        disk: Bytes of predictions and run folder.
        warnings: What a colleague would say.
        timing: If it was probed.
    """

    loaded: LoadedSpec
    clouds: list[CloudFacts]
    parameters: int
    steps: int
    batches: int
    jit: bool
    memory: Memory
    disk: float
    warnings: list[str] = field(default_factory=list)
    timing: Timing | None = None


def plan(
    loaded: LoadedSpec,
    *,
    threads: int = 1,
    accelerator: bool = False,
    probe: bool = False,
) -> Plan:
    """Look at the clouds of a spec and foretell its run.

    Training and validation clouds are read and reduced; of clouds to predict
    only the header is. Keras is imported for the probe alone.

    Args:
        loaded: The spec with its clouds.
        threads: Of the run.
        accelerator: Whether the run will use a GPU.
        probe: Time some steps of the real training.

    Raises:
        DataError: A cloud cannot be used.
        ResourceError: The run will not fit into memory; it names settings.
    """
    spec = loaded.spec
    options = {"threads": threads, "accelerator": accelerator}
    require_memory_for(spec, loaded.path, **options)
    for group, paths in loaded.clouds.items():
        check_clouds(paths, spec, count_classes=group == "train")
    clouds = [
        _look(path, group, spec, threads)
        for group in ("train", "validation")
        for path in loaded.clouds[group]
    ]
    clouds += [_header(path, spec, clouds) for path in loaded.clouds["predict"]]
    sizes = {
        group: [CloudSize(c.points, c.cells) for c in clouds if c.group == group]
        for group in ("train", "validation", "predict")
    }
    sizes["train"] *= spec.training.augmentation.grids
    memory = require_memory_for(spec, loaded.path, **sizes, **options)
    steps = steps_per_epoch(spec, sum(size.cells[0] for size in sizes["train"]))
    fields = sum(len(c.swept) for c in clouds if c.swept is not None)
    columns = len(feature_columns(spec.features))
    parameters = count_parameters(spec.model, columns, len(spec.classes))
    result = Plan(
        loaded=loaded,
        clouds=clouds,
        parameters=parameters,
        steps=steps,
        batches=-(-fields // spec.prediction_batch),
        jit=compiles(spec, steps * spec.training.epochs),
        memory=memory,
        disk=_disk(loaded, parameters),
        warnings=warnings_of(spec, clouds, steps),
        timing=_timing(loaded, clouds, steps, threads) if probe else None,
    )
    return result


def _cheap(spec: Spec) -> Spec:
    """The spec with one neighbor a point, which is quick to prepare."""
    stages = [stage.model_copy(update={"neighbors": 1}) for stage in spec.model.stages]
    model = spec.model.model_copy(
        update={"stages": stages, "upsampling": "nearest", "downsampling": "max"}
    )
    return spec.model_copy(update={"model": model})


def _look(path: Path, group: str, spec: Spec, threads: int) -> CloudFacts:
    """Read a cloud, prepare it cheaply, and cut some of its fields."""
    cloud = read_las(
        path,
        dimensions=[*required_dimensions(spec.features), "classification"],
        class_codes=spec.class_codes,
        ignored=spec.ignored_flags,
    )
    code = cloud.attributes["classification"]
    named = [c for of_class in spec.class_codes.values() for c in of_class]
    flagged = np.isin(code, named) & (cloud.labels < 0)
    codes, counts = np.unique(code[~flagged], return_counts=True)
    density = ground_density(cloud.local)[0]
    cheap = _cheap(spec)
    prepared = prepare_cloud(cloud, cheap, threads=threads)
    sweeps = group == "validation"
    sampled = spec.fields.sampling == "farthest"
    count = SAMPLED_FIELDS if sampled else PROBED_FIELDS
    return CloudFacts(
        path=path,
        group=group,
        points=len(cloud),
        codes=dict(zip(codes.tolist(), counts.tolist(), strict=True)),
        flagged=int(np.count_nonzero(flagged)),
        density=density,
        nearest=nearest_distance(prepared.xyz) if len(prepared.xyz) > 1 else 0.0,
        cells=tuple(len(level.xyz) for level in prepared.hierarchy.levels),
        fields=None if sweeps else probe_fields(prepared, cheap, count),
        swept=_swept(prepared, cheap, sampled) if sweeps else None,
        means=prepared.features.mean(axis=0, dtype=np.float64),
        spread=prepared.features.std(axis=0, dtype=np.float64),
        labels=_cells_of_classes(prepared, spec),
        footprint=_footprint(prepared, spec),
    )


def _swept(prepared: PreparedCloud, spec: Spec, sampled: bool) -> np.ndarray:
    if not sampled:
        return sweep_counts(prepared, spec)
    points = spec.model.stages[0].points
    return np.full(int(-(-len(prepared.xyz) * SWEEP // points)), points)


def _cells_of_classes(prepared: PreparedCloud, spec: Spec) -> np.ndarray:
    labels = prepared.labels[prepared.labels >= 0]
    return np.bincount(labels, minlength=len(spec.classes))


def _footprint(prepared: PreparedCloud, spec: Spec) -> float:
    cells = PointCloud(prepared.xyz, prepared.origin, labels=prepared.labels)
    classes = {name: {"codes": codes} for name, codes in spec.class_codes.items()}
    return widest_footprint([cells], classes, spec.fields.grid_size)


def _header(path: Path, spec: Spec, known: Sequence[CloudFacts]) -> CloudFacts:
    """A cloud to predict: its cells are those of the others, by points."""
    same = [c for c in known if c.path.resolve() == path.resolve()]
    points = describe_las(path).points
    if same:
        cells, swept = same[0].cells, same[0].swept
        return CloudFacts(path, "predict", points, cells=cells, swept=swept)
    total = sum(cloud.points for cloud in known)
    levels = np.sum([cloud.cells for cloud in known], axis=0) if known else [total]
    cells = tuple(int(-(-points * n // max(total, 1))) for n in levels)
    return CloudFacts(path, "predict", points, cells=cells or (points,))


def _disk(loaded: LoadedSpec, parameters: int) -> float:
    spec = loaded.spec
    added = sum(
        ADDED.get(name, 4 * len(spec.classes)) for name in spec.prediction.write
    )
    total = 4.0 * CHECKPOINTS * parameters
    for path in loaded.clouds["predict"]:
        summary: LasSummary = describe_las(path)
        share = COMPRESSION if summary.compressed else 1.0
        total += path.stat().st_size + summary.points * added * share
    return total


def passes(clouds: Sequence[CloudFacts], spec: Spec) -> float:
    """Fields that hold a cell in one pass over a cloud, as validation swept."""
    swept = [c for c in clouds if c.group == "validation" and c.swept is not None]
    if not swept:
        return SWEEP
    return sum(c.swept.sum() for c in swept) / sum(c.cells[0] for c in swept)


def fill_of(clouds: Sequence[CloudFacts], spec: Spec) -> float:
    """Share of the slots of swept fields that hold a point."""
    swept = [c.swept for c in clouds if c.swept is not None]
    if not swept:
        return 1.0
    return float(np.concatenate(swept).mean()) / spec.model.stages[0].points


def prediction_batches(clouds: Sequence[CloudFacts], spec: Spec) -> int:
    """Batches that predict all clouds, with every vote."""
    cells = sum(c.cells[0] for c in clouds if c.group == "predict")
    points = cells * passes(clouds, spec)
    points *= spec.prediction.votes * spec.prediction.grids
    fields = points / (spec.model.stages[0].points * max(fill_of(clouds, spec), 0.01))
    return int(np.ceil(fields / spec.prediction_batch))


def _timing(
    loaded: LoadedSpec, clouds: Sequence[CloudFacts], steps: int, threads: int
) -> Timing:
    with silenced_stderr():
        from vl3d_lite.guide.plan.measure import probe

    spec = loaded.spec
    found = probe(loaded, steps, threads)
    fitted = [c for c in clouds if c.group != "predict"]
    points = sum(
        c.points * (spec.training.augmentation.grids if c.group == "train" else 1)
        for c in fitted
    )
    swept = sum(len(c.swept) for c in clouds if c.group == "validation")
    validated = -(-swept // spec.prediction_batch) * spec.training.epochs
    predicted = sum(c.points for c in clouds if c.group == "predict")
    return Timing(
        preparation=found.preparation * points + found.building,
        training=found.compiling
        + found.step * steps * spec.training.epochs
        + (found.validation_compiling + found.validation * validated) * bool(swept)
        + found.ending,
        prediction=found.preparation * predicted * spec.prediction.grids
        + found.validation * prediction_batches(clouds, spec)
        + found.validation_compiling * bool(predicted),
        step=found.step,
    )
