"""Colors of classes, by name and ASPRS code, safe for red-green color blindness."""

import re
from collections.abc import Mapping, Sequence

from vl3d_lite.errors import SpecError

# Hues follow what LAS viewers use (brown ground, green vegetation, orange
# buildings, blue water). Lightness differs where color blindness confuses hues.
_BY_WORD = {
    "ground": "#c8a165",
    "low_vegetation": "#a8dfc0",
    "medium_vegetation": "#33a884",
    "vegetation": "#00664b",
    "tree": "#00664b",
    "shrub": "#33a884",
    "grass": "#a8dfc0",
    "building": "#e66100",
    "roof": "#e66100",
    "facade": "#ffb07c",
    "wall": "#ffb07c",
    "water": "#0072b2",
    "road": "#7d8590",
    "rail": "#4a4453",
    "impervious": "#7d8590",
    "wire": "#f0d500",
    "powerline": "#f0d500",
    "power_line": "#f0d500",
    "tower": "#cc79a7",
    "pole": "#cc79a7",
    "bridge": "#56b4e9",
    "car": "#8b2fc9",
    "vehicle": "#8b2fc9",
    "fence": "#9d7660",
    "noise": "#d4006a",
    "other": "#b9bec7",
    "unclassified": "#b9bec7",
}
_BY_CODE = {
    1: "unclassified",
    2: "ground",
    3: "low_vegetation",
    4: "medium_vegetation",
    5: "vegetation",
    6: "building",
    7: "noise",
    9: "water",
    10: "rail",
    11: "road",
    13: "wire",
    14: "wire",
    15: "tower",
    17: "bridge",
    18: "noise",
}
# For names without a known word (Okabe and Ito 2008, then Tol 2021, "muted").
_OTHERS = (
    *("#56b4e9", "#f0d500", "#cc79a7", "#0072b2", "#e66100", "#00664b", "#8b2fc9"),
    *("#c8a165", "#332288", "#88ccee", "#44aa99", "#ddcc77", "#cc6677", "#aa4499"),
    *("#882255", "#999933", "#117733", "#661100"),
)


def class_palette(
    class_names: Sequence[str],
    *,
    codes: Sequence[int] | None = None,
    chosen: Mapping[str, str] | None = None,
) -> list[str]:
    """Choose one color per class; colors differ as long as there are enough.

    Args:
        class_names: ``C`` names; words in them (``ground``, ``tree``) select a color.
        codes: LAS code of each class, which takes precedence over the name.
        chosen: Colors ``#rrggbb`` by class name, which take precedence over both.

    Returns:
        ``C`` colors ``#rrggbb``.

    Raises:
        SpecError: A chosen color is not ``#rrggbb``.
    """
    chosen = chosen or {}
    for name, color in chosen.items():
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
            raise SpecError(f"color of class {name} must be #rrggbb. Received: {color}")
    colors = [chosen.get(name) for name in class_names]
    for index, name in enumerate(class_names):
        usual = _usual_color(name, codes[index] if codes is not None else None)
        if colors[index] is None and usual not in colors:
            colors[index] = usual
    free = [color for color in _OTHERS if color not in colors]
    return [
        color or (free.pop(0) if free else _OTHERS[index % len(_OTHERS)])
        for index, color in enumerate(colors)
    ]


def _usual_color(name: str, code: int | None) -> str | None:
    if code in _BY_CODE:
        return _BY_WORD[_BY_CODE[code]]
    name = re.sub(r"[\s_-]+", "_", name.lower())
    # The longest word wins: `low_vegetation` before `vegetation`.
    for word in sorted(_BY_WORD, key=len, reverse=True):
        if re.search(rf"(?<![a-z]){word}s?(?![a-z])", name):
            return _BY_WORD[word]
    return None
