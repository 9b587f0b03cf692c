"""How a cloud departs from the domain of a model, and what that cost before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import unit_name
from vl3d_lite.dataset.domain import COLORS, Domain, Profile, spread, try_profile
from vl3d_lite.dataset.places import FAR
from vl3d_lite.spec import COMPUTED_FEATURES, Spec

DENSITY_FACTOR = 2.5  # beyond the densities of the training: als_dense bears that
SCALE_FACTOR = 4.0  # of intensity; sensors of one campaign differ by less
HEIGHT_FACTOR = 2.0  # above the tallest of the training
SLOPE_DEGREES = 5.0  # above the steepest of the training
SPACING_FACTOR = 2.5  # of cells, where the density is not outside by itself
FEW_RETURNS = 0.001  # share of points of pulses with several returns
OUTSIDE = 0.25  # share of cells beyond the 1st or 99th percentile; in training 0.02
NARROW = 0.05  # share of the training's spread: most likely stored on another scale
EIGHT_BIT = 255
LOW, HIGH = 1, -2  # places of the 1st and 99th percentile in `QUANTILES`
_FIVE, _NINETY_FIVE = 2, -3

# Measured: docs/trust.md lists the clouds.
COSTS = {
    "sparser": "vegetation IoU .727 at 1.5 points/m2, .884 with als_sparse",
    "denser": "mean IoU .851 at 24 points/m2, .932 with als_dense",
    "color": "mean IoU 1.000 became .043 with 8-bit instead of 16-bit colors",
    "returns": "mean IoU .920 became .888 without return numbers",
    "slope": "ground recall .95 at 8 degrees, .20 at 34 (version 0.1)",
    "place": "calibration error .018 became .066 in another region",
}
UNKNOWN = "not measured"
RANKING = (
    "Outside the domain of a model its confidence is a ranking, not a probability."
)


@dataclass(frozen=True)
class Departure:
    """One quantity of a cloud that lies outside the domain of a model.

    Attributes:
        quantity: Its name, with the unit.
        training: The range of the training, as text.
        here: The value or range of the cloud, as text.
        cost: What such a departure cost before, as text.
        of_place: Whether it concerns where the cloud lies, not what it looks like.
    """

    quantity: str
    training: str
    here: str
    cost: str
    of_place: bool = False


def find_departures(domain: Domain, profile: Profile, spec: Spec) -> list[Departure]:
    """Find what of a cloud lies outside the domain of a model.

    Args:
        domain: The domain.
        profile: The cloud, measured with the spec of the model.
        spec: The spec of the model.

    Returns:
        The departures, the most serious first; none inside the domain.
    """
    scales = [*_colors(domain, profile), *_intensity(domain, profile, spec)]
    returns = list(_returns(domain, profile))
    reported = {"intensity", *COLORS} if scales else set()
    if returns:
        reported |= {"return_number", "number_of_returns", "return_ratio"}
    return [
        *scales,
        *_density(domain, profile),
        *returns,
        *_terrain(domain, profile),
        *_features(domain, profile, reported),
        *_place(domain, profile),
    ]


def compare_clouds(
    domain: Domain, paths: Sequence[Path], spec: Spec, threads: int = 1
) -> dict[Path, list[Departure]]:
    """Hold clouds against the domain of a model, by a sample of their points.

    Args:
        domain: The domain.
        paths: The clouds; one that cannot be used is left out.
        spec: The spec of the model.
        threads: Threads of neighbor searches.
    """
    profiles = {path: try_profile(path, spec, threads) for path in paths}
    return {
        path: find_departures(domain, profile, spec)
        for path, profile in profiles.items()
        if profile is not None
    }


def departure_rows(
    found: Mapping[Path, Sequence[Departure]],
) -> list[tuple[str, str, str, str, str]]:
    """Cloud, quantity, training, here and cost of each departure, for a table."""
    return [
        (path.name, one.quantity, one.training, one.here, one.cost)
        for path, departures in found.items()
        for one in departures
    ]


def _density(domain: Domain, profile: Profile) -> Iterator[Departure]:
    low, high = domain.density_limits()
    factor = 1.0 if domain.limits.density else DENSITY_FACTOR
    if low / factor <= profile.density <= high * factor:
        yield from _spacing(domain, profile)
        return
    cost = COSTS["sparser" if profile.density < low else "denser"]
    here = f"{profile.density:.3g}"
    yield Departure("density (points/m2)", _text(low, high), here, cost)


def _spacing(domain: Domain, profile: Profile) -> Iterator[Departure]:
    low, high = domain.spacing
    if not low / SPACING_FACTOR <= profile.spacing <= high * SPACING_FACTOR:
        here = f"{profile.spacing:.3g}"
        yield Departure("spacing of cells (m)", _text(low, high), here, UNKNOWN)


def _returns(domain: Domain, profile: Profile) -> Iterator[Departure]:
    if domain.returns is None or profile.returns is None:
        return
    if profile.returns < FEW_RETURNS < domain.returns[0]:
        low, high = (100 * one for one in domain.returns)
        quantity = "points of several returns (%)"
        yield Departure(quantity, _text(low, high), "none", COSTS["returns"])


def _colors(domain: Domain, profile: Profile) -> Iterator[Departure]:
    if domain.color is None or profile.color is None:
        return
    trained = {_bits(value) for value in domain.color}
    if _bits(profile.color) not in trained:
        training = " or ".join(sorted(trained))
        yield Departure("color", training, _bits(profile.color), COSTS["color"])


def _bits(largest: float) -> str:
    return f"{8 if largest <= EIGHT_BIT else 16}-bit"


def _intensity(domain: Domain, profile: Profile, spec: Spec) -> Iterator[Departure]:
    # `relative_intensity` does not depend on the scale.
    raw = any(feature.name == "intensity" for feature in spec.features)
    if not raw or domain.intensity is None or profile.intensity is None:
        return
    low, high = domain.intensity
    if not low / SCALE_FACTOR <= profile.intensity <= high * SCALE_FACTOR:
        here = f"{profile.intensity:.3g}"
        quantity = "intensity (99th percentile)"
        yield Departure(quantity, _text(low, high), here, UNKNOWN)


def _terrain(domain: Domain, profile: Profile) -> Iterator[Departure]:
    if profile.slope > domain.slope[1] + SLOPE_DEGREES:
        training = f"up to {domain.slope[1]:.3g}"
        here = f"{profile.slope:.3g}"
        yield Departure("median slope (degrees)", training, here, COSTS["slope"])
    if profile.height > domain.height[1] * HEIGHT_FACTOR:
        training = f"up to {domain.height[1]:.3g}"
        here = f"{profile.height:.3g}"
        yield Departure("height of objects (m)", training, here, UNKNOWN)


def _features(
    domain: Domain, profile: Profile, reported: set[str]
) -> Iterator[Departure]:
    for name, trained in domain.features.items():
        if name in reported or name not in profile.features:
            continue
        here = profile.features[name]
        values = spread(here)
        low, high = trained[LOW], trained[HIGH]
        margin = 1e-6 * max(abs(low), abs(high), 1.0)
        share = float(np.mean((values < low - margin) | (values > high + margin)))
        width = trained[_NINETY_FIVE] - trained[_FIVE]
        narrow = here[_NINETY_FIVE] - here[_FIVE] < NARROW * width
        if here[0] == here[-1] and width > 0:
            text = f"{here[0]:.3g} everywhere"
        elif share > OUTSIDE or (narrow and name not in COMPUTED_FEATURES):
            text = f"{_text(here[LOW], here[HIGH])} ({share:.0%} outside)"
        else:
            continue
        yield Departure(f"feature {name}", _text(low, high), text, UNKNOWN)


def _place(domain: Domain, profile: Profile) -> Iterator[Departure]:
    """One row for system, distance and unit: the first of them that differs."""
    if profile.place is None or not domain.places:
        return
    place = profile.place
    away = min(place.distance(one) for one in domain.places)
    if not np.isfinite(away):
        systems = {one.system for one in domain.places}
        training, here = _systems(systems), _systems({place.system})
    elif away > FAR:
        training, here = _systems({place.system}), f"{away / 1000:.0f} km away"
    else:
        units = {unit_name(unit) for unit in domain.units}
        if unit_name(profile.unit) not in units:
            training, here = " or ".join(sorted(units)), unit_name(profile.unit)
            yield Departure("unit of x and y", training, here, UNKNOWN, of_place=True)
        return
    yield Departure("place", training, here, COSTS["place"], of_place=True)


def _systems(systems: set[str]) -> str:
    return " or ".join(sorted(one or "no CRS" for one in systems))


def _text(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
