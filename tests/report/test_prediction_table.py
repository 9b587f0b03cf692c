"""The table at the end of `predict`."""

from pathlib import Path

import numpy as np

from vl3d_lite.prediction.outcomes import ClassTotal, PredictedCloud
from vl3d_lite.prediction.votes import CellPrediction
from vl3d_lite.prediction.writing import class_totals
from vl3d_lite.report.color_files import QGIS
from vl3d_lite.report.prediction_table import prediction_text
from vl3d_lite.spec.reader import read_spec


def record(name, **classes):
    counted = {key: ClassTotal(*value) for key, value in classes.items()}
    return PredictedCloud(
        source=f"/scans/{name}",
        output=name,
        points=100,
        voted=100,
        nearest=0,
        seconds=1.0,
        classes=counted,
    )


def test_points_are_counted_by_the_class_they_are_written_as(place):
    changes = ["prediction.min_confidence=0.6", "prediction.reject_code=1"]
    spec = read_spec(place / "spec.yaml", changes, check_files=False).spec
    probabilities = np.float32(
        [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.4, 0.3, 0.3], [0.7, 0.2, 0.1]]
    )
    cells = np.array([0, 0, 0, 1, 2, 2, 3])
    prediction = CellPrediction(probabilities, np.ones(4, bool))
    found = class_totals(prediction, cells, spec)
    assert found == {
        "ground": ClassTotal(2, 4, 0.85),  # three points of 0.9 and one of 0.7
        "vegetation": ClassTotal(5, 1, 0.8),
        "building": ClassTotal(6, 0, 0.0),
        "(rejected)": ClassTotal(1, 2, 0.4),
    }


def test_the_table_adds_clouds_and_names_the_style_file(tmp_path):
    (tmp_path / QGIS).touch()
    clouds = [
        record("a.laz", ground=(2, 90, 0.9), building=(6, 10, 0.5)),
        record("b.laz", ground=(2, 100, 0.7), building=(6, 0, 0.0)),
    ]
    text = prediction_text(tmp_path, clouds)
    assert text.splitlines()[2:] == [
        "",
        "class     code  points   share  mean confidence",
        "ground       2     190  95.0 %            0.795",
        "building     6      10   5.0 %            0.500",
        "",
        f"colors for QGIS  {tmp_path / QGIS}",
    ]


def test_a_record_of_a_version_that_did_not_count_is_named():
    clouds = [record("a.laz", ground=(2, 4, 1.0)), record("b.laz")]
    text = prediction_text(Path("out"), clouds)
    assert "1 clouds, predicted by another version, not counted" in text
    assert "100.0 %" in text
