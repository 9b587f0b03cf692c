"""From cloud files to clouds that fields can be cut out of."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.crs import meters_per_unit
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.reading import LasSummary, describe_las, read_las
from vl3d_lite.dataset.augmentation import thin, tilt
from vl3d_lite.dataset.class_counts import require_classes
from vl3d_lite.dataset.prepared import PreparedCloud, prepare_cloud
from vl3d_lite.dataset.source_weights import dimensions_to_read
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.resources import require_memory

logger = logging.getLogger(__name__)

# Peak bytes per point of reading and reducing a file, before features
# (an estimate; benchmarks/bench_prediction.py tells the peak).
BYTES_PER_POINT = 150


def check_clouds(paths: Sequence[Path], spec: Spec, *, count_classes: bool) -> None:
    """Complain about clouds that cannot be used, without reading coordinates.

    Args:
        paths: LAS or LAZ files.
        spec: Names classes and features.
        count_classes: Whether the clouds are trained on, so that their codes are
            counted and held against the classes.

    Raises:
        DataError: One line a file: it is damaged, lacks a dimension, or is in
            degrees; or a class is nowhere.
    """
    codes, troubles = {}, []
    for path in paths:
        try:
            summary = _summary(path, spec, count_classes)
        except DataError as error:
            troubles.append(str(error))
        else:
            if count_classes:
                codes[str(path)] = summary.code_counts
    if troubles:
        raise DataError("\n".join(troubles))
    if codes:
        require_classes(spec, codes)


def _summary(path: Path, spec: Spec, count_classes: bool) -> LasSummary:
    meters_per_unit(read_header(path))
    summary = describe_las(path, count_codes=count_classes, ignored=spec.ignored_flags)
    for name, key in dimensions_to_read(spec).items():
        if name not in summary.dimensions:
            close = get_close_matches(name, summary.dimensions, n=1)
            guess = f"; did you mean `{close[0]}`?" if close else "."
            raise DataError(
                f"{path}: no dimension `{name}`, which `{key}` needs{guess} It has: "
                f"{', '.join(summary.dimensions)}"
            )
    return summary


@contextlib.contextmanager
def _bar(
    description: str, quiet: bool, check: Callable[[], None] = lambda: None
) -> Iterator[Callable[[int, int], None]]:
    with tqdm(
        desc=description, unit="point", unit_scale=True, leave=False, disable=quiet
    ) as bar:

        def tell(done: int, total: int) -> None:
            check()
            bar.total = total
            bar.update(done - bar.n)

        yield tell


def read_cloud(
    path: Path,
    spec: Spec,
    *,
    quiet: bool = True,
    check: Callable[[], None] = lambda: None,
) -> PointCloud:
    """Read a cloud with the dimensions that the spec needs, and its labels.

    Args:
        path: LAS or LAZ file.
        spec: Names classes and features.
        quiet: No progress bar.
        check: Called now and then; what it raises stops the reading.

    Raises:
        DataError: The cloud cannot be used.
        ResourceError: It does not fit into memory.
    """
    points = describe_las(path).points
    require_memory(
        points * BYTES_PER_POINT,
        f"{path}: reading {points:,} points",
        "predict smaller tiles, or on a machine with more memory",
    )
    with _bar(f"reading {path.name}", quiet, check) as tell:
        return read_las(
            path,
            dimensions=list(dimensions_to_read(spec)),
            class_codes=spec.class_codes,
            ignored=spec.ignored_flags,
            progress=tell,
        )


def prepare_file(
    path: Path,
    spec: Spec,
    threads: int,
    *,
    grid: int = 0,
    quiet: bool = True,
    check: Callable[[], None] = lambda: None,
) -> PreparedCloud:
    """Read a cloud, and prepare it on the grid of that number.

    Args:
        path: LAS or LAZ file.
        spec: The run.
        threads: Threads that search neighbors.
        grid: Number of the grid.
        quiet: No progress bars.
        check: Called now and then; what it raises stops the work.

    Raises:
        DataError: The cloud cannot be used.
        ResourceError: It does not fit into memory.
    """
    cloud = read_cloud(path, spec, quiet=quiet, check=check)
    with _bar(f"preparing {path.name}", quiet, check) as tell:
        return prepare_cloud(cloud, spec, grid=grid, threads=threads, progress=tell)


def prepare_files(
    paths: Sequence[Path], spec: Spec, threads: int, *, quiet: bool, what: str
) -> list[PreparedCloud]:
    """Prepare several clouds, with a progress bar."""
    return [
        prepare_file(path, spec, threads, quiet=quiet)
        for path in tqdm(
            paths, desc=f"preparing {what}", unit="cloud", disable=quiet or not paths
        )
    ]


def prepare_training_files(
    paths: Sequence[Path], spec: Spec, threads: int, *, quiet: bool
) -> list[PreparedCloud]:
    """Prepare the training clouds, each on every grid of the augmentation.

    All but the first reduction of a cloud are thinned and tilted before.
    """
    augmentation = spec.training.augmentation
    result = []
    for number, path in enumerate(
        tqdm(paths, desc="preparing training clouds", unit="cloud", disable=quiet)
    ):
        cloud = read_cloud(path, spec, quiet=quiet)
        for grid in range(augmentation.grids):
            rng = np.random.default_rng([spec.seed, number, grid])
            changed = cloud
            if grid:
                changed = thin(cloud, augmentation.thinning, rng)
                if augmentation.slope:
                    changed = tilt(changed, augmentation.slope, rng)
            with _bar(f"preparing {path.name}", quiet) as tell:
                result.append(
                    prepare_cloud(
                        changed, spec, grid=grid, threads=threads, progress=tell
                    )
                )
    return result
