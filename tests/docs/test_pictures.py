"""The scripts in docs/pictures draw the pictures of the docs."""

import importlib.util
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "docs/pictures"


def script(name):
    """The module of a script in docs/pictures."""
    location = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_script_draws_the_pictures_of_the_docs(tmp_path):
    script("draw").main(tmp_path)
    shown = {path.name for path in FOLDER.glob("*.png")}
    assert {path.name for path in tmp_path.iterdir()} == shown
    for name in shown:
        new, old = (
            matplotlib.image.imread(folder / name) for folder in (tmp_path, FOLDER)
        )
        assert new.shape == old.shape
        # Another version of Matplotlib may move letters, not the picture.
        assert np.mean(np.abs(new - old)) < 0.02
        assert new.std() > 0.05


def test_the_page_shows_every_picture_and_they_are_small():
    page = (FOLDER.parent / "radii.md").read_text()
    for path in FOLDER.glob("*.png"):
        assert f"](pictures/{path.name})" in page
        assert path.stat().st_size < 150_000


def test_the_picture_of_a_run_has_the_size_of_the_one_in_the_readme(trained, tmp_path):
    path = tmp_path / "report.jpg"
    script("draw_report").main(trained.root, path)
    with Image.open(path) as new, Image.open(FOLDER / "report.jpg") as old:
        assert new.size == old.size
        cloud, scores = (
            np.asarray(new.crop((part * new.width, 0, end * new.width, new.height)))
            for part, end in ((0, 0.6), (0.6, 1))
        )
    assert cloud.std() > 20
    assert scores.std() > 20


def test_a_near_point_hides_a_far_one():
    render = script("draw_report").render
    corners = np.array([[-5.0, -5, 0], [5, -5, 0], [-5, 5, 0], [5, 5, 0]])
    # Seen from the south and above, the second point hides the first one.
    xyz = np.vstack([corners, [[0, 0, 0.0], [0, 0, 0.01]]])
    colors = np.vstack([np.full((4, 3), 0.5), [[1, 0, 0], [0, 0, 1.0]]])
    picture = render(xyz, colors)
    assert not np.any((picture[..., 0] > 0.9) & (picture[..., 2] < 0.1))
    assert np.any((picture[..., 2] > 0.9) & (picture[..., 0] < 0.1))
