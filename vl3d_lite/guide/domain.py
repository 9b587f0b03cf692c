"""Clouds of a spec held against each other, and against the run it starts from."""

from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.dataset import (
    Domain,
    Profile,
    compare_clouds,
    departure_rows,
    find_departures,
    read_domain,
    try_profile,
)
from vl3d_lite.report import domain_table
from vl3d_lite.runs import RunFolder
from vl3d_lite.spec import LoadedSpec, Spec

MOST_CLOUDS = 20  # of a group; a second or two each


def domain_warning(loaded: LoadedSpec, threads: int) -> str:
    """Text about clouds of a spec that do not look like those it trains on.

    Validation and predict clouds are held against the training clouds, and the training
    clouds against those of the run that gives the initial weights.

    Args:
        loaded: The spec, with the files of its clouds.
        threads: Threads of neighbor searches.

    Returns:
        A sentence and one table; empty where nothing lies outside.

    Raises:
        DataError: The ``domain.json`` of the other run is damaged, or not the recorded
            one.
    """
    spec, clouds = loaded.spec, loaded.clouds
    others = dict.fromkeys([*_some(clouds["validation"]), *_some(clouds["predict"])])
    initial = _initial_domain(spec)
    known: dict[Path, Profile] = {}
    if others or initial:
        known = _profiles(_some(clouds["train"]), spec, threads)
    rows = []
    if others and known:
        domain = Domain.of(list(known.values()), spec)
        rows += departure_rows(compare_clouds(domain, list(others), spec, threads))
    if initial:
        rows += departure_rows(
            {path: find_departures(initial, one, spec) for path, one in known.items()}
        )
    if not rows:
        return ""
    return (
        "some clouds do not look like those of the training, so validation scores do "
        f"not hold for them:\n{domain_table(rows)}"
    )


def _initial_domain(spec: Spec) -> Domain | None:
    """The domain of the run that gives the initial weights, if it has one."""
    if spec.training.initial_weights is None:
        return None
    run = RunFolder(Path(spec.training.initial_weights))
    return read_domain(run.recorded_domain())


def _profiles(paths: Sequence[Path], spec: Spec, threads: int) -> dict[Path, Profile]:
    """The profiles of clouds, without those that cannot be used."""
    found = {path: try_profile(path, spec, threads) for path in paths}
    return {path: one for path, one in found.items() if one is not None}


def _some(paths: Sequence[Path]) -> Sequence[Path]:
    """At most `MOST_CLOUDS` of the clouds, spread evenly."""
    return paths[:: max(1, -(-len(paths) // MOST_CLOUDS))]
