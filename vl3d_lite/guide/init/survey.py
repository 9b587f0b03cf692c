"""What a labelled cloud is like: spacing, extent, codes, dimensions that vary."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.reading import describe_las, read_las
from vl3d_lite.errors import DataError
from vl3d_lite.system.resources import require_memory

BYTES_PER_POINT = 120  # of a cloud read with the dimensions looked at, at its peak
POINTS_PER_SQUARE = 16  # of the squares whose points are counted
PROBES = 20_000  # points whose nearest neighbor or ground is looked for
CONSTANT = 0.999  # share of one value from which a dimension says nothing
ON_GROUND = 0.2  # m; a point as near to the surface of the ground lies on it
GROUND_REACH = 2.0  # spacings within which that surface is looked for
GROUND, UNCLASSIFIED = 2, 1
WITHHELD, OVERLAP = "withheld", "overlap"  # LAS flags
UNLABELLED = {0, 1}  # codes that alone make no labels

# Never an input of a network: the label, places in the file, and bookkeeping.
NOT_INPUTS = {
    *("X", "Y", "Z", "classification", "raw_classification", "gps_time"),
    *("point_source_id", "user_data", "synthetic", "key_point", "withheld"),
    *("overlap", "scanner_channel", "scan_direction_flag", "edge_of_flight_line"),
    *("scan_angle", "scan_angle_rank"),
}


@dataclass(frozen=True, eq=False)
class Survey:
    """A cloud at a glance.

    Attributes:
        path: The file.
        points: Number of points.
        corners: ``(2, 3)`` float64, lowest and highest coordinate in meters.
        codes: LAS code to points that are not withheld.
        density: Points a square meter: median over squares that hold some.
        spread: Its 10th and 90th percentile over these squares.
        nearest: Median distance to the nearest other point in space, in meters.
        levels: Points that lie over one another, on average, on a grid of a
            spacing: 1 on bare ground, many where a wall was scanned.
        varying: Dimensions that could be inputs and are not constant.
        constant: Those that hold one value only.
        unusable: Those that hold NaN or infinity.
        withheld: Points flagged as withheld.
        overlap: Points flagged as overlap.
        unclassified_on_ground: Share of the points of code 1 that lie on the
            surface of those of code 2; None where either is missing.
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
    def labelled(self) -> bool:
        """Whether points carry codes that could be classes."""
        return len(self.codes) > 1 or not set(self.codes) <= UNLABELLED

    @property
    def spacing(self) -> float:
        """Mean distance of points seen from above, in meters."""
        return 1 / np.sqrt(self.density)


def survey_cloud(
    path: Path, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Read a cloud and look at it.

    Raises:
        DataError: The file cannot be used, or has fewer than two points.
        ResourceError: It does not fit into memory.
    """
    summary = describe_las(path)
    require_memory(
        summary.points * BYTES_PER_POINT,
        f"{path}: reading {summary.points:,} points",
        "give smaller tiles, or a machine with more memory",
    )
    if summary.points < 2:
        raise DataError(f"{path}: has {summary.points} points; give clouds of more")
    wanted = [name for name in summary.dimensions if name not in NOT_INPUTS]
    flags = [name for name in (WITHHELD, OVERLAP) if name in summary.dimensions]
    cloud = read_las(
        path,
        dimensions=["classification", *flags, *wanted],
        finite=False,
        progress=progress,
    )
    flagged = {name: cloud.attributes[name] != 0 for name in flags}
    nothing = np.zeros(len(cloud), bool)
    withheld = flagged.get(WITHHELD, nothing)
    codes, counts = np.unique(
        cloud.attributes["classification"][~withheld], return_counts=True
    )
    usable = [name for name in wanted if _is_usable(cloud.attributes[name])]
    varies = {name: _varies(cloud.attributes[name]) for name in usable}
    density, spread = ground_density(cloud.local)
    return Survey(
        path=path,
        points=len(cloud),
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


def _is_usable(values: np.ndarray) -> bool:
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        return False
    return values.dtype.kind != "f" or bool(np.isfinite(values).all())


def _varies(values: np.ndarray) -> bool:
    some = values[:: max(1, len(values) // 1_000_000)]
    return np.count_nonzero(some != np.median(some)) > (1 - CONSTANT) * len(some)


def ground_density(xyz: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Points a square meter seen from above, where there are any.

    Args:
        xyz: ``(n, 3)`` in meters, at least one point.

    Returns:
        The median over squares of about 16 points, and their 10th and 90th
        percentile.
    """
    extent = np.maximum(np.ptp(xyz[:, :2], axis=0), 1e-3)
    density = len(xyz) / np.prod(extent)
    for _ in range(4):
        edge = np.sqrt(POINTS_PER_SQUARE / density)
        counts = np.unique(_square(xyz, edge), return_counts=True)[1]
        density = np.median(counts) / edge**2
    low, high = np.quantile(counts, [0.1, 0.9]) / edge**2
    return float(density), (float(low), float(high))


def _square(xyz: np.ndarray, edge: float) -> np.ndarray:
    """One number for each square of a horizontal grid that holds points."""
    cells = np.floor((xyz[:, :2] - xyz[:, :2].min(axis=0)) / edge).astype(np.int64)
    return cells[:, 0] * (cells[:, 1].max() + 1) + cells[:, 1]


def nearest_distance(xyz: np.ndarray) -> float:
    """Median distance of points to the nearest other point, in meters."""
    rng = np.random.default_rng(0)
    tree = cKDTree(xyz, balanced_tree=False)
    rows = rng.integers(len(xyz), size=min(PROBES, len(xyz)))
    return float(np.median(tree.query(xyz[rows], 2)[0][:, 1]))


def stacked_levels(xyz: np.ndarray, edge: float) -> float:
    """Occupied cells in an occupied column of a grid, on average."""
    columns = _square(xyz, edge)
    levels = np.floor((xyz[:, 2] - xyz[:, 2].min()) / edge).astype(np.int64)
    cells = np.unique(columns * (levels.max() + 1) + levels)
    return len(cells) / len(np.unique(columns))


def _on_ground(cloud: PointCloud, spacing: float) -> float | None:
    codes = cloud.attributes["classification"]
    ground, odd = np.flatnonzero(codes == GROUND), np.flatnonzero(codes == UNCLASSIFIED)
    if not (len(ground) and len(odd)):
        return None
    tree = cKDTree(cloud.local[ground, :2], balanced_tree=False)
    odd = odd[:: max(1, len(odd) // PROBES)]
    reach = max(GROUND_REACH * spacing, 1.0)
    far, rows = tree.query(cloud.local[odd, :2], 1, distance_upper_bound=reach)
    found = np.isfinite(far)
    offsets = cloud.local[odd[found], 2] - cloud.local[ground[rows[found]], 2]
    return float(np.count_nonzero(np.abs(offsets) < ON_GROUND) / len(odd))
