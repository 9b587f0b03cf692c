"""The facts about a cloud that a plan uses, and their measurement."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.clouds import PointCloud, describe_las
from vl3d_lite.dataset import (
    FIELDS_PER_CELL,
    Kind,
    LabeledFacts,
    PreparedCloud,
    count_by_class,
    labeled_facts,
    open_cache,
    pack_facts,
    prepare_cloud,
    quick_to_prepare,
    read_cloud,
    reading_settings,
    recall,
    unpack_facts,
)
from vl3d_lite.guide.init.sizing import (
    sample_field_sizes,
    sweep_counts,
    widest_footprint,
)
from vl3d_lite.spec import Spec, cloud_labels, label_names

SAMPLED_FIELDS = 100  # of a training cloud
# Farthest-point sampling takes a second a field, so fewer are sampled there.
FARTHEST_SAMPLED_FIELDS = 10


@dataclass(frozen=True, eq=False, kw_only=True)
class CloudFacts:
    """Facts from the header of a cloud and from the other clouds.

    Attributes:
        path: The file.
        group: ``train``, ``validation`` or ``predict``.
        points: Number of points of the file.
        cells: Number of cells of each level; estimated if only the header was read.
        swept: ``(F,)`` points of the fields that cover the cloud once, or None.
    """

    path: Path
    group: str
    points: int
    cells: tuple[int, ...]
    swept: np.ndarray | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadCloudFacts(CloudFacts):
    """Facts from the points of a training or validation cloud.

    Attributes:
        codes: Code to number of points, without flagged and excluded points.
        flagged: Number of points that have a class and are ignored by a flag.
        excluded: Number of points that the network does not see.
        labeled: What the warnings of other commands follow from, too.
        fields: ``(F, stages)`` points of sampled training fields; None for a
            validation cloud.
        footprint: Width of the widest building in meters; 0 if there is none.
        recalled: Whether all this is from the cache, and the points were not read.
    """

    codes: dict[int, int]
    flagged: int
    excluded: int
    labeled: LabeledFacts
    fields: np.ndarray | None
    footprint: float
    recalled: bool = False

    @property
    def density(self) -> float:
        """Horizontal density in points/m2."""
        return self.labeled.density


def recall_facts(path: Path, group: str, spec: Spec, threads: int) -> ReadCloudFacts:
    """The facts about a training or validation cloud, from the cache or the file.

    Args:
        path: The file.
        group: ``train`` or ``validation``.
        spec: The run.
        threads: CPU threads.

    Raises:
        DataError: The file cannot be used.
        ResourceError: It does not fit into memory.
    """
    unpack = functools.partial(_unpack, path, group)
    kind = Kind("plan", _pack, unpack, folders=("guide",))
    settings = (
        reading_settings(spec, path),
        spec.fields,
        spec.model,
        spec.classes,
        spec.seed,
        group,
    )
    facts, recalled = recall(
        open_cache(spec),
        kind,
        path,
        settings,
        lambda: read_facts(path, group, spec, threads),
    )
    return replace(facts, recalled=recalled)


def _pack(facts: ReadCloudFacts) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    labeled, arrays = pack_facts(facts.labeled)
    named = {f"labeled_{name}": array for name, array in arrays.items()}
    for name in ("fields", "swept"):
        if (array := getattr(facts, name)) is not None:
            named[name] = array
    record = {
        "points": facts.points,
        "cells": list(facts.cells),
        "codes": list(facts.codes.items()),
        "flagged": facts.flagged,
        "excluded": facts.excluded,
        "footprint": float(facts.footprint),
        "labeled": labeled,
    }
    return record, named


def _unpack(
    path: Path, group: str, record: dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> ReadCloudFacts:
    own = {
        name.removeprefix("labeled_"): array
        for name, array in arrays.items()
        if name.startswith("labeled_")
    }
    return ReadCloudFacts(
        path=path,
        group=group,
        points=record["points"],
        cells=tuple(record["cells"]),
        codes={code: count for code, count in record["codes"]},
        flagged=record["flagged"],
        excluded=record["excluded"],
        footprint=record["footprint"],
        labeled=unpack_facts(path, group, record["labeled"], own),
        fields=arrays.get("fields"),
        swept=arrays.get("swept"),
    )


def read_facts(path: Path, group: str, spec: Spec, threads: int) -> ReadCloudFacts:
    """Read a training or validation cloud, prepare it quickly, and sample fields.

    Args:
        path: The file.
        group: ``train`` or ``validation``.
        spec: The run.
        threads: CPU threads.

    Raises:
        DataError: The file cannot be used.
        ResourceError: It does not fit into memory.
    """
    labels = cloud_labels(spec, path)
    cloud = read_cloud(path, spec, with_codes=True)
    assert cloud.labels is not None, "read with class codes"
    points = len(cloud)
    cloud = cloud.without_excluded()
    code = cloud.attributes.get(labels.dimension, np.full(len(cloud), np.nan))
    named = [c for own in labels.codes.values() for c in own]
    flagged = np.isin(code, named) & (cloud.labels < 0)
    codes, counts = np.unique(code[~flagged & (code == code)], return_counts=True)
    quick = quick_to_prepare(spec)
    prepared = prepare_cloud(cloud, quick, threads=threads)
    sweeps = group == "validation"
    farthest = spec.fields.sampling == "farthest"
    count = FARTHEST_SAMPLED_FIELDS if farthest else SAMPLED_FIELDS
    return ReadCloudFacts(
        path=path,
        group=group,
        points=points,
        codes=dict(zip(map(int, codes), counts.tolist(), strict=True)),
        flagged=int(np.count_nonzero(flagged)),
        excluded=points - len(cloud),
        labeled=labeled_facts(path, group, prepared, spec),
        cells=tuple(len(level.xyz) for level in prepared.hierarchy.levels),
        fields=None if sweeps else sample_field_sizes(prepared, quick, count),
        swept=_swept(prepared, quick, farthest) if sweeps else None,
        footprint=_footprint(prepared, spec),
    )


def header_facts(path: Path, spec: Spec, read: Sequence[ReadCloudFacts]) -> CloudFacts:
    """Facts of a cloud to predict, from its header and the clouds that were read.

    Its cells are estimated from its points, by the ratio of the other clouds.

    Args:
        path: The file.
        spec: The run.
        read: The training and validation clouds.
    """
    points = describe_las(path).points
    for cloud in read:
        if cloud.path.resolve() == path.resolve():
            return CloudFacts(
                path=path,
                group="predict",
                points=points,
                cells=cloud.cells,
                swept=cloud.swept,
            )
    total = sum(cloud.points for cloud in read)
    levels = np.sum([cloud.cells for cloud in read], axis=0) if read else [total]
    cells = tuple(int(-(-points * n // max(total, 1))) for n in levels)
    return CloudFacts(
        path=path, group="predict", points=points, cells=cells or (points,)
    )


def count_classes(
    spec: Spec, clouds: Sequence[CloudFacts], group: str
) -> dict[str, int]:
    """Number of points of each class and partial label in a group of clouds."""
    counts = [
        count_by_class(cloud_labels(spec, cloud.path).codes, cloud.codes)
        for cloud in clouds
        if cloud.group == group and isinstance(cloud, ReadCloudFacts)
    ]
    return {name: sum(count[name] for count in counts) for name in label_names(spec)}


def _swept(prepared: PreparedCloud, spec: Spec, farthest: bool) -> np.ndarray:
    if not farthest:
        return sweep_counts(prepared, spec)
    points = spec.model.stages[0].points
    return np.full(int(-(-len(prepared.xyz) * FIELDS_PER_CELL // points)), points)


def _footprint(prepared: PreparedCloud, spec: Spec) -> float:
    cells = PointCloud(prepared.xyz, prepared.origin, labels=prepared.labels)
    return widest_footprint([cells], spec.class_codes, spec.fields.grid_size)
