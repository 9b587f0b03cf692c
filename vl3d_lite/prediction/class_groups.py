"""Class groups: predictions of a trained run with several classes merged into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from vl3d_lite.errors import SpecError
from vl3d_lite.spec import CloudGroupSpec, Spec, codes_of_group, did_you_mean

SYNTAX = "NAME[:CODE]=CLASS+CLASS, ...; `*` stands for all classes not named"


@dataclass(frozen=True)
class _Entry:
    """One group: its name, its output code if given, and the classes it merges."""

    name: str
    code: int | None
    members: list[str]


def group_classes(spec: Spec, class_groups: str) -> tuple[Spec, list[list[int]]]:
    """A spec whose classes are groups of classes of a run.

    ``ground, above:1=vegetation+building+other`` keeps ground and merges the others
    into a class that is written as code 1. An entry without ``=`` keeps a class. A
    group without a code is written as its first class. Evaluation counts the LAS
    codes of all classes of a group as that group. Every class belongs to one group.

    Args:
        spec: The spec of the run.
        class_groups: Entries ``NAME[:CODE][=CLASS+CLASS]``, separated by commas;
            ``*`` stands for all classes that are not named.

    Returns:
        The spec with the groups as its classes; and for each group the class indices
        that it merges.

    Raises:
        SpecError: The text names a class that is unknown, names one twice, or leaves
            one out.
    """
    entries = [_parse(part) for part in class_groups.split(",")]
    named = [name for entry in entries for name in entry.members if name != "*"]
    rest = [name for name in spec.class_names if name not in named]
    _check(spec, named, rest, entries)
    classes: dict[str, dict] = {}
    groups: list[list[int]] = []
    for entry in entries:
        members = rest if entry.members == ["*"] else entry.members
        merged = [spec.classes[name] for name in members]
        if entry.name in classes:
            raise SpecError(
                f"--classes: two groups are named `{entry.name}`; rename one of them"
            )
        classes[entry.name] = {
            "codes": [code for one in merged for code in one.codes],
            "output_code": merged[0].code if entry.code is None else entry.code,
        }
        groups.append([spec.class_names.index(name) for name in members])
    content = spec.model_dump(exclude_unset=True)
    content["classes"] = classes
    _regroup_labels(content, spec, dict(zip(classes, groups, strict=True)))
    # There is one weight per class, and the training they were for is over.
    content.get("training", {}).pop("class_weights", None)
    try:
        return Spec.model_validate(content), groups
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(f"--classes {class_groups}: {reason}") from error


def sum_groups(
    probabilities: np.ndarray, groups: Sequence[Sequence[int]]
) -> np.ndarray:
    """Sum the probabilities of each group of classes.

    Args:
        probabilities: ``(n, classes)`` float.
        groups: Class indices of each group.

    Returns:
        ``(n, groups)`` float32.
    """
    sums = [probabilities[:, group].sum(axis=1) for group in groups]
    return np.stack(sums, axis=1).astype(np.float32)


def _regroup_labels(
    content: dict[str, Any], spec: Spec, groups: Mapping[str, Sequence[int]]
) -> None:
    """Give the codes of `labels` and of groups of clouds the names of the groups."""

    def renamed(codes: Mapping[frozenset[int], list[int]]) -> dict[str, list[int]]:
        result: dict[str, list[int]] = {name: [] for name in groups}
        for members, own in codes.items():
            names = [name for name, group in groups.items() if members & {*group}]
            result.setdefault(" or ".join(names), []).extend(own)
        return result

    if spec.labels.codes:
        content["labels"]["codes"] = renamed(codes_of_group(spec, None))
    for key, entries in content.get("clouds", {}).items():
        for number, group in enumerate(getattr(spec.clouds, key)):
            if isinstance(group, CloudGroupSpec):
                dimension = spec.labels_of(group).dimension
                entries[number] = {
                    "files": group.files,
                    "classes": renamed(codes_of_group(spec, group)),
                    "labels": {"dimension": dimension},
                }


def _parse(part: str) -> _Entry:
    head, equals, members = (piece.strip() for piece in part.partition("="))
    name, colon, code = (piece.strip() for piece in head.partition(":"))
    names = [one.strip() for one in members.split("+")] if equals else [name]
    is_code = code.isdecimal() and len(code) < 4
    if not name or not all(names) or (colon and not is_code):
        raise SpecError(f"--classes: expected {SYNTAX}. Received: {part.strip()!r}")
    return _Entry(name, int(code) if colon else None, names)


def _check(
    spec: Spec, named: Sequence[str], rest: Sequence[str], entries: Sequence[_Entry]
) -> None:
    """Check that every class belongs to exactly one of at least two groups."""
    known = ", ".join(spec.class_names)
    for name in named:
        if name not in spec.classes:
            guess = did_you_mean(name, spec.class_names, otherwise=".")
            raise SpecError(
                f"--classes: the run has no class `{name}`{guess} It has: {known}"
            )
        if named.count(name) > 1:
            raise SpecError(
                f"--classes: the class `{name}` is in two groups; name it once"
            )
    with_star = [entry for entry in entries if "*" in entry.members]
    if len(with_star) > 1 or any(entry.members != ["*"] for entry in with_star):
        raise SpecError(
            f"--classes: `*` must stand alone in one group. Expected {SYNTAX}"
        )
    if rest and not with_star:
        raise SpecError(
            "--classes: every class must belong to a group. Not in any: "
            f"`{'`, `'.join(rest)}`. Add them to a group, or end with `other=*`"
        )
    if with_star and not rest:
        raise SpecError(
            "--classes: `*` stands for no class, because all classes are named; "
            "remove it"
        )
    if len(entries) < 2:
        raise SpecError(
            f"--classes: expected at least two groups. Received: {len(entries)}"
        )
