"""Plots of attention scores, by their pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from vl3d_lite.kernels.attention_plots import plot_heads, plot_view


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_heat_map_draws_high_scores_bright():
    scores = np.full((1, 6, 6), 0.02)
    scores[0, :, 2] = 0.9
    picture = pixels(plot_heads(scores, "x"))
    picture = picture[:, : int(0.75 * picture.shape[1])]  # without the color bar
    yellow = np.abs(picture - [253, 231, 37]).max(axis=-1) < 12
    rows, columns = np.nonzero(yellow)
    assert np.ptp(rows) > 0.5 * len(picture)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(6, rel=0.15)


def test_the_view_marks_the_chosen_point():
    xyz = np.array([[450000.0, 5410000, 1], [450010, 5410000, 2], [450000, 5410005, 3]])
    png = plot_view(xyz, np.array([[0.1, 0.8, 0.1]]), 0, "layer")
    orange = np.abs(pixels(png) - [213, 94, 0]).max(axis=-1) < 12
    rows, columns = np.nonzero(orange)
    assert len(rows) > 20
    # The chosen point lies west and south of the others.
    assert columns.mean() < 0.5 * orange.shape[1]
    assert rows.mean() > 0.5 * orange.shape[0]
