"""Statistics of one cloud: density, extent, codes and usable dimensions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from vl3d_lite.clouds import Exclusion, PointCloud, describe_las, read_las
from vl3d_lite.errors import DataError
from vl3d_lite.geometry import (
    horizontal_density,
    nearest_distance,
    square_of_point,
)
from vl3d_lite.spec import ExcludedPointsSpec
from vl3d_lite.system import require_memory

BYTES_PER_POINT = 120  # peak memory of reading a cloud with these dimensions
SAMPLES = 20_000  # points whose ground is searched
CONSTANT = 0.999  # share of one value from which a dimension counts as constant
ON_GROUND = 0.2  # m; a point this close to the ground surface lies on the ground
GROUND_REACH = 2.0  # spacings; search radius for the ground surface
GROUND, UNCLASSIFIED = 2, 1
WITHHELD, OVERLAP = "withheld", "overlap"  # LAS flags
_EXCLUDED = ExcludedPointsSpec()  # the default of `excluded_points`
UNSEEN = Exclusion(tuple(_EXCLUDED.codes), tuple(_EXCLUDED.flags))
UNLABELED = {0, 1}  # a cloud of these codes alone has no labels

# Never an input of a network: the label, coordinates and acquisition metadata.
NOT_INPUTS = {
    *("X", "Y", "Z", "classification", "raw_classification", "gps_time"),
    *("point_source_id", "user_data", "synthetic", "key_point", "withheld"),
    *("overlap", "scanner_channel", "scan_direction_flag", "edge_of_flight_line"),
    *("scan_angle", "scan_angle_rank"),
}


@dataclass(frozen=True, eq=False)
class Survey:
    """Statistics of one cloud.

    Attributes:
        path: The file.
        points: Number of points.
        corners: ``(2, 3)`` float64, lowest and highest coordinate in meters.
        codes: LAS code to number of points that are not withheld.
        density: Points/m2: median over the horizontal squares that hold points.
        spread: 10th and 90th percentile of the density over these squares.
        nearest: Median distance to the nearest other point in 3D, in meters.
        levels: Mean number of occupied cells per column of a grid with an edge of
            one spacing: 1 on bare ground, many on a scanned wall.
        varying: Dimensions that could be inputs and are not constant.
        constant: Dimensions that hold a single value.
        unusable: Dimensions that hold NaN or infinity.
        withheld: Number of points flagged as withheld.
        overlap: Number of points flagged as overlap.
        unclassified_on_ground: Share of the points of code 1 that lie on the
            surface of those of code 2; None if either code is missing.
    """

    path: Path
    points: int
    corners: np.ndarray
    codes: dict[int, int]
    density: float
    spread: tuple[float, float]
    nearest: float
    levels: float
    varying: tuple[str, ...]
    constant: tuple[str, ...]
    unusable: tuple[str, ...]
    withheld: int
    overlap: int
    unclassified_on_ground: float | None

    @property
    def labeled(self) -> bool:
        """Whether the points have codes that could be classes."""
        return len(self.codes) > 1 or not set(self.codes) <= UNLABELED

    @property
    def spacing(self) -> float:
        """Mean horizontal point spacing in meters."""
        return float(1 / np.sqrt(self.density))


def survey_cloud(
    path: Path, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Read a cloud and compute its statistics.

    Args:
        path: LAS or LAZ file.
        progress: Called with the points read so far and in all.

    Raises:
        DataError: The file cannot be used, or has fewer than two points.
        ResourceError: The cloud does not fit into memory.
    """
    summary = describe_las(path)
    require_memory(
        summary.points * BYTES_PER_POINT,
        f"{path}: reading {summary.points:,} points",
        "use smaller tiles, or a machine with more memory",
    )
    if summary.points < 2:
        raise DataError(
            f"{path}: has {summary.points} points; use a cloud of at least 2"
        )
    wanted = [name for name in summary.dimensions if name not in NOT_INPUTS]
    flags = [name for name in (WITHHELD, OVERLAP) if name in summary.dimensions]
    cloud = read_las(
        path,
        dimensions=["classification", *flags, *wanted],
        excluded=UNSEEN,
        finite=False,
        progress=progress,
    )
    everything, cloud = cloud, cloud.without_excluded()
    flagged = {name: everything.attributes[name] != 0 for name in flags}
    nothing = np.zeros(len(everything), bool)
    withheld = flagged.get(WITHHELD, nothing)
    codes, counts = np.unique(
        everything.attributes["classification"][~withheld], return_counts=True
    )
    values = {name: _present(cloud, name) for name in wanted}
    usable = [name for name in wanted if _is_usable(values[name])]
    varies = {name: _varies(values[name]) for name in usable}
    density, spread = horizontal_density(cloud.local)
    return Survey(
        path=path,
        points=len(everything),
        corners=np.stack([cloud.local.min(axis=0), cloud.local.max(axis=0)])
        + cloud.origin,
        codes=dict(zip(codes.tolist(), counts.tolist(), strict=True)),
        density=density,
        spread=spread,
        nearest=nearest_distance(cloud.local),
        levels=stacked_levels(cloud.local, 1 / np.sqrt(density)),
        varying=tuple(name for name in usable if varies[name]),
        constant=tuple(name for name in usable if not varies[name]),
        unusable=tuple(name for name in wanted if name not in usable),
        withheld=int(np.count_nonzero(withheld)),
        overlap=int(np.count_nonzero(flagged.get(OVERLAP, nothing))),
        unclassified_on_ground=_on_ground(cloud, 1 / np.sqrt(density)),
    )


def _present(cloud: PointCloud, name: str) -> np.ndarray:
    """The values of a dimension without those that are declared as no-data."""
    values = cloud.attributes[name]
    return values[~np.isnan(values)] if name in cloud.missing else values


def _is_usable(values: np.ndarray) -> bool:
    if not len(values) or values.ndim != 1 or values.dtype.kind not in "iuf":
        return False
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _varies(values: np.ndarray) -> bool:
    some = values[:: max(1, len(values) // 1_000_000)]
    different = np.count_nonzero(some != np.median(some))
    return bool(different > (1 - CONSTANT) * len(some))


def stacked_levels(xyz: np.ndarray, edge: float) -> float:
    """Mean number of occupied cells per occupied column of a grid."""
    columns = square_of_point(xyz, edge)
    levels = np.floor((xyz[:, 2] - xyz[:, 2].min()) / edge).astype(np.int64)
    cells = np.unique(columns * (levels.max() + 1) + levels)
    return len(cells) / len(np.unique(columns))


def _on_ground(cloud: PointCloud, spacing: float) -> float | None:
    """Share of unclassified points near the ground surface, or None."""
    codes = cloud.attributes["classification"]
    ground = np.flatnonzero(codes == GROUND)
    unclassified = np.flatnonzero(codes == UNCLASSIFIED)
    if not (len(ground) and len(unclassified)):
        return None
    tree = cKDTree(cloud.local[ground, :2], balanced_tree=False)
    unclassified = unclassified[:: max(1, len(unclassified) // SAMPLES)]
    reach = max(GROUND_REACH * spacing, 1.0)
    far, rows = tree.query(cloud.local[unclassified, :2], 1, distance_upper_bound=reach)
    found = np.isfinite(far)
    offsets = cloud.local[unclassified[found], 2] - cloud.local[ground[rows[found]], 2]
    return float(np.count_nonzero(np.abs(offsets) < ON_GROUND) / len(unclassified))
