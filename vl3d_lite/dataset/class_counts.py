"""Counts of class codes, and checks of the classes of a spec against them."""

import logging
from collections.abc import Mapping

from vl3d_lite.errors import DataError
from vl3d_lite.spec import Spec

logger = logging.getLogger(__name__)

# A smaller share of points in named classes suggests wrong codes in the spec.
LOW_SHARE = 0.5


def count_by_class(spec: Spec, codes: Mapping[int, int]) -> dict[str, int]:
    """Count the points of each class.

    Args:
        spec: The spec with the codes of each class.
        codes: LAS code to number of points.

    Returns:
        Class name to number of points, in the order of the spec.
    """
    return {
        name: sum(codes.get(code, 0) for code in entry.codes)
        for name, entry in spec.classes.items()
    }


def require_classes(spec: Spec, code_counts: Mapping[str, Mapping[int, int]]) -> None:
    """Check that the training clouds hold the classes of a spec.

    A warning is logged for a cloud that lacks a class which others have, and where
    many points have codes that no class names.

    Args:
        spec: The spec with the classes.
        code_counts: Name of each cloud to its number of points of each LAS code.

    Raises:
        DataError: A cloud has no labeled point, or a class has no point in any
            cloud.
    """
    counts = {name: count_by_class(spec, codes) for name, codes in code_counts.items()}
    for cloud, by_class in counts.items():
        if not any(by_class.values()):
            raise DataError(
                f"{cloud}: no point carries a code that `classes` names; it has "
                f"{_listed(code_counts[cloud])}. Correct `classes` or "
                "leave the cloud out"
            )
    for name, entry in spec.classes.items():
        lacking = [cloud for cloud, by_class in counts.items() if not by_class[name]]
        if len(lacking) == len(counts):
            found: dict[int, int] = {}
            for codes in code_counts.values():
                for code, count in codes.items():
                    found[code] = found.get(code, 0) + count
            raise DataError(
                f"class `{name}` (codes {entry.codes}) has no point in the training "
                f"clouds; they have {_listed(found)}. Correct `classes.{name}` or add "
                "a cloud that holds it"
            )
        for cloud in lacking:
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


def _listed(codes: Mapping[int, int]) -> str:
    return ", ".join(f"{count:,} of code {code}" for code, count in codes.items())
