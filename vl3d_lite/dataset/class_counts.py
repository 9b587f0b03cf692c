"""Counts of class codes, and checks of the classes of a spec against them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from vl3d_lite.errors import DataError
from vl3d_lite.spec import Spec, cloud_labels, partial_labels

logger = logging.getLogger(__name__)

# A smaller share of points in named classes suggests wrong codes in the spec.
LOW_SHARE = 0.5


def count_by_class(
    class_codes: Mapping[str, Sequence[int]], codes: Mapping[int, int]
) -> dict[str, int]:
    """Count the points of each class and partial label of a cloud.

    Args:
        class_codes: Codes of each in the cloud (`cloud_labels`).
        codes: Code to number of points.

    Returns:
        Name to number of points, in the order of `class_codes`.
    """
    return {
        name: sum(codes.get(code, 0) for code in own)
        for name, own in class_codes.items()
    }


def require_classes(spec: Spec, code_counts: Mapping[Path, Mapping[int, int]]) -> None:
    """Check that the training clouds hold the classes of a spec.

    A warning is logged for a cloud that lacks a class which others have, where many
    points have codes that no class names, and for a class that has points of partial
    labels only.

    Args:
        spec: The spec with the classes.
        code_counts: Each cloud to its number of points of each code.

    Raises:
        DataError: A cloud has no labeled point, or a class has no point in any
            cloud.
    """
    counts = {
        path: count_by_class(cloud_labels(spec, path).codes, codes)
        for path, codes in code_counts.items()
    }
    for cloud, by_class in counts.items():
        if not any(by_class.values()):
            raise DataError(
                f"{cloud}: no point carries a code that `classes` names; it has "
                f"{_listed(code_counts[cloud])}. Correct `classes` or "
                "leave the cloud out"
            )
    for name, entry in spec.classes.items():
        lacking = [cloud for cloud, by_class in counts.items() if not by_class[name]]
        unsure = [cloud for cloud in lacking if _may_hold(spec, name, counts[cloud])]
        if unsure and len(lacking) == len(counts):
            logger.warning(
                "class `%s` has points of partial labels only; without a point that is "
                "surely of it, the network may never predict it",
                name,
            )
        elif len(lacking) == len(counts):
            found: dict[int, int] = {}
            for codes in code_counts.values():
                for code, count in codes.items():
                    found[code] = found.get(code, 0) + count
            raise DataError(
                f"class `{name}` (codes {entry.codes}) has no point in the training "
                f"clouds; they have {_listed(found)}. Correct `classes.{name}` or add "
                "a cloud that holds it"
            )
        for cloud in sorted({*lacking} - {*unsure}):
            logger.warning("%s: has no point of class `%s`", cloud, name)
    for cloud, codes in code_counts.items():
        total, named = sum(codes.values()), sum(counts[cloud].values())
        if named < LOW_SHARE * total:
            logger.warning(
                "%s: only %.0f %% of the points carry a code that `classes` names; "
                "it has %s",
                cloud,
                100 * named / total,
                _listed(codes),
            )


def _may_hold(spec: Spec, name: str, counts: Mapping[str, int]) -> bool:
    """Whether a cloud has points of a partial label that may be of a class."""
    index, first = spec.class_names.index(name), len(spec.classes)
    partial = zip(list(counts)[first:], partial_labels(spec), strict=True)
    return any(counts[label] for label, members in partial if index in members)


def _listed(codes: Mapping[int, int]) -> str:
    return ", ".join(f"{count:,} of code {code}" for code, count in codes.items())
