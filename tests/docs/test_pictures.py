"""The pictures of the docs can be drawn anew, by the program beside them."""

import importlib.util
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "docs/pictures"


@pytest.fixture(scope="module")
def draw():
    place = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def test_the_program_draws_what_the_docs_show(draw, tmp_path):
    draw.main(tmp_path)
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
