"""Clouds to predict, held against the domain of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.dataset import (
    RANKING,
    Departure,
    Domain,
    compare_clouds,
    departure_rows,
    read_domain,
)
from vl3d_lite.report import domain_table
from vl3d_lite.runs import RunFolder
from vl3d_lite.spec import Spec

logger = logging.getLogger(__name__)


def outside_domain(
    run: RunFolder, spec: Spec, paths: Sequence[Path], threads: int
) -> dict[Path, list[str]]:
    """Hold clouds against the domain of a run, and warn of what lies outside.

    One table names all of it, with what such departures cost before.

    Args:
        run: A trained run.
        spec: Its spec.
        paths: Clouds to predict.
        threads: Threads of neighbor searches.

    Returns:
        For each cloud the quantities that lie outside; empty for a run that holds no
        domain.

    Raises:
        DataError: ``domain.json`` is damaged, or not the one of the run.
    """
    domain = warn_of_no_domain(run)
    if domain is None:
        return {}
    found = compare_clouds(domain, paths, spec, threads)
    log_departures(found, run.root.name)
    return {path: [one.quantity for one in own] for path, own in found.items()}


def warn_of_no_domain(run: RunFolder) -> Domain | None:
    """The domain of a run; None where it has none, with a warning.

    Raises:
        DataError: ``domain.json`` is damaged, or not the one of the run.
    """
    domain = read_domain(run.recorded_domain())
    if domain is None:
        logger.warning(
            "warning: %s: has no %s, so the clouds are not compared with those of its "
            "training; where they differ, classes and confidence may be wrong",
            run.root,
            run.domain.name,
        )
    return domain


def log_departures(found: dict[Path, list[Departure]], model: str) -> None:
    """Warn of departures in one table; log if there are none."""
    rows = departure_rows(found)
    if not rows:
        logger.info("the clouds are inside the domain of %s", model)
        return
    outside = sum(bool(departures) for departures in found.values())
    logger.warning(
        "warning: %d of %d clouds are outside the domain of %s. %s\n%s",
        outside,
        len(found),
        model,
        RANKING,
        domain_table(rows),
    )
