"""The clouds of a training, prepared from their files or mapped from the cache."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import PointCloud, read_header
from vl3d_lite.dataset.augmentation import thin, tilt
from vl3d_lite.dataset.cloud_cache import (
    CloudCache,
    grid_settings,
    preparation_settings,
)
from vl3d_lite.dataset.files import PointReport, point_bar, read_cloud
from vl3d_lite.dataset.known_facts import open_cache
from vl3d_lite.dataset.prepared import PreparedCloud, prepare_cloud
from vl3d_lite.dataset.source_weights import report_weightless
from vl3d_lite.spec import Spec
from vl3d_lite.system import ProgressBar

logger = logging.getLogger(__name__)


def prepare_files(
    paths: Sequence[Path], spec: Spec, threads: int, *, quiet: bool, role: str
) -> list[PreparedCloud]:
    """Read and prepare several clouds, or map them from the cache.

    Args:
        paths: LAS or LAZ files.
        spec: The spec of the run.
        threads: Threads of the neighbor search.
        quiet: Whether to show no progress bars.
        role: What the clouds are for, such as "validation clouds", for the bar.

    Raises:
        DataError: A cloud cannot be used.
        ResourceError: A cloud does not fit into memory.
    """
    found = []
    for path in ProgressBar(
        paths, desc=f"preparing {role}", unit="cloud", quiet=quiet or not paths
    ):
        found += _File(path, spec, threads, quiet=quiet).grids(1)
    return found


def prepare_training_files(
    paths: Sequence[Path], spec: Spec, threads: int, *, quiet: bool
) -> list[PreparedCloud]:
    """Read and prepare the training clouds, each on every grid of the augmentation.

    On all grids but the first, a cloud is thinned and tilted before its reduction.
    Clouds that are in the cache of the spec are mapped into memory.

    Args:
        paths: LAS or LAZ files.
        spec: The spec with the augmentation.
        threads: Threads of the neighbor search.
        quiet: Whether to show no progress bars.

    Returns:
        All grids of the first cloud, then those of the second.

    Raises:
        DataError: A cloud cannot be used.
        ResourceError: A cloud does not fit into memory.
    """
    found = []
    for number, path in enumerate(
        ProgressBar(paths, desc="preparing training clouds", unit="cloud", quiet=quiet)
    ):
        file = _File(path, spec, threads, quiet=quiet, number=number)
        found += file.grids(spec.training.augmentation.grids)
    return found


class _File:
    """A file whose clouds are wanted on some grids.

    Args:
        path: LAS or LAZ file.
        spec: The spec of the run.
        threads: Threads of the neighbor search.
        quiet: Whether to show no progress bar.
        number: Number among the training clouds; None for a validation cloud, which
            keeps its excluded points.
    """

    def __init__(
        self,
        path: Path,
        spec: Spec,
        threads: int,
        *,
        quiet: bool,
        number: int | None = None,
    ) -> None:
        self.path, self.spec, self.threads = path, spec, threads
        self.quiet, self.number = quiet, number
        self._read: tuple[PointCloud, PointReport] | None = None

    def grids(self, count: int) -> list[PreparedCloud]:
        """The cloud on its first grids."""
        read_header(self.path)  # its errors name the file and the remedy
        trains = self.number is not None
        settings = preparation_settings(self.spec, self.path), trains
        cache = CloudCache(open_cache(self.spec), self.path, settings)
        clouds = [self._on_grid(cache, grid) for grid in range(count)]
        self._read = None
        return clouds

    def _on_grid(self, cache: CloudCache, grid: int) -> PreparedCloud:
        own = grid_settings(self.spec, self.number or 0, grid)
        found = cache.find(own)
        if found is None:
            return self._prepare(cache, grid, own)
        cloud, report = found
        if grid == 0:
            report.log(self.path)
            section = self.spec.model.source_weights
            report_weightless(cloud.name, cloud.source_weights, section)
        return cloud

    def _prepare(self, cache: CloudCache, grid: int, own: object) -> PreparedCloud:
        cloud, report = self._points()
        if grid == 0:  # the other grids have the same points
            report.log(self.path)
        elif self.number is not None:
            augmentation = self.spec.training.augmentation
            rng = np.random.default_rng([self.spec.seed, self.number, grid])
            cloud = thin(cloud, augmentation.thinning, rng)
            if augmentation.slope:
                cloud = tilt(cloud, augmentation.slope, rng)
        with point_bar(f"preparing {self.path.name}", self.quiet) as update:
            prepared = prepare_cloud(
                cloud, self.spec, grid=grid, threads=self.threads, progress=update
            )
        return cache.store(own, prepared, report)

    def _points(self) -> tuple[PointCloud, PointReport]:
        """The points of the file, which are read once for all grids."""
        if self._read is None:
            cloud = read_cloud(self.path, self.spec, quiet=self.quiet)
            report = PointReport.of(cloud)
            if self.number is not None:
                cloud = cloud.without_excluded()
            self._read = cloud, report
        return self._read
