import io
import sys

import numpy as np
import pytest
from PIL import Image

from vl3d_lite.evaluation.coverage import ThresholdCounts
from vl3d_lite.evaluation.evaluation import Evaluation, evaluate
from vl3d_lite.prediction.calibration import ReliabilityCounts
from vl3d_lite.report.plots import (
    plot_confusion,
    plot_coverage,
    plot_curves,
    plot_history,
    plot_reliability,
)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def blueness(png):
    """Share of pixels in the dark blue of a full cell of the confusion matrix."""
    red, _, blue = pixels(png).astype(int).transpose(2, 0, 1)
    return np.mean((blue - red > 60) & (red < 40))


def matrix(reference, prediction, names=("a", "b")):
    return evaluate([("x", np.array(reference), np.array(prediction))], names)


def test_a_diagonal_confusion_matrix_is_dark_on_half_of_its_cells():
    right = blueness(plot_confusion(matrix([0, 1], [0, 1])))
    mixed = blueness(plot_confusion(matrix([0, 0, 1, 1], [0, 1, 0, 1])))
    assert right > 0.1
    assert mixed < 0.01


def test_rows_of_the_confusion_matrix_are_normalized():
    few = plot_confusion(matrix([0, 1], [0, 1]))
    many = plot_confusion(matrix([0] * 1000 + [1], [0] * 1000 + [1]))
    assert blueness(many) == pytest.approx(blueness(few), rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ["$\\frac{$", "100 %"],
        ["\u5efa\u7269", "<b>"],
        ["x" * 200, "y"],
        [f"class {i}" for i in range(40)],
    ],
    ids=["math", "foreign", "long", "many"],
)
def test_any_class_names_can_be_drawn(names):
    picture = pixels(plot_confusion(Evaluation(names)))
    assert max(picture.shape) < 3000
    assert picture.std() > 0


@pytest.mark.slow
def test_each_kind_of_curve_has_a_panel():
    row = {"epoch": 1, "loss": 1.0, "val_loss": 2.0, "val_miou": 0.5}
    rows = [row | {"learning_rate": 0.1, "seconds": 3.0}]
    assert list(plot_curves(rows)) == ["Loss", "Scores", "Learning rate"]
    assert list(plot_curves([{"loss": 1.0, "seconds": 3.0}])) == ["Loss"]
    wide, narrow = pixels(plot_history(rows)), pixels(plot_history([{"loss": 1.0}]))
    assert wide.shape[1] > 2 * narrow.shape[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "value", [None, "", "nan", float("nan"), float("inf"), "text"], ids=repr
)
def test_gaps_in_the_history_are_gaps_in_the_curve(value):
    rows = [{"epoch": "1", "loss": "2.0"}, {"epoch": "2", "loss": value}]
    assert list(plot_curves(rows)) == ["Loss"]
    assert plot_curves([{"epoch": 1, "loss": value}]) == {}


def test_an_empty_history_is_a_picture():
    assert pixels(plot_history([])).std() > 0


@pytest.mark.slow
def test_reliability_bars_have_the_height_of_the_accuracy():
    labels = np.zeros(100, int)
    confidence = np.full(100, 0.9)
    right = ReliabilityCounts.measure(labels, labels, confidence)
    wrong = ReliabilityCounts.measure(labels, labels + 1, confidence)
    blue = np.array([0x00, 0x72, 0xB2])

    def bars(calibration):
        return (pixels(plot_reliability(calibration)) == blue).all(axis=2).sum()

    assert bars(right) > 1000
    assert bars(wrong) < 100


def test_reliability_draws_the_counts_before_calibration():
    labels = np.zeros(100, int)
    now = ReliabilityCounts.measure(labels, labels, np.full(100, 0.9))
    before = ReliabilityCounts.measure(labels, labels, np.linspace(0.2, 0.9, 100))
    alone, both = pixels(plot_reliability(now)), pixels(plot_reliability(now, before))
    assert alone.shape == both.shape
    assert (alone != both).any(axis=2).sum() > 300


@pytest.mark.slow
def test_the_coverage_plot_marks_the_threshold():
    labels = np.zeros(100, int)
    confidence = np.linspace(0.3, 1, 100)
    coverage = ThresholdCounts.measure(
        labels, (confidence < 0.6).astype(int), confidence
    )
    plain, marked = (pixels(plot_coverage(coverage, t)) for t in (None, 0.6))
    orange = np.array([0xD5, 0x5E, 0x00])
    assert (plain == orange).all(axis=2).sum() == 0
    assert (marked == orange).all(axis=2).sum() > 100


def test_no_figure_stays_in_memory():
    plot_history([{"loss": 1.0}])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
