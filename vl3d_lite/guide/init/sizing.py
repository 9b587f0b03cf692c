"""Choose grid size, fields and stages from measurements on the clouds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from vl3d_lite.clouds import PointCloud, read_las
from vl3d_lite.dataset import (
    FieldExtractor,
    PreparedCloud,
    TrainingCenters,
    cover,
    prepare_cloud,
    reduce_cloud,
)
from vl3d_lite.guide.init.survey import UNSEEN, Survey
from vl3d_lite.spec import Spec

# Cells of 0.4 m scored best at 20 to 30 points/m2, and cells of 1.5 m at 0.25, where
# points 2 m apart stay apart (docs/results.md): this line passes through both.
OFFSET, PER_SPACING = 0.25, 0.6  # meters; share of the spacing
PER_NEAREST = 4  # nearest-point distances per cell of a terrestrial scan
TERRESTRIAL_LEVELS = 2.0  # levels of points above which a scan is terrestrial
MAX_AIRBORNE_DENSITY = 500.0  # points/m2
MAX_AIRBORNE_SPREAD = 8.0  # ratio of the 90th to the 10th percentile of density
EVEN = 4.0  # ratio of the widest to a typical field above which radii have no limit
FIRST_STAGE = 4096  # cells of a field, as in the specs of configs/
SMALLEST_STAGE = 256
FIELDS_PER_CLOUD = 4  # full fields that a cloud must hold, side by side
STAGES = 4
SAMPLED_FIELDS = 400
FULL = 0.99  # of the sampled fields must be full, so that 95 % of all others are
SWEPT = 0.95  # of the fields that sweep the validation clouds must be full
SEEDS = (7, 0, 1, 2)  # of the sweep's lattice; 7 is the seed of the written spec
STEP, MAX_FACTOR = 1.05, 1.5  # of the radius, until the fields of a sweep are full
FITTING = 0.9  # of the sampled fields fit into the coarser stages
MULTIPLE = 32  # stage sizes are multiples of this
RASTER_SPACINGS = 1.5  # spacings; edge of the raster that footprints are measured on
BUILDING = 6  # LAS code
KERNEL_RADIUS = 2.1  # grid sizes; the default of `model.kpconvx.kernel_radius`


def choose_grid_size(surveys: Sequence[Survey]) -> float:
    """Choose the edge of the cells in meters.

    Airborne scans: ``0.25 + 0.6 * spacing``, which keeps sparse points apart and
    thins dense ones. Terrestrial scans: four nearest-point distances, since the
    horizontal spacing does not describe walls and crowns.
    """
    if is_terrestrial(surveys):
        nearest = float(np.median([survey.nearest for survey in surveys]))
        return rounded(PER_NEAREST * nearest)
    weights = np.array([survey.points for survey in surveys], float)
    spacing = np.average([survey.spacing for survey in surveys], weights=weights)
    return rounded(OFFSET + PER_SPACING * float(spacing))


def is_terrestrial(surveys: Sequence[Survey]) -> bool:
    """Whether clouds look like terrestrial scans.

    True if points lie on several levels, are denser than airborne scans, or are as
    uneven as around a scan station.
    """
    levels, density, uneven = np.median(
        [(s.levels, s.density, s.spread[1] / s.spread[0]) for s in surveys], axis=0
    )
    return bool(
        levels > TERRESTRIAL_LEVELS
        or density > MAX_AIRBORNE_DENSITY
        or uneven > MAX_AIRBORNE_SPREAD
    )


def rounded(value: float) -> float:
    """Round to a step that fits the magnitude: 0.35, 1.5, 24."""
    step = 0.01 if value < 0.2 else 0.05 if value < 1 else 0.1 if value < 10 else 1
    return round(round(value / step) * step, 2)


@dataclass(frozen=True)
class Sizes:
    """Sizes of fields and stages that fit the clouds.

    Attributes:
        shape: ``cylinder``, ``sphere`` or ``nearest``.
        radius: Field radius in meters; None if the shape is ``nearest``.
        grid_size: Edge of the cells in meters.
        points: Points of each stage.
        neighbors: Neighbors per point of each stage.
        cells: Number of cells of the clouds.
        typical_radius: Distance in meters at which most fields have all their
            points.
        footprint: Width in meters of the widest building; 0 if there is none.
        density: Median number of cells within a kernel around a cell.
    """

    shape: str
    radius: float | None
    grid_size: float
    points: tuple[int, ...]
    neighbors: tuple[int, ...]
    cells: int
    typical_radius: float
    footprint: float
    density: float


def minimal_spec(
    codes: Mapping[str, Sequence[int]], fields: dict, points: Sequence[int]
) -> Spec:
    """A spec whose clouds are quick to prepare: one neighbor, one feature.

    Args:
        codes: LAS codes of each class.
        fields: Section of the spec.
        points: Points of each stage.
    """
    stages = [{"points": n, "channels": 8, "neighbors": 1} for n in points]
    return Spec.model_validate(
        {
            "classes": {
                name: {"codes": list(own), "output_code": own[0]}
                for name, own in codes.items()
            },
            "features": [{"name": "vertical"}],
            "fields": fields,
            "model": {"stages": stages},
        }
    )


def read_cells(
    path: Path, codes: Mapping[str, Sequence[int]], grid_size: float
) -> PointCloud:
    """Read a cloud and reduce it to cells with labels, without attributes."""
    return reduce_cloud(read_las(path, class_codes=codes, excluded=UNSEEN), grid_size)[
        0
    ]


def choose_sizes(
    clouds: Sequence[PointCloud],
    codes: Mapping[str, Sequence[int]],
    grid_size: float,
    *,
    terrestrial: bool,
    validation: Sequence[PointCloud] = (),
) -> Sizes:
    """Choose fields and stages for clouds that are reduced to cells.

    The first stage has 4096 points, or fewer for small clouds. The radius is the
    smallest at which 99 % of sampled fields are full, widened until 95 % of the
    fields that sweep the validation clouds are. Each further stage has room for
    90 % of the sampled fields.

    Args:
        clouds: Labeled clouds from `read_cells`.
        codes: LAS codes of each class.
        grid_size: Edge of the cells in meters.
        terrestrial: Whether fields are bounded in height.
        validation: Those of the clouds that validate.
    """
    points = first_stage(clouds)
    axes = 3 if terrestrial else 2
    radii = np.concatenate(
        [_full_radii(cloud, points, axes, len(clouds)) for cloud in clouds]
    )
    full, typical = np.quantile(radii, [FULL, 0.25])
    fields: dict[str, Any] = {"grid_size": grid_size}
    if terrestrial and full > EVEN * typical:
        fields |= {"shape": "nearest", "radius": None}
    else:
        fields["shape"] = "sphere" if terrestrial else "cylinder"
        fields["radius"] = _rounded_up(full)
        fields["radius"] = _swept_full(validation, codes, fields, points)
    spec = minimal_spec(codes, fields, [points] * STAGES)
    counts = np.concatenate([_level_counts(c, spec, len(clouds)) for c in clouds])
    stages = [points]
    for wanted in np.quantile(counts, FITTING, axis=0)[1:]:
        size = int(-(-wanted // MULTIPLE) * MULTIPLE)
        if size >= stages[-1]:
            size = max(MULTIPLE, stages[-1] // 2)
        stages.append(size)
    return Sizes(
        shape=fields["shape"],
        radius=fields["radius"],
        grid_size=grid_size,
        points=tuple(stages),
        neighbors=tuple(min(16, size) for size in stages),
        cells=sum(len(cloud) for cloud in clouds),
        typical_radius=float(typical),
        footprint=widest_footprint(clouds, codes, grid_size),
        density=float(np.median([_kernel_cells(c, grid_size) for c in clouds])),
    )


def first_stage(clouds: Sequence[PointCloud]) -> int:
    """Points of the first stage: 4096, halved until most clouds hold four fields."""
    cells = float(np.median([len(cloud) for cloud in clouds]))
    points = FIRST_STAGE
    while points > SMALLEST_STAGE and points * FIELDS_PER_CLOUD > cells:
        points //= 2
    return points


def _rounded_up(radius: float) -> float:
    # 2 % more than measured: the sampled fields are not all fields.
    step = 0.1 if radius < 5 else 0.5 if radius < 20 else 1.0
    return round(float(np.ceil(radius * 1.02 / step) * step), 1)


def _swept_full(
    clouds: Sequence[PointCloud],
    codes: Mapping[str, Sequence[int]],
    fields: dict[str, Any],
    points: int,
) -> float:
    """Widen the radius of `fields` until the fields of a sweep are full.

    It stays as it is if no wider radius helps, as in a cloud that is hardly larger
    than a field.
    """
    radius = fields["radius"]
    clouds = [cloud for cloud in clouds if len(cloud) >= points]
    wider = radius
    while clouds and wider <= MAX_FACTOR * radius:
        spec = minimal_spec(codes, fields | {"radius": wider}, [points])
        prepared = [prepare_cloud(cloud, spec) for cloud in clouds]
        full = [
            np.mean(
                np.concatenate([sweep_counts(p, spec, seed) for p in prepared])
                >= points
            )
            for seed in SEEDS
        ]
        if min(full) >= SWEPT:
            return wider
        wider = _rounded_up(wider * STEP)
    return radius


def _centers(cloud: PointCloud, typical: float, count: int) -> np.ndarray:
    """Centers as training draws them: all classes equally often, near a point."""
    rng = np.random.default_rng(0)
    labels = cloud.labels
    assert labels is not None, "clouds of `read_cells` have labels"
    groups = [np.flatnonzero(labels == n) for n in np.unique(labels[labels >= 0])]
    groups = groups or [np.arange(len(cloud))]
    rows = np.array([rng.choice(groups[n % len(groups)]) for n in range(count)])
    distance = typical / 2 * np.sqrt(rng.random(count))
    angle = rng.uniform(0, 2 * np.pi, count)
    centers = cloud.local[rows].copy()
    centers[:, 0] += distance * np.cos(angle)
    centers[:, 1] += distance * np.sin(angle)
    return centers


def _full_radii(cloud: PointCloud, points: int, axes: int, clouds: int) -> np.ndarray:
    """Radii at which sampled fields hold `points` cells, ``(fields,)``."""
    count = max(32, SAMPLED_FIELDS // clouds)
    tree = cKDTree(cloud.local[:, :axes], balanced_tree=False)
    wanted = min(points, len(cloud))
    at_points = _centers(cloud, 0.0, count)
    typical = np.quantile(tree.query(at_points[:, :axes], [wanted])[0], 0.25)
    centers = _centers(cloud, typical, count)
    return tree.query(centers[:, :axes], [wanted])[0][:, 0]


def _level_counts(cloud: PointCloud, spec: Spec, clouds: int) -> np.ndarray:
    prepared = prepare_cloud(cloud, spec)
    return sample_field_sizes(prepared, spec, max(16, SAMPLED_FIELDS // 4 // clouds))


def sample_field_sizes(prepared: PreparedCloud, spec: Spec, count: int) -> np.ndarray:
    """Points of training fields at every stage, ``(count, stages)``.

    The fields are drawn and extracted as in training.
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
    """Number of points of the fields that cover a cloud once, ``(fields,)``."""
    return np.array([len(rows) for rows in cover(prepared, spec, seed=seed).rows])


def widest_footprint(
    clouds: Sequence[PointCloud],
    codes: Mapping[str, Sequence[int]],
    grid_size: float,
) -> float:
    """Diameter of the largest disk that fits into a building, in meters.

    Args:
        clouds: Labeled clouds, reduced to cells.
        codes: LAS codes of each class; classes with code 6 are buildings.
        grid_size: Edge of the cells in meters.

    Returns:
        The diameter, or 0 without a building.
    """
    buildings = [n for n, own in enumerate(codes.values()) if BUILDING in own]
    edge = max(1.0, RASTER_SPACINGS * 1.5 * grid_size)
    widest = 0.0
    for cloud in clouds:
        assert cloud.labels is not None, "clouds of `read_cells` have labels"
        cells = np.floor(cloud.local[np.isin(cloud.labels, buildings)][:, :2] / edge)
        if not len(cells):
            continue
        # A border of empty cells all around, so that distances end there.
        cells = cells.astype(np.int64) - cells.min(axis=0).astype(np.int64) + 1
        raster = np.zeros(cells.max(axis=0) + 2, bool)
        raster[tuple(cells.T)] = True
        inscribed = float(distance_transform_edt(raster).max())
        widest = max(widest, (2 * inscribed - 1) * edge)
    return widest


def _kernel_cells(cloud: PointCloud, grid_size: float) -> float:
    """Median number of cells within a kernel of the first stage around a cell."""
    rows = np.random.default_rng(0).integers(len(cloud), size=min(1000, len(cloud)))
    tree = cKDTree(cloud.local, balanced_tree=False)
    counts = tree.query_ball_point(
        cloud.local[rows], KERNEL_RADIUS * grid_size, return_length=True
    )
    return float(np.median(counts))
