"""Facts about labeled clouds, from which warnings follow."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.clouds import read_header
from vl3d_lite.dataset.cloud_cache import preparation_settings
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.known_facts import Arrays, Kind, Packed, open_cache, recall
from vl3d_lite.dataset.partial_labels import count_labels
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.geometry import horizontal_density, nearest_distance
from vl3d_lite.spec import Spec


@dataclass(frozen=True, eq=False, kw_only=True)
class LabeledFacts:
    """Facts about a training or validation cloud.

    Attributes:
        path: The file.
        group: ``train`` or ``validation``.
        cells: Number of grid cells.
        density: Horizontal density in points/m2.
        nearest: Median distance of neighboring cells in meters; 0 for one cell.
        means: ``(features,)`` mean of each feature over the cells that have it; NaN
            where none has.
        deviations: ``(features,)`` standard deviations.
        wide: Whether features are float64, as where float32 would lose digits.
        class_points: ``(classes,)`` points of each class, without partial labels.
        class_cells: ``(classes,)`` cells of each class.
    """

    path: Path
    group: str
    cells: int
    density: float
    nearest: float
    means: np.ndarray
    deviations: np.ndarray
    wide: bool
    class_points: np.ndarray
    class_cells: np.ndarray


def pack_facts(facts: LabeledFacts) -> Packed:
    """Facts as JSON and arrays, without the file and its group."""
    values = {one.name: getattr(facts, one.name) for one in fields(facts)}
    del values["path"], values["group"]
    arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    return {k: v for k, v in values.items() if k not in arrays}, arrays


def unpack_facts(
    path: Path, group: str, record: dict[str, Any], arrays: Arrays
) -> LabeledFacts:
    """Convert back from `pack_facts`.

    Raises:
        TypeError: A value is missing, or there is one too many.
    """
    values: dict[str, Any] = {**record, **arrays}
    return LabeledFacts(path=path, group=group, **values)


def _recall(
    path: Path, group: str, spec: Spec, settings: object, find: Callable
) -> LabeledFacts:
    kind = Kind("labeled", pack_facts, functools.partial(unpack_facts, path, group))
    return recall(open_cache(spec), kind, path, settings, find)[0]


def labeled_facts(
    path: Path, group: str, cloud: PreparedCloud, spec: Spec
) -> LabeledFacts:
    """Measure a prepared cloud; facts about one from the cache are stored there.

    Args:
        path: Its file.
        group: ``train`` or ``validation``.
        cloud: Prepared on its first grid.
        spec: The spec of the run.
    """
    if cloud.stored is None:
        return _measure(path, group, cloud, spec)
    return _recall(
        path,
        group,
        spec,
        (cloud.stored.key, len(spec.classes)),
        lambda: _measure(path, group, cloud, spec),
    )


def _measure(path: Path, group: str, cloud: PreparedCloud, spec: Spec) -> LabeledFacts:
    means, deviations = _moments(cloud.features)
    return LabeledFacts(
        path=path,
        group=group,
        cells=len(cloud.xyz),
        density=horizontal_density(
            cloud.xyz, cloud.point_counts, cell=spec.fields.grid_size
        )[0],
        nearest=nearest_distance(cloud.xyz) if len(cloud.xyz) > 1 else 0.0,
        means=means,
        deviations=deviations,
        wide=cloud.features.dtype == np.float64,
        class_points=count_labels(cloud.point_labels, spec),
        class_cells=count_labels(cloud.labels, spec),
    )


def read_labeled_facts(
    path: Path, group: str, spec: Spec, threads: int, *, quiet: bool = True
) -> LabeledFacts:
    """Read a training or validation cloud and measure it.

    Args:
        path: The file.
        group: ``train`` or ``validation``.
        spec: The spec of the run.
        threads: CPU threads.
        quiet: Show no progress bars.

    Raises:
        DataError: The file cannot be used.
        ResourceError: It does not fit into memory.
    """
    quick = quick_to_prepare(spec)

    def find() -> LabeledFacts:
        cloud = prepare_file(path, quick, threads, quiet=quiet)
        return _measure(path, group, cloud, spec)

    read_header(path)  # its errors name the file and the remedy
    settings = preparation_settings(quick, path), len(spec.classes)
    return _recall(path, group, spec, settings, find)


def quick_to_prepare(spec: Spec) -> Spec:
    """The spec with one neighbor per point, whose clouds are quick to prepare."""
    stages = [stage.model_copy(update={"neighbors": 1}) for stage in spec.model.stages]
    model = spec.model.model_copy(
        update={"stages": stages, "upsampling": "nearest", "downsampling": "max"}
    )
    return spec.model_copy(update={"model": model})


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over its values that are present."""
    present = ~np.isnan(features)
    count = np.maximum(present.sum(axis=0), 1)
    values = np.where(present, features, 0)
    mean = values.sum(axis=0, dtype=np.float64) / count
    square = (np.where(present, features - mean, 0) ** 2).sum(axis=0) / count
    empty = ~present.any(axis=0)
    return np.where(empty, np.nan, mean), np.where(empty, np.nan, np.sqrt(square))
