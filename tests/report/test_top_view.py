import io

import numpy as np
import pytest
from PIL import Image

from vl3d_lite.report import top_view
from vl3d_lite.report.top_view import (
    IGNORED,
    SIDE,
    Picture,
    TopView,
    draw_classes,
    draw_confidence,
    draw_errors,
)

UTM = np.array([700000.0, 6600000.0, 0.0])


@pytest.fixture
def cloud():
    rng = np.random.default_rng(5)
    return rng.random((2000, 3)) * [30, 20, 8] + UTM


def cells_by_loops(view, xyz):
    """Points of each pixel, north up."""
    cells = {}
    west, north = xyz[:, 0].min(), xyz[:, 1].max()
    rows, columns = view.shape
    for i, (x, y, _) in enumerate(xyz):
        column = min(int((x - west) / view.pixel_size), columns - 1)
        row = min(int((north - y) / view.pixel_size), rows - 1)
        cells.setdefault((row, column), []).append(i)
    return cells


@pytest.mark.parametrize("chunk", [7, 10**6])
def test_a_pixel_shows_its_highest_point(cloud, chunk, monkeypatch):
    monkeypatch.setattr(top_view, "_CHUNK", chunk)
    view = TopView.of(cloud)
    values = np.arange(len(cloud))
    expected = np.full(view.shape, -9)
    for cell, points in cells_by_loops(view, cloud).items():
        expected[cell] = max(points, key=lambda i: cloud[i, 2])
    np.testing.assert_array_equal(view.highest(values, -9), expected)


def test_the_mean_is_that_of_all_points_of_a_pixel(cloud):
    view = TopView.of(cloud)
    values = np.random.default_rng(6).random(len(cloud))
    expected = np.full(view.shape, np.nan)
    for cell, points in cells_by_loops(view, cloud).items():
        expected[cell] = sum(values[i] for i in points) / len(points)
    np.testing.assert_allclose(view.mean(values), expected)


def test_pixels_have_three_points_on_average_and_a_maximum_number(cloud):
    view = TopView.of(cloud)
    assert len(cloud) / np.prod(view.shape) == pytest.approx(3, rel=0.1)
    assert view.shape[1] / view.shape[0] == pytest.approx(1.5, rel=0.1)
    small = TopView.of(cloud, side=12)
    assert small.shape[1] == 12
    assert max(TopView.of(np.tile(cloud, (100, 1))).shape) <= SIDE


@pytest.mark.parametrize(
    "xyz",
    [
        np.zeros((1, 3)) + UTM,
        np.zeros((50, 3)) + UTM,
        np.linspace([0, 0, 0], [90, 0, 0], 1000) + UTM,
        np.linspace([0, 0, 0], [0, 90, 0], 1000) + UTM,
        np.array([[0.0, 0, 0], [1e6, 1e-3, 0]]),
    ],
    ids=["point", "duplicates", "west-east", "south-north", "two"],
)
def test_degenerate_clouds_have_a_picture(xyz):
    view = TopView.of(xyz)
    picture = view.highest(np.ones(len(xyz), int), 0)
    assert picture.sum() >= 1
    assert max(view.shape) <= SIDE
    assert view.pixels.max() < np.prod(view.shape)


def grid(values):
    """A cloud with one point per entry of a list of rows, north first; its view."""
    rows, columns = len(values), len(values[0])
    xyz = [(c + 0.5, rows - r - 0.5, 0.0) for r in range(rows) for c in range(columns)]
    xyz = np.array(xyz)
    pixels = np.arange(rows * columns, dtype=np.int32)
    view = TopView((rows, columns), 1.0, pixels, pixels.astype(np.int64))
    return xyz, view, np.ravel(values)


def colors_of(picture):
    rgba = Image.open(io.BytesIO(picture.png())).convert("RGBA")
    return [
        ["#{:02x}{:02x}{:02x}".format(*p[:3]) if p[3] else None for p in row]
        for row in np.asarray(rgba).tolist()
    ]


def test_north_is_up():
    xyz = np.array([[0.0, 10, 0], [10, 10, 0], [0, 0, 0], [10, 0, 0]] * 3)
    picture = TopView.of(xyz, side=2).highest(np.arange(12) % 4, -1)
    np.testing.assert_array_equal(picture, [[0, 1], [2, 3]])


def test_the_legend_names_the_visible_classes():
    _, view, labels = grid([[0, 2, -1]])
    colors = ["#111111", "#222222", "#333333"]
    picture = draw_classes(view, "Reference", labels, ["a", "b", "c"], colors)
    assert colors_of(picture) == [["#111111", "#333333", IGNORED]]
    assert picture.legend == {"#111111": "a", "#333333": "c", IGNORED: "ignored"}


def test_empty_pixels_are_transparent():
    picture = Picture("t", np.array([[0, 1]], np.uint8), ["#123456"], {})
    assert colors_of(picture) == [[None, "#123456"]]


def test_errors_are_red_by_the_share_of_wrong_points():
    xyz = np.zeros((12, 3))
    pixels = np.repeat([0, 1, 2, 3], 3).astype(np.int32)
    view = TopView((1, 5), 1.0, pixels, np.array([0, 3, 6, 9, -1]))
    reference = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, -1, -1, -1])
    prediction = np.array([0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1])
    picture = draw_errors(view, reference, prediction)
    gray, light, dark, ignored, empty = colors_of(picture)[0]
    assert picture.legend[gray] == "all correct"
    assert picture.legend[light] == "up to 1/3 wrong"
    assert picture.legend[dark] == "more than 2/3 wrong"
    assert ignored == IGNORED
    assert empty is None
    assert len(xyz) == len(reference)


def test_confidence_colors_range_from_chance_to_certain():
    _, view, confidence = grid([[0.25, 0.2, 0.63, 0.99, 1.0]])
    picture = draw_confidence(view, confidence, 4)
    row = colors_of(picture)[0]
    assert row[0] == row[1] == picture.colors[0]
    assert row[2] == picture.colors[5]
    assert row[3] == row[4] == picture.colors[-1]
    assert picture.legend[row[0]] == "0.25, chance"


def test_a_step_keeps_every_nth_pixel():
    indices = np.arange(1, 31, dtype=np.uint8).reshape(5, 6)
    colors = [f"#0000{i:02x}" for i in range(30)]
    image = Image.open(io.BytesIO(Picture("t", indices, colors, {}).png(step=2)))
    np.testing.assert_array_equal(
        np.asarray(image.convert("RGB"))[..., 2], indices[::2, ::2] - 1
    )
