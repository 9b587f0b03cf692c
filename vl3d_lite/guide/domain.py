"""Clouds of a spec held against each other, and against the run it starts from."""

from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.dataset import (
    Departure,
    Domain,
    compare_clouds,
    departure_rows,
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
        DataError: The ``domain.json`` of the other run is damaged.
    """
    spec, clouds = loaded.spec, loaded.clouds
    rows = departure_rows(_outside_training(spec, clouds, threads))
    rows += departure_rows(_outside_initial(spec, clouds["train"], threads))
    if not rows:
        return ""
    return (
        "some clouds do not look like those of the training, so validation scores do "
        f"not hold for them:\n{domain_table(rows)}"
    )


def _outside_training(
    spec: Spec, clouds: dict[str, list[Path]], threads: int
) -> dict[Path, list[Departure]]:
    others = [*_some(clouds["validation"]), *_some(clouds["predict"])]
    others = list(dict.fromkeys(others))
    if not others:
        return {}
    profiles = [try_profile(path, spec, threads) for path in _some(clouds["train"])]
    known = [profile for profile in profiles if profile is not None]
    if not known:
        return {}
    return compare_clouds(Domain.of(known, spec), others, spec, threads)


def _outside_initial(
    spec: Spec, train: Sequence[Path], threads: int
) -> dict[Path, list[Departure]]:
    if spec.training.initial_weights is None:
        return {}
    domain = read_domain(RunFolder(Path(spec.training.initial_weights)).domain)
    return compare_clouds(domain, _some(train), spec, threads) if domain else {}


def _some(paths: Sequence[Path]) -> Sequence[Path]:
    """At most `MOST_CLOUDS` of the clouds, spread evenly."""
    return paths[:: max(1, -(-len(paths) // MOST_CLOUDS))]
