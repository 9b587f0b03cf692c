"""Clouds whose code 1 may hold vegetation, beside clouds with vegetation codes."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from vl3d_lite.guide.init.classes import (
    MIN_POINTS,
    MOSTLY_ON_GROUND,
    OTHER,
    VEGETATION,
)
from vl3d_lite.guide.init.survey import UNCLASSIFIED, Survey

LARGE_SHARE = 0.2  # of a cloud; code 1 of fewer points is left as it is


def unclear_clouds(surveys: Sequence[Survey]) -> list[Survey]:
    """The clouds without vegetation codes whose code 1 holds many points.

    In some countries code 1 is all that is neither ground nor building, vegetation
    included. It is doubtful only where another cloud has vegetation codes.

    Args:
        surveys: The labeled clouds.
    """
    if not any(_vegetation(survey) >= MIN_POINTS for survey in surveys):
        return []
    return [
        survey
        for survey in surveys
        if not _vegetation(survey)
        and unclassified_share(survey) >= LARGE_SHARE
        and (survey.unclassified_on_ground or 0) < MOSTLY_ON_GROUND
    ]


def _vegetation(survey: Survey) -> int:
    return sum(survey.codes.get(code, 0) for code in VEGETATION)


def unclassified_share(survey: Survey) -> float:
    """Share of the points of a cloud that have code 1."""
    return survey.codes.get(UNCLASSIFIED, 0) / max(sum(survey.codes.values()), 1)


def without_code_1(survey: Survey) -> Survey:
    """The survey as if its points of code 1 had no label."""
    codes = {code: n for code, n in survey.codes.items() if code != UNCLASSIFIED}
    return replace(survey, codes=codes, unclassified_on_ground=None)


def group_lines(file: str, share: float, class_names: Collection[str]) -> list[str]:
    """The entry of a cloud of unclear code 1 in a spec, with a question.

    Args:
        file: Path of the cloud as YAML.
        share: Share of its points that have code 1.
        class_names: Classes of the spec, `vegetation` among them.
    """
    asked = (
        f"    # Does code 1 hold vegetation here? {share:.0%} of the points have it, "
        "none 3, 4 or 5."
    )
    if OTHER not in class_names:
        return [
            asked,
            "    # It is ignored; if all of it is vegetation, replace `ignore` by "
            "`classes: {vegetation: 1}`.",
            f"    - {{files: [{file}], ignore: [1]}}",
        ]
    return [
        asked,
        f"    # Each of these points counts as either; if none is vegetation, remove "
        f"`classes` (then 1 is {OTHER}).",
        f"    - {{files: [{file}], classes: {{vegetation or {OTHER}: 1}}}}",
    ]
