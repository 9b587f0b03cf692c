"""Classify clouds, each with the shipped model whose domain fits it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vl3d_lite.dataset import Domain, find_departures, profile_cloud, read_domain
from vl3d_lite.errors import DataError, InterruptedRunError, VL3DError
from vl3d_lite.pipeline.failures import collected
from vl3d_lite.pipeline.predict import predict
from vl3d_lite.prediction import Outputs, PredictedCloud
from vl3d_lite.runs import Options, RunFolder, shipped_runs
from vl3d_lite.spec import Spec, read_spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Candidate:
    name: str
    run: RunFolder
    spec: Spec
    domain: Domain


def predict_with_fitting_models(
    paths: Sequence[Path],
    folder: Path,
    options: Options,
    overrides: Sequence[str] = (),
    class_groups: str = "",
) -> list[PredictedCloud]:
    """Classify each cloud with the shipped model whose domain fits, into `folder`.

    Where no domain fits, the model with the fewest departures is taken, and among those
    the one of the most similar density; `predict` warns of what lies outside. The
    choice of each cloud is logged. A cloud that no model can use is an error.

    Args:
        paths: LAS or LAZ files.
        folder: Where the classified copies go.
        options: As for `predict`.
        overrides: As for `predict`.
        class_groups: As for `predict`.

    Returns:
        The record of each cloud that was predicted, now or before.

    Raises:
        DataError: No shipped model has a domain.
        SpecError: An override is invalid, or as for `predict`.
        VL3DError: The error of the first cloud that failed.
    """
    # Outputs of two clouds must not meet, whatever their models are.
    outputs = Outputs.of_command(folder, paths, options)
    paths, options = outputs.remaining, replace(options, shard=None)
    candidates = _candidates(overrides)
    chosen, errors = _chosen(paths, candidates, options.threads)
    runs = {candidate.name: candidate.run for candidate in candidates}
    records: dict[str, PredictedCloud] = {}
    for name, clouds in chosen.items():
        with collected(errors):
            found = predict(
                runs[name], clouds, folder, options, overrides, class_groups
            )
            records |= {record.output: record for record in found}
    if errors:
        raise errors[0]
    return list(records.values())


def _chosen(
    paths: Sequence[Path], candidates: Sequence[_Candidate], threads: int
) -> tuple[dict[str, list[Path]], list[VL3DError]]:
    """The clouds of each model, and the errors of clouds that no model can use."""
    chosen: dict[str, list[Path]] = {}
    errors: list[VL3DError] = []
    for path in paths:
        with collected(errors):
            name = choose_model(path, candidates, threads)
            chosen.setdefault(name, []).append(path)
    return chosen, errors


def _candidates(overrides: Sequence[str]) -> list[_Candidate]:
    found = []
    for name, run in shipped_runs().items():
        domain = read_domain(run.recorded_domain())
        if domain is not None:
            spec = read_spec(run.spec, overrides, check_files=False).spec
            found.append(_Candidate(name, run, spec, domain))
    if not found:
        raise DataError(
            "auto: this installation ships no model with a domain; install the program "
            "again, or name a run folder"
        )
    return found


def choose_model(path: Path, candidates: Sequence[_Candidate], threads: int = 1) -> str:
    """The name of the model whose domain fits a cloud best.

    Where the cloud lies counts least: no other model may have been trained there.

    Args:
        path: The cloud.
        candidates: The models, at least one.
        threads: Threads of neighbor searches.

    Raises:
        VL3DError: No model can use the cloud; the error with the first model.
    """
    ranked, errors = [], []
    for candidate in candidates:
        try:
            profile = profile_cloud(path, candidate.spec, threads)
        except InterruptedRunError:
            raise
        except VL3DError as error:
            errors.append(error)
            continue
        departures = find_departures(candidate.domain, profile, candidate.spec)
        middle = np.sqrt(np.prod(candidate.domain.density_limits()))
        distance = abs(np.log(max(profile.density, 1e-9) / middle))
        of_place = sum(one.of_place for one in departures)
        looks = len(departures) - of_place
        ranked.append((looks, distance, of_place, candidate.name))
    if not ranked:
        raise errors[0]
    count, _, of_place, name = min(ranked)
    fit = "its domain fits" + (" but for the place" if of_place else "")
    if count:
        fit = "no domain fits, this one is the closest"
    logger.info("%s: predicted with %s (%s)", path, name, fit)
    return name
