"""Folding: a trained run's classes joined to fewer ones, for one prediction."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from pydantic import ValidationError

from vl3d_lite.errors import SpecError
from vl3d_lite.spec.schema.spec import Spec

SYNTAX = "NAME[:CODE]=CLASS+CLASS, ...; `*` stands for all classes not named"


def fold_spec(spec: Spec, text: str) -> tuple[Spec, list[list[int]]]:
    """A spec of joined classes, and the classes that each of them joins.

    ``ground, above:1=vegetation+building+other`` keeps ground and joins the
    rest as a class that is written as 1. An entry without ``=`` keeps a class; one
    without a code is written as the first class it joins; the codes of what it
    joins are its codes in the evaluation. Every class goes somewhere, once.

    Args:
        spec: Of the run.
        text: Entries ``NAME[:CODE][=CLASS+CLASS]``, separated by commas.

    Returns:
        The spec, and for each of its classes the indices in `spec.classes`.

    Raises:
        SpecError: The text names unknown classes, one twice, or not all.
    """
    entries = [_entry(part) for part in text.split(",")]
    named = [name for _, _, joined in entries for name in joined if name != "*"]
    rest = [name for name in spec.class_names if name not in named]
    _add_error(spec, named, rest, entries)
    classes, groups = {}, []
    for name, code, joined in entries:
        if joined == ["*"]:
            joined = rest
        old = [spec.classes[other] for other in joined]
        if name in classes:
            raise SpecError(f"--classes: the class `{name}` is made twice")
        classes[name] = {
            "codes": [value for entry in old for value in entry.codes],
            "output_code": old[0].code if code is None else code,
        }
        groups.append([spec.class_names.index(other) for other in joined])
    content = spec.model_dump(exclude_unset=True)
    content["classes"] = classes
    # Weights are one a class; the training they were for is over.
    content.get("training", {}).pop("class_weights", None)
    try:
        return Spec.model_validate(content), groups
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpecError(f"--classes {text}: {reason}") from error


def fold(probabilities: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """``(n, groups)`` float32 sums of ``(n, classes)`` probabilities."""
    sums = [probabilities[:, group].sum(axis=1) for group in groups]
    return np.stack(sums, axis=1).astype(np.float32)


def _entry(part: str) -> tuple[str, int | None, list[str]]:
    head, equals, joined = (piece.strip() for piece in part.partition("="))
    name, colon, code = (piece.strip() for piece in head.partition(":"))
    names = [other.strip() for other in joined.split("+")] if equals else [name]
    if not name or not all(names) or (colon and not code.isdecimal()):
        raise SpecError(f"--classes: expected {SYNTAX}. Received: {part.strip()!r}")
    return name, int(code) if colon else None, names


def _add_error(spec: Spec, named: list[str], rest: list[str], entries) -> None:
    known = ", ".join(spec.class_names)
    for name in named:
        if name not in spec.classes:
            close = get_close_matches(name, spec.class_names, n=1)
            guess = f"; did you mean `{close[0]}`?" if close else ""
            raise SpecError(
                f"--classes: the run has no class `{name}`{guess} It has: {known}"
            )
        if named.count(name) > 1:
            raise SpecError(f"--classes: the class `{name}` is joined twice")
    stars = sum("*" in joined for _, _, joined in entries)
    alone = all(joined == ["*"] for _, _, joined in entries if "*" in joined)
    if stars > 1 or not alone:
        raise SpecError("--classes: `*` stands alone, and once. " + SYNTAX)
    if rest and not stars:
        raise SpecError(
            f"--classes: every class must go somewhere; `{'`, `'.join(rest)}` does "
            "not. Join it to one, or end with `other=*`"
        )
    if stars and not rest:
        raise SpecError("--classes: `*` stands for no class, all others are named")
    if len(entries) < 2:
        raise SpecError("--classes: at least two classes must remain")
