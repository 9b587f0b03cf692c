import itertools

import numpy as np
import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.report.palette import class_palette

COMMON = ["ground", "low_vegetation", "medium_vegetation", "vegetation", "building"]


def rgb(color):
    return np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def lab(linear):
    xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(np.clip(xyz @ linear, 0, None) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def seen_without_green(color):
    """Vienot et al. (1999): what a deuteranope sees, in CIELAB."""
    linear = rgb(color) ** 2.2
    to_lms = np.array(
        [
            [17.8824, 43.5161, 4.11935],
            [3.45565, 27.1554, 3.86714],
            [0.02996, 0.184309, 1.46709],
        ]
    )
    long, _, short = to_lms @ linear
    reduced = np.array([long, 0.494207 * long + 1.24827 * short, short])
    return lab(np.clip(np.linalg.solve(to_lms, reduced), 0, 1))


def test_words_in_a_name_select_the_color():
    ground, low, high, roof, nothing = class_palette(
        ["Ground", "Low Vegetation", "High-Vegetation", "roofs", "xyz"]
    )
    assert class_palette(["ground points"]) == [ground]
    assert class_palette(["low_vegetation"]) == [low]
    assert class_palette(["vegetation"]) == [high]
    assert class_palette(["building"]) == [roof]
    assert nothing not in (ground, low, high, roof)
    assert class_palette(["underground"]) != [ground]
    assert class_palette(["cardboard"]) != class_palette(["car"])


def test_a_code_takes_precedence_over_the_name():
    assert class_palette(["tree"], codes=[6]) == class_palette(["building"])
    assert class_palette(["tree"], codes=[200]) == class_palette(["tree"])


def test_chosen_colors_take_precedence():
    colors = class_palette(["a", "ground"], chosen={"ground": "#123456"})
    assert colors[1] == "#123456"


@pytest.mark.parametrize("color", ["red", "#12345", "#12345g", "#123456;", "#123456\n"])
def test_an_invalid_color_is_an_error(color):
    with pytest.raises(SpecError, match="class a must be #rrggbb"):
        class_palette(["a"], chosen={"a": color})


def test_colors_differ_while_there_are_enough():
    names = ["building", "roof", "tree", "vegetation", *(f"c{i}" for i in range(12))]
    assert len(set(class_palette(names))) == len(names)


def test_many_classes_have_a_color_each():
    assert None not in class_palette([f"c{i}" for i in range(256)])


def test_common_classes_are_distinct_for_red_green_color_blindness():
    names = [*COMMON, "water", "road", "car", "wire"]
    colors = [seen_without_green(color) for color in class_palette(names)]
    for (a, first), (b, second) in itertools.combinations(
        zip(names, colors, strict=True), 2
    ):
        assert np.linalg.norm(first - second) > 12, f"{a} and {b}"
