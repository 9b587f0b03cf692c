"""From cloud files to prepared clouds."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import (
    PointCloud,
    describe_las,
    meters_per_unit,
    read_header,
    read_las,
)
from vl3d_lite.dataset.class_counts import require_classes
from vl3d_lite.dataset.exclusion import exclusion
from vl3d_lite.dataset.features import nan_dimensions
from vl3d_lite.dataset.known_facts import Kind, open_cache, recall
from vl3d_lite.dataset.prepared import PreparedCloud, prepare_cloud
from vl3d_lite.dataset.sizes import BYTES_PER_POINT, CloudSize, cloud_bytes
from vl3d_lite.dataset.source_weights import dimensions_to_read
from vl3d_lite.errors import DataError, VL3DError
from vl3d_lite.spec import COMPUTED_FEATURES, Spec, cloud_labels, did_you_mean
from vl3d_lite.system import ProgressBar, memory_limit, require_memory, safe_point

logger = logging.getLogger(__name__)

CODE_COUNTS: Kind[dict[int, int]] = Kind(
    "code counts",
    pack=lambda counts: ({"counts": list(counts.items())}, {}),
    unpack=lambda record, _: {code: count for code, count in record["counts"]},
)


def check_clouds(paths: Sequence[Path], spec: Spec, *, count_classes: bool) -> None:
    """Check that clouds can be used, without reading their coordinates.

    Args:
        paths: LAS or LAZ files.
        spec: The spec with the classes and features.
        count_classes: Whether the clouds are for training, so that their codes are
            counted and compared with the classes.

    Raises:
        DataError: One line per file that is damaged, lacks a dimension or has
            coordinates in degrees; or a class has no point.
    """
    counts: dict[Path, dict[int, int]] = {}
    errors, recalled = [], 0
    for path in paths:
        safe_point()
        try:
            found = _code_counts(path, spec) if count_classes else None
            _require_dimensions(path, spec)
        except DataError as error:
            errors.append(str(error))
        else:
            if found is not None:
                counts[path] = found[0]
                recalled += found[1]
    if errors:
        raise DataError("\n".join(errors))
    if recalled:
        logger.info(
            "class counts of %d of %d training clouds are from the cache, since these "
            "files have not changed",
            recalled,
            len(counts),
        )
    if counts:
        require_classes(spec, counts)


def _code_counts(path: Path, spec: Spec) -> tuple[dict[int, int], bool]:
    """Points of each code of a cloud, and whether they are from the cache."""
    meters_per_unit(read_header(path), spec.clouds.unit)
    labels = cloud_labels(spec, path)
    excluded = exclusion(spec, labels)

    def count() -> dict[int, int]:
        summary = describe_las(
            path,
            count_codes=True,
            label_dimension=labels.dimension,
            ignored=spec.ignored_flags,
            excluded=excluded,
            unit=spec.clouds.unit,
        )
        return summary.code_counts or {}

    settings = labels.dimension, spec.ignored_flags, excluded
    return recall(open_cache(spec), CODE_COUNTS, path, settings, count)


def _require_dimensions(path: Path, spec: Spec) -> None:
    meters_per_unit(read_header(path), spec.clouds.unit)
    summary = describe_las(path, unit=spec.clouds.unit)
    for name, key in dimensions_to_read(spec).items():
        if name not in summary.dimensions:
            computed = COMPUTED_FEATURES if key.startswith("features") else ()
            hint = did_you_mean(name, (*computed, *summary.dimensions), otherwise=".")
            raise DataError(
                f"{path}: no dimension `{name}`, which `{key}` needs{hint} It has: "
                f"{', '.join(summary.dimensions)}"
            )


@contextlib.contextmanager
def point_bar(
    description: str, quiet: bool, check: Callable[[], None] = safe_point
) -> Iterator[Callable[[int, int], None]]:
    """A progress bar of points, as a function of the points done and of all points."""
    with ProgressBar(
        desc=description, unit="point", unit_scale=True, leave=False, quiet=quiet
    ) as bar:

        def update(done: int, total: int) -> None:
            check()
            bar.total = total
            bar.update(done - bar.n)

        yield update


def read_cloud(
    path: Path,
    spec: Spec,
    *,
    with_codes: bool = False,
    most: int | None = None,
    quiet: bool = True,
    check: Callable[[], None] = safe_point,
) -> PointCloud:
    """Read a cloud with its labels and the dimensions that the spec needs.

    Args:
        path: LAS or LAZ file.
        spec: The spec with the classes and features.
        with_codes: Whether to read the dimension of the labels, if there is one, as
            an attribute too; NaN in it has no label.
        most: Read no more points than this, in spans spread evenly over the file.
        quiet: Whether to show no progress bar.
        check: Called after each chunk of points; it may raise to stop the reading.

    Raises:
        DataError: The cloud cannot be used.
        ResourceError: The cloud does not fit into memory.
    """
    points = read_header(path).point_count
    points = min(points, most or points)
    require_memory(
        points * BYTES_PER_POINT,
        f"{path}: reading {points:,} points",
        "predict smaller tiles, or on a machine with more memory",
    )
    labels = cloud_labels(spec, path)
    has_codes = with_codes and labels.dimension in describe_las(path).dimensions
    codes = [labels.dimension] if has_codes else []
    with point_bar(f"reading {path.name}", quiet, check) as update:
        return read_las(
            path,
            dimensions=list(dict.fromkeys([*dimensions_to_read(spec), *codes])),
            class_codes=labels.codes,
            label_dimension=labels.dimension,
            ignored=spec.ignored_flags,
            excluded=exclusion(spec, labels),
            nan_missing=[*nan_dimensions(spec.features), *codes],
            unit=spec.clouds.unit,
            most=most,
            progress=update,
        )


@dataclass(frozen=True)
class PointReport:
    """What is reported of the points of a cloud.

    Attributes:
        points: Points of the file.
        excluded: How many of them are excluded.
        missing: Of each feature without a value at some points how many there are.
    """

    points: int
    excluded: int
    missing: dict[str, int]

    @classmethod
    def of(cls, cloud: PointCloud) -> "PointReport":
        """Count the points of a cloud that is read."""
        excluded = cloud.excluded
        counts = {
            name: int(np.count_nonzero(np.isnan(cloud.attributes[name])))
            for name in sorted(cloud.missing.intersection(cloud.attributes))
        }
        return cls(
            points=len(cloud),
            excluded=0 if excluded is None else int(np.count_nonzero(excluded)),
            missing={name: count for name, count in counts.items() if count},
        )

    def log(self, path: Path) -> None:
        """Log how many points are excluded, and how many lack the value of a feature.

        Args:
            path: The file.
        """
        if self.excluded:
            logger.info(
                "%s: %s of %s points are excluded from features and loss, as noise or "
                "withheld (`excluded_points`)",
                path,
                f"{self.excluded:,}",
                f"{self.points:,}",
            )
        for name, count in self.missing.items():
            logger.warning(
                "%s: %.1f %% of the points have no value of `%s` (no-data or NaN); "
                "grid cells without any take the mean of the training clouds",
                path,
                100 * count / self.points,
                name,
            )


def prepare_file(
    path: Path,
    spec: Spec,
    threads: int,
    *,
    grid: int = 0,
    quiet: bool = True,
    check: Callable[[], None] = safe_point,
) -> PreparedCloud:
    """Read a cloud and prepare it.

    Args:
        path: LAS or LAZ file.
        spec: The spec of the run.
        threads: Threads of the neighbor search.
        grid: Number of the grid (see `prepare_cloud`).
        quiet: Whether to show no progress bars.
        check: Called after each chunk of points; it may raise to stop the work.

    Raises:
        DataError: The cloud cannot be used.
        ResourceError: The cloud does not fit into memory.
    """
    cloud = read_cloud(path, spec, quiet=quiet, check=check)
    if grid == 0:  # the other grids have the same points
        PointReport.of(cloud).log(path)
    with point_bar(f"preparing {path.name}", quiet, check) as update:
        return prepare_cloud(cloud, spec, grid=grid, threads=threads, progress=update)


def fits_beside(path: Path, spec: Spec) -> bool:
    """Whether a cloud may be prepared while another one is predicted.

    It may where it takes at most half of the free memory, even if no two of its
    points share a cell.
    """
    try:
        points = read_header(path).point_count
    except VL3DError:  # reported when the cloud itself is read
        return False
    size = CloudSize(points, (points,))
    needed = points * BYTES_PER_POINT + cloud_bytes(spec, size, swept=True)
    return needed <= memory_limit() / 2
