"""Counting class codes, and telling in time when they make a spec nonsense."""

import logging
from collections.abc import Mapping

from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.spec import Spec

logger = logging.getLogger(__name__)

# Below this share of labelled points a spec has probably the wrong codes.
LOW_SHARE = 0.5


def class_counts(spec: Spec, codes: Mapping[int, int]) -> dict[str, int]:
    """Points of each class, from the points of each code."""
    return {
        name: sum(codes.get(code, 0) for code in entry.codes)
        for name, entry in spec.classes.items()
    }


def require_classes(spec: Spec, census: Mapping[str, Mapping[int, int]]) -> None:
    """Refuse training clouds that do not hold what the spec names.

    What is merely odd is logged: a cloud that lacks a class others have, codes
    that no class names and that many points carry.

    Args:
        spec: Names the classes.
        census: By cloud, the points of each LAS code.

    Raises:
        DataError: A cloud carries no label at all, or a class has no point in
            any of the clouds.
    """
    counts = {cloud: class_counts(spec, codes) for cloud, codes in census.items()}
    for cloud, by_class in counts.items():
        if not any(by_class.values()):
            raise DataError(
                f"{cloud}: no point carries a code that `classes` names; it has "
                f"{_told(census[cloud])}. Correct `classes` or leave the cloud out"
            )
    for name, entry in spec.classes.items():
        lacking = [cloud for cloud, by_class in counts.items() if not by_class[name]]
        if len(lacking) == len(counts):
            found: dict[int, int] = {}
            for codes in census.values():
                for code, count in codes.items():
                    found[code] = found.get(code, 0) + count
            raise DataError(
                f"class `{name}` (codes {entry.codes}) has no point in the training "
                f"clouds; they have {_told(found)}. Correct `classes.{name}` or add a "
                "cloud that holds it"
            )
        for cloud in lacking:
            logger.warning("%s: has no point of class `%s`", cloud, name)
    for cloud, codes in census.items():
        total, named = sum(codes.values()), sum(counts[cloud].values())
        if named < LOW_SHARE * total:
            logger.warning(
                "%s: only %.0f %% of the points carry a code that `classes` names; "
                "it has %s",
                cloud,
                100 * named / total,
                _told(codes),
            )


def _told(codes: Mapping[int, int]) -> str:
    return ", ".join(f"{count:,} of code {code}" for code, count in codes.items())
