"""Grid size, fields and stages that fit a cloud, measured on its own cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.dataset.centers import TrainingCenters
from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import PreparedCloud, prepare_cloud, reduce_cloud
from vl3d_lite.dataset.sweep import cover
from vl3d_lite.guide.init.survey import WITHHELD, Survey
from vl3d_lite.spec.schema.spec import Spec

# Cells of 0.4 m won at 20 to 30 points a square meter, of 1.5 m at 0.25, where
# the points of 2 m stay apart (docs/results.md): this line passes through both.
FINEST, PER_SPACING = 0.25, 0.6  # meters; of the spacing
PER_NEAREST = 4  # distances of nearest points, where walls and crowns are scanned
OVER_ONE_ANOTHER = 2.0  # levels of points from which a cloud is a terrestrial scan
DENSEST_ALS = 500.0  # points a square meter from the air, at most
UNEVEN = 8.0  # times as dense as the thinnest tenth the densest is, from the air
EVEN = 4.0  # times as far reach the fields of few points as most, at most
FIRST_STAGE = 4096  # cells of a field, as in the specs of configs/
LEAST_STAGE = 256
FIELDS_OF_A_CLOUD = 4  # full fields a cloud must hold, side by side
STAGES = 4
PROBED_FIELDS = 400
FULL = 0.99  # of the probed fields must be full, so that 95 % of all others are
SWEPT = 0.95  # of the fields that sweep the validation clouds must be full
SHIFTS = (7, 0, 1, 2)  # of its lattice, the first as the spec will have it
WIDER, WIDEST = 1.05, 1.5  # a step of the radius for that, and the most in all
ROOM = 0.9  # of the probed fields fit into the coarser stages
MULTIPLE = 32  # stage sizes are multiples of this
RASTER_SPACINGS = 1.5  # edge of the raster that footprints are measured on


def choose_grid_size(surveys: Sequence[Survey]) -> float:
    """Edge of the cells in meters.

    Airborne scans: ``0.25 + 0.6 * spacing``, so that sparse points stay apart
    and dense ones are thinned. Terrestrial scans: four distances of nearest
    points, as seen from above they say nothing.
    """
    if is_terrestrial(surveys):
        nearest = float(np.median([survey.nearest for survey in surveys]))
        return rounded(PER_NEAREST * nearest)
    weights = np.array([survey.points for survey in surveys], float)
    spacing = np.average([survey.spacing for survey in surveys], weights=weights)
    return rounded(FINEST + PER_SPACING * float(spacing))


def is_terrestrial(surveys: Sequence[Survey]) -> bool:
    """Whether points lie over one another, or are denser than from the air.

    Or as uneven as where a station stood in the middle.
    """
    levels, density, uneven = np.median(
        [(s.levels, s.density, s.spread[1] / s.spread[0]) for s in surveys], axis=0
    )
    return bool(levels > OVER_ONE_ANOTHER or density > DENSEST_ALS or uneven > UNEVEN)


def rounded(value: float) -> float:
    """To steps a person would write: 0.35, 1.5, 24."""
    step = 0.01 if value < 0.2 else 0.05 if value < 1 else 0.1 if value < 10 else 1
    return round(round(value / step) * step, 2)


@dataclass(frozen=True)
class Sizes:
    """What fits the clouds.

    Attributes:
        shape: ``cylinder``, ``sphere`` or ``nearest``.
        radius: Meters; None where the nearest points have no limit.
        grid_size: Meters.
        points: Of each stage.
        neighbors: Of each stage.
        cells: Of the training clouds.
        typical: Meters that most fields reach before their points are used up.
        footprint: Width in meters of the widest building, 0 if there is none.
        density: Cells within two cells of a cell, the median.
    """

    shape: str
    radius: float | None
    grid_size: float
    points: tuple[int, ...]
    neighbors: tuple[int, ...]
    cells: int
    typical: float
    footprint: float
    density: float


def probe_spec(classes: Mapping[str, object], fields: dict, points: Sequence[int]):
    """A spec that costs little to prepare: one neighbor, one feature."""
    stages = [{"points": n, "channels": 8, "neighbors": 1} for n in points]
    return Spec.model_validate(
        {
            "classes": classes,
            "features": [{"name": "vertical"}],
            "fields": fields,
            "model": {"stages": stages},
        }
    )


def read_cells(
    path: Path, codes: Mapping[str, Sequence[int]], grid_size: float
) -> PointCloud:
    """A cloud reduced to cells, with labels and nothing else."""
    return reduce_cloud(
        read_las(path, class_codes=codes, ignored=[WITHHELD]), grid_size
    )[0]


def choose_sizes(
    clouds: Sequence[PointCloud],
    classes: Mapping[str, dict],
    grid_size: float,
    *,
    terrestrial: bool,
    validation: Sequence[PointCloud] = (),
) -> Sizes:
    """Choose fields and stages for clouds that are reduced to cells.

    The first stage holds 4096 cells, or fewer where a cloud has too few. The
    radius is the smallest at which 99 % of probed fields hold as many, widened
    until 95 % of the fields that sweep the validation clouds do. Each further
    stage holds what 90 % of these fields need.

    Args:
        clouds: Of `read_cells`; labelled.
        validation: Those among them that are swept.
        classes: Of the spec.
        grid_size: Meters.
        terrestrial: Whether fields are bounded in height.
    """
    points = first_stage(clouds)
    axes = 3 if terrestrial else 2
    reaches = np.concatenate(
        [_reaches(cloud, points, axes, len(clouds)) for cloud in clouds]
    )
    need, typical = np.quantile(reaches, [FULL, 0.25])
    shape, radius = ("sphere" if terrestrial else "cylinder"), _upward(need)
    if terrestrial and need > EVEN * typical:
        shape, radius = "nearest", None
    if radius is not None:
        radius = _swept_full(validation, classes, shape, radius, grid_size, points)
    fields = {"shape": shape, "radius": radius, "grid_size": grid_size}
    spec = probe_spec(classes, fields, [points] * STAGES)
    counts = np.concatenate([_level_counts(c, spec, len(clouds)) for c in clouds])
    stages = [points]
    for wanted in np.quantile(counts, ROOM, axis=0)[1:]:
        size = int(-(-wanted // MULTIPLE) * MULTIPLE)
        if size >= stages[-1]:
            size = max(MULTIPLE, stages[-1] // 2)
        stages.append(size)
    return Sizes(
        shape=shape,
        radius=radius,
        grid_size=grid_size,
        points=tuple(stages),
        neighbors=tuple(min(16, size) for size in stages),
        cells=sum(len(cloud) for cloud in clouds),
        typical=float(typical),
        footprint=widest_footprint(clouds, classes, grid_size),
        density=float(np.median([_near(cloud, grid_size) for cloud in clouds])),
    )


def first_stage(clouds: Sequence[PointCloud]) -> int:
    """Cells of a field: 4096, halved until most clouds hold four fields."""
    cells = float(np.median([len(cloud) for cloud in clouds]))
    points = FIRST_STAGE
    while points > LEAST_STAGE and points * FIELDS_OF_A_CLOUD > cells:
        points //= 2
    return points


def _upward(radius: float) -> float:
    step = 0.1 if radius < 5 else 0.5 if radius < 20 else 1.0
    return round(float(np.ceil(radius * 1.02 / step) * step), 1)


def _swept_full(
    clouds: Sequence[PointCloud],
    classes: Mapping[str, dict],
    shape: str,
    radius: float,
    grid_size: float,
    points: int,
) -> float:
    """The radius, or a wider one at which the fields of a sweep are full.

    Where no wider one brings that, as in a cloud that is hardly larger than a
    field, it stays as it is.
    """
    clouds = [cloud for cloud in clouds if len(cloud) >= points]
    wider = radius
    while clouds and wider <= WIDEST * radius:
        fields = {"shape": shape, "radius": wider, "grid_size": grid_size}
        spec = probe_spec(classes, fields, [points])
        prepared = [prepare_cloud(cloud, spec) for cloud in clouds]
        full = [
            np.mean(
                np.concatenate([sweep_counts(p, spec, seed) for p in prepared])
                >= points
            )
            for seed in SHIFTS
        ]
        if min(full) >= SWEPT:
            return wider
        wider = _upward(wider * WIDER)
    return radius


def _centers(cloud: PointCloud, typical: float, count: int) -> np.ndarray:
    """Centers as training draws them: every class alike, beside a point."""
    rng = np.random.default_rng(0)
    labels = cloud.labels
    groups = [np.flatnonzero(labels == n) for n in np.unique(labels[labels >= 0])]
    groups = groups or [np.arange(len(cloud))]
    rows = np.array([rng.choice(groups[n % len(groups)]) for n in range(count)])
    distance = typical / 2 * np.sqrt(rng.random(count))
    angle = rng.uniform(0, 2 * np.pi, count)
    centers = cloud.local[rows].copy()
    centers[:, 0] += distance * np.cos(angle)
    centers[:, 1] += distance * np.sin(angle)
    return centers


def _reaches(cloud: PointCloud, points: int, axes: int, clouds: int) -> np.ndarray:
    """How far probed fields must reach to hold as many cells, ``(fields,)``."""
    count = max(32, PROBED_FIELDS // clouds)
    tree = cKDTree(cloud.local[:, :axes], balanced_tree=False)
    wanted = min(points, len(cloud))
    at_points = _centers(cloud, 0.0, count)
    typical = np.quantile(tree.query(at_points[:, :axes], [wanted])[0], 0.25)
    centers = _centers(cloud, typical, count)
    return tree.query(centers[:, :axes], [wanted])[0][:, 0]


def _level_counts(cloud: PointCloud, spec: Spec, clouds: int) -> np.ndarray:
    prepared = prepare_cloud(cloud, spec)
    return probe_fields(prepared, spec, max(16, PROBED_FIELDS // 4 // clouds))


def probe_fields(prepared: PreparedCloud, spec: Spec, count: int) -> np.ndarray:
    """Points of training fields at every stage, ``(count, stages)``.

    The fields are drawn and cut as training does.
    """
    extractor = FieldExtractor(prepared, spec)
    if (prepared.labels >= 0).any():
        draw = TrainingCenters([extractor], spec).epoch(0, count)
    else:
        draw = _any_center(prepared)
    result = []
    for number in range(count):
        rng = np.random.default_rng([spec.seed, number])
        field = extractor.extract(draw(number, rng)[1])
        result.append([len(xyz) for xyz in field.xyz])
    return np.array(result)


def _any_center(prepared: PreparedCloud):
    return lambda _, rng: (0, prepared.xyz[rng.integers(len(prepared.xyz))])


def sweep_counts(prepared: PreparedCloud, spec: Spec, seed: int = 0) -> np.ndarray:
    """Points of the fields that cover a cloud once, ``(fields,)``."""
    return np.array([len(rows) for rows in cover(prepared, spec, seed=seed).rows])


def widest_footprint(
    clouds: Sequence[PointCloud], classes: Mapping[str, dict], grid_size: float
) -> float:
    """Width of the largest disk that fits into a building, in meters.

    Args:
        clouds: Reduced to cells, labelled.
        classes: Of the spec; those that name code 6 are buildings.
        grid_size: Meters.
    """
    numbers = [n for n, entry in enumerate(classes.values()) if 6 in entry["codes"]]
    edge = max(1.0, RASTER_SPACINGS * 1.5 * grid_size)
    widest = 0.0
    for cloud in clouds:
        cells = np.floor(cloud.local[np.isin(cloud.labels, numbers), :2] / edge)
        if not len(cells):
            continue
        cells = cells.astype(np.int64) - cells.min(axis=0).astype(np.int64) + 1
        raster = np.zeros(cells.max(axis=0) + 2, bool)
        raster[tuple(cells.T)] = True
        inscribed = float(distance_transform_edt(raster).max())
        widest = max(widest, (2 * inscribed - 1) * edge)
    return widest


def _near(cloud: PointCloud, grid_size: float) -> float:
    """Cells within a kernel of the first stage around a cell, the median."""
    rows = np.random.default_rng(0).integers(len(cloud), size=min(1000, len(cloud)))
    tree = cKDTree(cloud.local, balanced_tree=False)
    counts = tree.query_ball_point(
        cloud.local[rows], 2.1 * grid_size, return_length=True
    )
    return float(np.median(counts))
