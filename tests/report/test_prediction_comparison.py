"""Two models on one scan: where their classes differ."""

import json
from dataclasses import asdict
from pathlib import Path

import laspy
import numpy as np
import pytest

from vl3d_lite.cli.app import app
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.prediction.outcomes import ClassTotal, PredictedCloud
from vl3d_lite.report.comparison_pages import as_html, comparison_text
from vl3d_lite.report.prediction_comparison import compare_folders

CODES = {"ground": 2, "vegetation": 5, "building": 6}


@pytest.fixture
def predicted(tmp_path):
    """Writes a folder of predictions of one scan of 100 points in a row."""

    def write(name, codes, classes=CODES, digest="1", order=None):
        folder = tmp_path / name
        folder.mkdir()
        order = np.arange(100) if order is None else order
        header = laspy.LasHeader(point_format=6, version="1.4")
        header.scales = [0.01] * 3
        header.add_extra_dim(laspy.ExtraBytesParams("prediction", np.uint16))
        las = laspy.LasData(header)
        las.X, las.Y, las.Z = np.arange(100)[order] * 100, np.zeros(100), np.zeros(100)
        las.prediction = np.asarray(codes, np.uint16)[order]
        las.write(folder / "scan.las")
        record = PredictedCloud(
            source="/scans/scan.las",
            output="scan.las",
            points=100,
            voted=100,
            nearest=0,
            seconds=1.0,
            source_sha256=digest,
            model=name,
            unit="m",
            classes={key: ClassTotal(code, 0) for key, code in classes.items()},
        )
        text = json.dumps({"clouds": [asdict(record)]})
        (folder / "predictions.json").write_text(text)
        return folder

    return write


@pytest.fixture
def two(predicted):
    a = predicted("a", [2] * 60 + [5] * 40)
    b = predicted("b", [2] * 50 + [6] * 20 + [5] * 30)
    return [a, b]


def cells(comparison, title):
    return {row.name: row.cells for row in comparison.tables[title]}


def test_points_are_counted_by_their_two_classes(two):
    found = compare_folders(two)
    assert cells(found, "Points of different classes") == {"scan.las": ("20", "20.0 %")}
    assert cells(found, "By class in the first / in the second folder") == {
        "ground / building": ("10", "10.0 %"),
        "vegetation / building": ("10", "10.0 %"),
    }
    assert any(note.startswith("a: predicted with model a") for note in found.notes)
    lines = comparison_text(found).splitlines()
    assert any(line.split() == ["points", "share"] for line in lines)


def test_the_map_is_red_where_the_classes_differ(two):
    (picture,) = compare_folders(two).pictures
    shares = picture.indices.ravel()
    position = (np.arange(len(shares)) + 0.5) / len(shares) * 99
    inside = (position > 52) & (position < 67)
    assert set(shares[inside & (shares > 0)]) == {4}  # all points of a pixel differ
    outside = (position < 48) | (position > 72)
    assert set(shares[outside & (shares > 0)]) == {1}


def test_sorted_points_are_paired_by_their_coordinates(two, predicted):
    order = np.random.default_rng(0).permutation(100)
    again = predicted("c", [2] * 60 + [5] * 40, order=order)
    title = "Points of different classes"
    assert cells(compare_folders([two[0], again]), title)["scan.las"][0] == "0"
    found = compare_folders([again, two[1]])
    assert cells(found, title)["scan.las"] == ("20", "20.0 %")


def test_one_class_of_two_codes_is_no_difference(two, predicted):
    other = {"ground": 11, "vegetation": 5, "building": 6}
    again = predicted("c", [11] * 60 + [5] * 40, other)
    assert cells(compare_folders([two[0], again]), "Points of different classes") == {
        "scan.las": ("0", "0.0 %")
    }


def test_what_cannot_be_compared_is_refused(two, predicted, trained_folder):
    strange = predicted("c", [2] * 100, digest="2")
    with pytest.raises(DataError, match="no scan in common, by the SHA-256"):
        compare_folders([two[0], strange])
    with pytest.raises(SpecError, match="two by two"):
        compare_folders([*two, strange])
    with pytest.raises(SpecError, match=r"holds no predictions\.json"):
        compare_folders([two[0], trained_folder])


@pytest.fixture
def trained_folder(tmp_path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    return tmp_path / "run"


def test_the_page_holds_the_map(two, tmp_path):
    page = as_html(compare_folders(two))
    assert page.count("data:image/png") == 1
    assert "where a and b differ" in page
    target = tmp_path / "ab.html"
    app(["compare", *map(str, two), "--output", str(target)], standalone_mode=False)
    assert target.read_text() == page
