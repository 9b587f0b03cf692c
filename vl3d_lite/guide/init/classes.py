"""From the codes that clouds carry to classes, and the reasons."""

from collections.abc import Mapping
from dataclasses import dataclass

FEWEST = 200  # points of a class worth learning
RARE = 0.005  # share of a class that needs a weight of its own
MOSTLY = 0.5  # share of code 1 from which it means "not classified yet"
LYING = 0.6  # share of code 1 on the ground from which it is ground
VEGETATION = (3, 4, 5)
OTHER = "other"

ASPRS = {
    0: "never_classified",
    1: "unclassified",
    2: "ground",
    3: "low_vegetation",
    4: "medium_vegetation",
    5: "high_vegetation",
    6: "building",
    7: "low_noise",
    8: "model_key_point",
    9: "water",
    10: "rail",
    11: "road",
    12: "overlap",
    13: "wire_guard",
    14: "wire_conductor",
    15: "tower",
    16: "wire_connector",
    17: "bridge",
    18: "high_noise",
    19: "overhead_structure",
    20: "ignored_ground",
    21: "snow",
    22: "temporal_exclusion",
}
NEVER = (7, 12, 18, 20, 22)  # no object: noise, overlap, what was excluded


@dataclass(frozen=True)
class ClassChoice:
    """A class of the spec to be.

    Attributes:
        name: Of the class.
        codes: LAS codes that mean it.
        points: That carry them.
        why: A few words for the reader; may be empty.
    """

    name: str
    codes: tuple[int, ...]
    points: int
    why: str = ""


@dataclass(frozen=True)
class ClassChoices:
    """Classes, and the codes that are left out with the reason.

    Attributes:
        classes: In the order of their codes, `other` last.
        ignored: Code to the reason.
    """

    classes: list[ClassChoice]
    ignored: dict[int, str]

    def of_code(self) -> dict[int, int]:
        """Code to the number of its class."""
        return {code: n for n, c in enumerate(self.classes) for code in c.codes}


def code_name(code: int) -> str:
    """The ASPRS name of a code, or ``class_<code>``."""
    return ASPRS.get(code, f"class_{code}")


def choose_classes(
    codes: Mapping[int, int], unclassified_on_ground: float | None = None
) -> ClassChoices:
    """Choose classes from a census.

    The codes of vegetation are one class, as they are bands of height. Codes
    that mean no object, and those of fewer than 200 points, are left out. Code
    1 is ground where it lies on it, nothing where most points carry it, and a
    class `other` elsewhere. Where 0 and 1 are all there is, they are classes.

    Args:
        codes: LAS code to points.
        unclassified_on_ground: Share of the points of code 1 on the ground.
    """
    total = sum(codes.values())
    rest = {code: count for code, count in codes.items() if code not in NEVER}
    ignored = {code: code_name(code) for code in codes if code in NEVER}
    if set(rest) <= {0, 1}:
        classes = [ClassChoice(f"class_{c}", (c,), n) for c, n in rest.items()]
        return ClassChoices(classes, ignored)
    if rest.pop(0, 0):
        ignored[0] = code_name(0)
    unclassified = rest.pop(1, 0)
    found = [
        ClassChoice("ground", _present(rest, 2, 8), _count(rest, 2, 8)),
        ClassChoice(
            "vegetation", _present(rest, *VEGETATION), _count(rest, *VEGETATION)
        ),
    ]
    named = {2, 8, *VEGETATION}
    found += [
        ClassChoice(code_name(code), (code,), count)
        for code, count in sorted(rest.items())
        if code not in named
    ]
    classes = []
    for choice in found:
        if choice.points >= FEWEST:
            classes.append(choice)
        else:
            few = f"{choice.name}, {choice.points} points are too few to learn"
            ignored.update(dict.fromkeys(choice.codes, few))
    if unclassified:
        _place_unclassified(
            unclassified, total, unclassified_on_ground, classes, ignored
        )
    return ClassChoices(classes, ignored)


def _place_unclassified(points, total, on_ground, classes, ignored) -> None:
    names = [choice.name for choice in classes]
    if on_ground is not None and on_ground >= LYING and "ground" in names:
        ground = classes[names.index("ground")]
        classes[names.index("ground")] = ClassChoice(
            "ground",
            tuple(sorted((1, *ground.codes))),
            ground.points + points,
            f"{on_ground:.0%} of code 1 lie on the ground",
        )
    elif points > MOSTLY * total and len(classes) > 1:
        ignored[1] = "unclassified, most of the points"
    elif points < FEWEST and len(classes) > 1:
        ignored[1] = f"unclassified, {points} points"
    else:
        why = "" if len(classes) > 1 else "the only other code"
        classes.append(ClassChoice(OTHER, (1,), points, why or "unclassified"))


def _present(codes: Mapping[int, int], *wanted: int) -> tuple[int, ...]:
    return tuple(code for code in wanted if code in codes)


def _count(codes: Mapping[int, int], *wanted: int) -> int:
    return sum(codes.get(code, 0) for code in wanted)


def class_weights(classes: list[ClassChoice]) -> str:
    """`auto` where a class other than `other` is very rare, else `none`.

    Balanced centers draw fields around rare classes already; weights on top
    cost the common ones more than they gave (docs/results.md).
    """
    total = sum(choice.points for choice in classes)
    shares = [c.points / total for c in classes if c.name != OTHER]
    return "auto" if min(shares, default=1) < RARE else "none"
