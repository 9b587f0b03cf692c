"""The runs that an ensemble averages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import find_clouds
from vl3d_lite.dataset import FeatureScaling
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.model import Rescaling
from vl3d_lite.pipeline.opening import open_run
from vl3d_lite.pipeline.preparing import shared_files
from vl3d_lite.runs import RunFolder
from vl3d_lite.spec import Spec, differing
from vl3d_lite.system import cached_hash

# Sections in which members may differ: inputs and outputs do not depend on them.
FREE = {"seed", "clouds", "training", "prediction", "evaluation", "export", "cache"}


@dataclass(frozen=True)
class Member:
    """One of the runs of an ensemble.

    Attributes:
        run: Its folder.
        spec: Its spec.
        scaling: The scaling of its features.
        provenance: The content of its ``run.json``.
    """

    run: RunFolder
    spec: Spec
    scaling: FeatureScaling
    provenance: dict

    def trained_on(self, clouds: Sequence[Path]) -> list[Path]:
        """Those of some clouds that are training clouds of this run, by their hashes.

        Of a run that does not record roles, those that are found on this machine
        count.
        """
        inputs = self.provenance.get("inputs", [])
        if inputs and all(entry.get("role") for entry in inputs):
            known = {e["sha256"] for e in inputs if e["role"] == "train"}
            return [path for path in clouds if cached_hash(path) in known]
        return shared_files(clouds, found_clouds(self.spec, "train") or [])

    def unrecorded(self, clouds: Sequence[Path]) -> list[Path]:
        """Those of some clouds that are no validation cloud of this run, by hashes.

        Of a run that does not record roles, all its clouds count.
        """
        known = {
            entry["sha256"]
            for entry in self.provenance.get("inputs", [])
            if entry.get("role", "validation") == "validation"
        }
        return [path for path in clouds if cached_hash(path) not in known]

    def rescaling(self, first: FeatureScaling) -> Rescaling | None:
        """Factor and offset from features scaled by `first` to those scaled as here.

        None where the two scalings are equal.
        """
        own = self.scaling
        if np.array_equal(first.mean, own.mean) and np.array_equal(first.std, own.std):
            return None
        return first.std / own.std, (first.mean - own.mean) / own.std


def open_members(paths: Sequence[Path]) -> list[Member]:
    """Open the runs of an ensemble, and check that they fit together.

    Raises:
        SpecError: There are fewer than two, one is named twice or is an ensemble
            itself, or they differ in more than `FREE`.
        DataError: One is not a trained run.
    """
    if len(paths) < 2:
        raise SpecError(
            "an ensemble needs at least two run folders. "
            f"Received: {len(paths)}; name another one"
        )
    members: list[Member] = []
    seen: set[Path] = set()
    for path in paths:
        run = RunFolder(path)
        spec, scaling = open_run(run)
        member = Member(run, spec, scaling, run.read_provenance())
        if path.resolve() in seen:
            raise SpecError(f"{path}: is named twice; name each run once")
        seen.add(path.resolve())
        if entries := member.provenance.get("ensemble"):
            names = ", ".join(entry["run"] for entry in entries)
            raise SpecError(
                f"{path}: is an ensemble, so its runs would weigh less than the "
                f"others; name its runs instead: {names}"
            )
        if members:
            _require_same(members[0], member)
        members.append(member)
    return members


def _require_same(first: Member, other: Member) -> None:
    """Check that two networks have the same inputs and outputs.

    Raises:
        SpecError: Their specs differ in a section that is not in `FREE`.
        DataError: A ``features.json`` is not that of its spec.
    """
    now, before = other.spec.model_dump(), first.spec.model_dump()
    for section in Spec.model_fields:
        if section in FREE or now[section] == before[section]:
            continue
        difference = next(differing(now[section], before[section], section), None)
        details = "it lacks some"
        if difference is not None:
            details = f"`{difference[0]}` is {difference[1]}, not {difference[2]}"
        raise SpecError(
            f"{other.run.root}: its `{section}` differs from that of {first.run.root} "
            f"({details}); an ensemble needs runs of one spec with different seeds"
        )
    if list(now["classes"]) != list(before["classes"]):
        raise SpecError(
            f"{other.run.root}: its `classes` are in another order than those of "
            f"{first.run.root}; an ensemble needs runs of one spec"
        )
    if other.scaling.names != first.scaling.names:
        raise DataError(
            f"{other.run.features}: names other features than {first.run.features}; "
            "restore both from copies"
        )


def found_clouds(spec: Spec, name: str) -> list[Path] | None:
    """The clouds of a list of a spec; None where one of them is not found."""
    try:
        return find_clouds(spec.clouds.patterns(name), Path.cwd())
    except DataError:
        return None
