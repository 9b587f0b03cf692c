"""The domain of a model: what the clouds of its training looked like.

Outside of it a network still names a class for each point, but nothing is known about
how good these classes are, and confidence is a ranking instead of a probability.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from vl3d_lite.clouds import read_header
from vl3d_lite.dataset.exclusion import exclusion
from vl3d_lite.dataset.features import compute_features, required_dimensions
from vl3d_lite.dataset.files import read_cloud
from vl3d_lite.dataset.known_facts import Kind, open_cache, recall
from vl3d_lite.dataset.places import Place, joined, place_of
from vl3d_lite.dataset.prepared import reduce_cloud
from vl3d_lite.errors import VL3DError
from vl3d_lite.geometry import (
    ground_slope,
    horizontal_density,
    nearest_distance,
    tall_height,
)
from vl3d_lite.spec import Spec, cloud_labels
from vl3d_lite.system import FileCache, identity_of, read_record

logger = logging.getLogger(__name__)

SAMPLE = 400_000  # points that are read of a cloud: a second or two
QUANTILES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
SQUARE = 20.0  # m; edge of the squares whose lowest point is taken as the ground
SLOPE_SPACINGS = 8  # edge of the squares for slopes, in point spacings
LEAST_SLOPE_EDGE = 4.0  # m; wider than furniture and cars
COLORS = ("red", "green", "blue", "nir")
_LEVELS = np.linspace(0, 1, 401)  # of interpolated quantiles

Range = tuple[float, float]
_RANGES = ("density", "spacing", "returns", "intensity", "color", "slope", "height")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Profile(_Frozen):
    """What one cloud looks like to a network.

    Attributes:
        points: Points of the file.
        density: Points/m2 before the reduction to cells.
        spacing: Median distance in meters of cells to the nearest other one.
        returns: Share of points whose pulse has several returns; None where the
            features do not use return numbers.
        intensity: 99th percentile of the intensity; None where it is no feature.
        color: Largest color value; None where no color is a feature.
        slope: Median slope of the terrain in degrees.
        height: 99th percentile of the height over the lowest point nearby, meters.
        unit: Meters in one unit of x of the file.
        crs: Name of the reference system; empty where the file has none.
        place: Where it lies; None where that is not known.
        features: For each feature its `QUANTILES` over the cells.
    """

    points: int
    density: float
    spacing: float
    returns: float | None
    intensity: float | None
    color: float | None
    slope: float
    height: float
    unit: float
    crs: str
    place: Place | None = None
    features: dict[str, list[float]]


PROFILES: FileCache[Profile] = FileCache(1024)
PROFILE: Kind[Profile] = Kind(
    "profile",
    pack=lambda profile: (profile.model_dump(mode="json"), {}),
    unpack=lambda record, _: Profile.model_validate(record),
)


class Limits(_Frozen):
    """Limits found by scoring clouds; they replace those derived from the training.

    Attributes:
        density: Points/m2.
    """

    density: Range | None = None


class Domain(_Frozen):
    """What the training clouds of a run looked like, from the least to the most.

    Attributes:
        clouds: Number of clouds.
        density: Points/m2 before the reduction, with the thinning of the training.
        spacing: Median distance in meters of cells to the nearest other one.
        returns: Share of points whose pulse has several returns.
        intensity: 99th percentile of the intensity of a cloud.
        color: Largest color value of a cloud.
        slope: Median slope in degrees, with the slopes added in training.
        height: 99th percentile of the height over the lowest point nearby, meters.
        units: Meters in one unit of x of the files.
        crs: Names of reference systems.
        features: For each feature its `QUANTILES` over the cells of all clouds.
        places: Where the clouds lie; empty where that is not known.
        limits: Limits found by scoring.
    """

    clouds: int = Field(ge=1)
    density: Range
    spacing: Range
    returns: Range | None
    intensity: Range | None
    color: Range | None
    slope: Range
    height: Range
    units: list[float]
    crs: list[str]
    features: dict[str, list[float]]
    places: list[Place] = []
    limits: Limits = Limits()

    @classmethod
    def of(cls, profiles: Sequence[Profile], spec: Spec) -> "Domain":
        """The domain of a training.

        Args:
            profiles: Those of its training clouds, at least one.
            spec: Its augmentation widens density and slope.
        """
        augmentation = spec.training.augmentation
        varied = augmentation.grids > 1
        thinnest = 1 - augmentation.thinning if varied else 1.0
        low, high = _range([profile.density for profile in profiles])
        slopes = _range([profile.slope for profile in profiles])
        tilt = np.degrees(np.arctan(augmentation.slope)) if varied else 0.0
        return cls(
            clouds=len(profiles),
            density=(_round(low * thinnest), high),
            spacing=_range([profile.spacing for profile in profiles]),
            returns=_known_range([profile.returns for profile in profiles]),
            intensity=_known_range([profile.intensity for profile in profiles]),
            color=_known_range([profile.color for profile in profiles]),
            slope=(slopes[0], max(slopes[1], _round(float(tilt)))),
            height=_range([profile.height for profile in profiles]),
            units=sorted({profile.unit for profile in profiles}),
            crs=sorted({profile.crs for profile in profiles}),
            features=_pooled([profile.features for profile in profiles]),
            places=joined(one.place for one in profiles if one.place is not None),
        )

    @classmethod
    def union(cls, domains: Sequence["Domain"]) -> "Domain":
        """The domain of an ensemble: what any of its runs was trained on."""
        content: dict[str, Any] = {
            name: _known_range(
                [end for one in domains for end in getattr(one, name) or ()]
            )
            for name in _RANGES
        }
        content["clouds"] = sum(one.clouds for one in domains)
        content["units"] = sorted({unit for one in domains for unit in one.units})
        content["crs"] = sorted({name for one in domains for name in one.crs})
        content["features"] = _pooled([one.features for one in domains])
        # Where the place of one is not known, nothing can be said to lie outside.
        known = all(one.places for one in domains)
        content["places"] = (
            joined(place for one in domains for place in one.places) if known else []
        )
        if any(one.limits.density for one in domains):
            ends = [end for one in domains for end in one.density_limits()]
            content["limits"] = Limits(density=_range(ends))
        return cls.model_validate(content)

    def density_limits(self) -> Range:
        """Least and largest density for which the model was trained or scored."""
        return self.limits.density or self.density

    def to_json(self) -> str:
        """The content of ``domain.json``."""
        return self.model_dump_json(indent=2) + "\n"


def read_domain(path: Path) -> Domain | None:
    """The domain that a run folder holds; None where it holds none.

    Raises:
        DataError: The file is damaged.
    """
    if not path.is_file():
        return None
    remedy = "restore it from a copy, or remove it: clouds are then not compared"
    return read_record(path, Domain, remedy)


def profile_cloud(path: Path, spec: Spec, threads: int = 1) -> Profile:
    """Measure what a cloud looks like, on a sample of its points.

    A file that was measured with the same settings before, and has not changed since,
    is not read again.

    Args:
        path: LAS or LAZ file.
        spec: The spec, with features and grid size.
        threads: Threads of neighbor searches.

    Raises:
        DataError: The cloud cannot be used.
        ResourceError: It does not fit into memory.
    """
    read_header(path)  # its errors name the file and the remedy
    with open(path, "rb") as file:
        began, identity = time.time(), identity_of(path, file.fileno())
    settings = _settings(path, spec)
    known = PROFILES.get(identity, settings)
    if known is not None:
        return known
    profile, _ = recall(
        open_cache(spec), PROFILE, path, settings, lambda: _measure(path, spec, threads)
    )
    PROFILES.put(identity, profile, settings, began=began)
    return profile


def _settings(path: Path, spec: Spec) -> str:
    """What the profile of a cloud depends on besides its file, as text."""
    labels = cloud_labels(spec, path)
    parts = (
        SAMPLE,
        labels,
        spec.ignored_flags,
        exclusion(spec, labels),
        spec.features,
        spec.fields.grid_size,
        spec.clouds.unit,
        spec.model.source_weights,
    )
    return repr(parts)


def _measure(path: Path, spec: Spec, threads: int) -> Profile:
    header = read_header(path)
    cloud = read_cloud(path, spec, most=SAMPLE)
    read = len(cloud)
    cloud = cloud.without_excluded()
    cells, _ = reduce_cloud(cloud, spec.fields.grid_size)
    density = horizontal_density(cloud.local)[0]
    if header.point_count > read:
        # In a sample, flight lines may be missing that overlap those that it holds.
        area = np.prod(np.ptp(header.extent[:, :2], axis=0) * cloud.meters_per_unit[:2])
        density = max(density, header.point_count / max(float(area), 1e-6))
    values, names = compute_features(
        cells, spec.features, spec.fields.grid_size, threads
    )
    edge = max(SLOPE_SPACINGS / np.sqrt(density), LEAST_SLOPE_EDGE)
    attributes, used = cloud.attributes, required_dimensions(spec.features)
    colors = [attributes[name] for name in COLORS if name in used]
    several = "number_of_returns" in used
    return Profile(
        points=header.point_count,
        density=_round(density),
        spacing=_round(nearest_distance(cells.local)) if len(cells) > 1 else 0.0,
        returns=_round((attributes["number_of_returns"] > 1).mean())
        if several
        else None,
        intensity=_round(np.nanquantile(attributes["intensity"], 0.99))
        if "intensity" in used
        else None,
        color=_round(max(np.nanmax(color) for color in colors)) if colors else None,
        slope=_round(ground_slope(cells.local, edge)),
        height=_round(tall_height(cells.local, SQUARE)),
        unit=float(cloud.meters_per_unit[0]),
        crs=cloud.crs,
        place=place_of(path, spec.clouds.unit),
        features={
            # The height over the center of a field is known in fields only.
            name: [_round(one) for one in np.nanquantile(values[:, column], QUANTILES)]
            for column, name in enumerate(names)
            if name != "vertical" and not np.isnan(values[:, column]).all()
        },
    )


def measure_domain(paths: Sequence[Path], spec: Spec, threads: int = 1) -> Domain:
    """Measure the domain of a training from its clouds.

    Raises:
        DataError: A cloud cannot be used.
        ResourceError: It does not fit into memory.
    """
    return Domain.of([profile_cloud(path, spec, threads) for path in paths], spec)


def try_profile(path: Path, spec: Spec, threads: int = 1) -> Profile | None:
    """The profile of a cloud; None where the cloud cannot be used.

    Whatever is wrong with it is reported when the cloud itself is used.
    """
    try:
        return profile_cloud(path, spec, threads)
    except VL3DError as error:
        logger.debug("%s", error)
        return None


def _pooled(clouds: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Quantiles over several clouds, of which each counts alike."""
    names = dict.fromkeys(name for features in clouds for name in features)
    result = {}
    for name in names:
        known = [features[name] for features in clouds if name in features]
        values = np.concatenate([spread(quantiles) for quantiles in known])
        result[name] = [_round(one) for one in np.quantile(values, QUANTILES)]
    return result


def spread(quantiles: Sequence[float]) -> np.ndarray:
    """Values that have these `QUANTILES`, interpolated."""
    return np.interp(_LEVELS, QUANTILES, quantiles)


def _range(values: Sequence[float]) -> Range:
    return min(values), max(values)


def _known_range(values: Sequence[float | None]) -> Range | None:
    known = [value for value in values if value is not None]
    return _range(known) if known else None


def _round(value: float) -> float:
    """Four digits suffice to compare clouds, and keep the file readable."""
    return float(f"{value:.4g}")
