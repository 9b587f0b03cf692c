"""Prepared clouds in the cache: stored once, then mapped into memory."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.dataset.files import PointReport
from vl3d_lite.dataset.known_facts import Source, reading_settings
from vl3d_lite.dataset.prepared import PreparedCloud, Stored
from vl3d_lite.geometry import Hierarchy, Level
from vl3d_lite.spec import Spec
from vl3d_lite.system import CacheFolder

logger = logging.getLogger(__name__)

_LEVEL = ("xyz", "neighbors", "down", "up", "parent")
_ARRAYS = (
    "origin",
    "features",
    "labels",
    "cell_of_point",
    "point_counts",
    "point_labels",
    "source_weights",
    "excluded",
    "meters_per_unit",
)


def preparation_settings(spec: Spec, path: Path) -> tuple[Any, ...]:
    """What a prepared cloud depends on besides its file, on its first grid."""
    fields, model = spec.fields, spec.model
    return (
        reading_settings(spec, path),
        fields.grid_size,
        fields.reach,
        fields.sampling,
        fields.interlevel_neighbors,
        [(stage.neighbors, stage.neighbor_radius) for stage in model.stages],
        model.upsampling,
    )


def grid_settings(spec: Spec, number: int, grid: int) -> tuple[Any, ...]:
    """What a further grid of a training cloud depends on besides.

    Args:
        spec: The spec of the run.
        number: Number of the cloud among the training clouds.
        grid: Number of the grid.
    """
    if not grid:
        return ()
    augmentation = spec.training.augmentation
    changes = augmentation.thinning, augmentation.slope
    return (spec.seed, number, grid, *changes)


class CloudCache:
    """The prepared clouds of one file.

    Args:
        folder: The cache; None to store nothing.
        path: The file.
        settings: What its prepared clouds depend on (`preparation_settings`).

    Raises:
        OSError: The file cannot be read.
    """

    def __init__(self, folder: CacheFolder | None, path: Path, settings: object):
        self.folder, self.path, self.settings = folder, path, settings
        self.source = None if folder is None else Source(path, folder)

    def _key(self, grid: object) -> str:
        assert self.source is not None
        return self.source.key("prepared", self.settings, grid)

    def find(self, grid: object) -> tuple[PreparedCloud, PointReport] | None:
        """The cloud on a grid; None where it is not stored.

        Args:
            grid: What the grid depends on (`grid_settings`).
        """
        if self.folder is None:
            return None
        key = self._key(grid)
        found = self.folder.read("clouds", key)
        if found is None:
            return None
        try:
            cloud = unpack(found.arrays, found.record["cloud"], key, self.path.name)
            return cloud, PointReport(**found.record["report"])
        except (KeyError, TypeError, ValueError) as error:
            logger.debug("%s: is prepared again (%s)", self.path, error)
            return None

    def store(
        self, grid: object, cloud: PreparedCloud, report: PointReport
    ) -> PreparedCloud:
        """Store a cloud, and map what was stored.

        Returns:
            The mapped cloud; the cloud itself where it is not stored.
        """
        if self.folder is None or self.source is None:
            return cloud
        if not self.source.is_unchanged():
            return cloud
        facts, arrays = pack(cloud)
        record = {
            "source": str(self.path),
            "cloud": facts,
            "report": dataclasses.asdict(report),
        }
        if not self.folder.write("clouds", self._key(grid), arrays, record):
            return cloud
        found = self.find(grid)
        return cloud if found is None else found[0]


def pack(cloud: PreparedCloud) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A prepared cloud as JSON and named arrays."""
    arrays = {
        name: value for name in _ARRAYS if (value := getattr(cloud, name)) is not None
    }
    arrays["keys"] = cloud.hierarchy.keys
    arrays["axes"] = np.ascontiguousarray(cloud.xyz.T)
    for number, level in enumerate(cloud.hierarchy.levels):
        for name in _LEVEL:
            value = getattr(level, name)
            if value is not None and not _is_parent(name, level):
                arrays[f"{name}_{number}"] = value
    facts = {
        "levels": len(cloud.hierarchy.levels),
        "feature_names": cloud.feature_names,
        "grid": cloud.grid,
        "crs": cloud.crs,
    }
    return facts, arrays


def _is_parent(name: str, level: Level) -> bool:
    """Whether an array of a level is the one of the parents in another shape."""
    return (
        name == "up"
        and level.up is not None
        and level.parent is not None
        and level.up.shape == (len(level.parent), 1)
        and np.shares_memory(level.up, level.parent)
    )


def unpack(
    arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any], key: str, name: str
) -> PreparedCloud:
    """Convert back from `pack`.

    Args:
        arrays: Read-only.
        facts: The JSON.
        key: Key of the cloud in the cache.
        name: Name of the cloud; that of the file may have changed.

    Raises:
        KeyError: An array or a fact is missing.
    """
    levels = []
    for number in range(facts["levels"]):
        own = {one: arrays.get(f"{one}_{number}") for one in _LEVEL}
        if own["up"] is None and own["parent"] is not None:
            own["up"] = own["parent"][:, None]
        if own["xyz"] is None or own["neighbors"] is None:
            raise KeyError(f"level {number}")
        levels.append(Level(**own))  # type: ignore[arg-type]
    given = {one: arrays[one] for one in _ARRAYS if one in arrays}
    return PreparedCloud(
        name=name,
        hierarchy=Hierarchy(levels, arrays["keys"]),
        feature_names=list(facts["feature_names"]),
        grid=facts["grid"],
        crs=facts["crs"],
        stored=Stored(key, arrays["axes"]),
        **given,
    )
