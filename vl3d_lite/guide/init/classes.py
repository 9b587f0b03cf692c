"""Choose classes from the codes of labeled clouds, with reasons."""

from collections.abc import Mapping
from dataclasses import dataclass

MIN_POINTS = 200  # of a class; fewer are too few to learn from
RARE = 0.005  # share of points below which a class needs a loss weight
MOSTLY_UNCLASSIFIED = 0.5  # share above which code 1 means "not classified yet"
MOSTLY_ON_GROUND = 0.6  # share on the ground from which code 1 is ground
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
NO_OBJECT = (7, 12, 18, 20, 22)  # noise, overlap, excluded points


@dataclass(frozen=True)
class ClassChoice:
    """A class of the new spec.

    Attributes:
        name: Name of the class.
        codes: Its LAS codes.
        points: Number of points with these codes.
        reason: A few words for the comment in the spec; may be empty.
    """

    name: str
    codes: tuple[int, ...]
    points: int
    reason: str = ""

    @property
    def output_code(self) -> int:
        """The code that predictions write: ground as 2, vegetation as 5."""
        return 2 if 2 in self.codes else max(self.codes)


@dataclass(frozen=True)
class ClassChoices:
    """The chosen classes and the ignored codes.

    Attributes:
        classes: In the order of their codes; `other` is last.
        ignored: LAS code to the reason why it is ignored.
    """

    classes: list[ClassChoice]
    ignored: dict[int, str]

    def index_by_code(self) -> dict[int, int]:
        """LAS code to the index of its class."""
        return {code: n for n, c in enumerate(self.classes) for code in c.codes}


def code_name(code: int) -> str:
    """The name that ASPRS gives a LAS code, or ``class_<code>``."""
    return ASPRS.get(code, f"class_{code}")


def choose_classes(
    codes: Mapping[int, int], unclassified_on_ground: float | None = None
) -> ClassChoices:
    """Choose classes from the point counts of LAS codes.

    The three vegetation codes become one class, since they are height bands of the
    same objects. Codes that describe no object are ignored, and so are codes of
    fewer than 200 points. Code 1 becomes ground if most of its points lie on the
    ground, is ignored if most of all points have it, and otherwise becomes the class
    `other`. If 0 and 1 are the only codes, each becomes a class.

    Args:
        codes: LAS code to number of points.
        unclassified_on_ground: Share of the points of code 1 that lie on the ground;
            None if unknown.
    """
    total = sum(codes.values())
    rest = {code: count for code, count in codes.items() if code not in NO_OBJECT}
    ignored = {code: code_name(code) for code in codes if code in NO_OBJECT}
    if set(rest) <= {0, 1}:
        classes = [ClassChoice(f"class_{c}", (c,), n) for c, n in rest.items()]
        return ClassChoices(classes, ignored)
    # Never classified: points without a label teach nothing beside labeled ones.
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
        if choice.points >= MIN_POINTS:
            classes.append(choice)
        else:
            reason = f"{choice.name}, {choice.points} points are too few to learn from"
            ignored.update(dict.fromkeys(choice.codes, reason))
    if unclassified:
        _place_unclassified(
            unclassified, total, unclassified_on_ground, classes, ignored
        )
    return ClassChoices(classes, ignored)


def _place_unclassified(
    points: int,
    total: int,
    on_ground: float | None,
    classes: list[ClassChoice],
    ignored: dict[int, str],
) -> None:
    """Add code 1 to the ground, to the ignored codes, or as a class of its own."""
    names = [choice.name for choice in classes]
    if on_ground is not None and on_ground >= MOSTLY_ON_GROUND and "ground" in names:
        ground = classes[names.index("ground")]
        classes[names.index("ground")] = ClassChoice(
            "ground",
            tuple(sorted((1, *ground.codes))),
            ground.points + points,
            f"{on_ground:.0%} of code 1 lies on the ground",
        )
    elif points > MOSTLY_UNCLASSIFIED * total and len(classes) > 1:
        ignored[1] = "unclassified, most of the points"
    elif points < MIN_POINTS and len(classes) > 1:
        ignored[1] = f"unclassified, {points} points"
    else:
        reason = "unclassified" if len(classes) > 1 else "the only other code"
        if "vegetation" not in names:
            reason += "; does it hold vegetation? Then name it so"
        classes.append(ClassChoice(OTHER, (1,), points, reason))


def _present(codes: Mapping[int, int], *wanted: int) -> tuple[int, ...]:
    return tuple(code for code in wanted if code in codes)


def _count(codes: Mapping[int, int], *wanted: int) -> int:
    return sum(codes.get(code, 0) for code in wanted)


def choose_class_weights(classes: list[ClassChoice]) -> str:
    """`auto` if a class other than `other` is very rare, else `none`.

    Balanced centers already draw fields around rare classes. Weights in addition
    cost common classes more than they gained for rare ones (docs/results.md).
    """
    total = sum(choice.points for choice in classes)
    shares = [c.points / total for c in classes if c.name != OTHER]
    return "auto" if min(shares, default=1) < RARE else "none"
