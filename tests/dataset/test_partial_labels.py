"""Labels by group of clouds, from codes in files to scores."""

import logging

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from vl3d_lite.dataset.class_counts import require_classes
from vl3d_lite.dataset.files import check_clouds, read_cloud
from vl3d_lite.dataset.partial_labels import (
    count_labels,
    exact_labels,
    scored_labels,
)
from vl3d_lite.errors import DataError
from vl3d_lite.spec.reader import read_spec

PARTIAL = "vegetation or building"  # label 3 of ground, vegetation, building


@pytest.fixture
def delft(place, tmp_path):
    """A cloud whose code 1 is vegetation or building, and ground as 8."""
    path = tmp_path / "delft.laz"
    write_place(path, 3, n=900)
    las = laspy.read(path)
    codes = np.array(las.classification)
    las.add_extra_dim(laspy.ExtraBytesParams("scalar_Label", "f4"))
    las["scalar_Label"] = np.where(codes == 5, np.nan, codes * 100.0)
    las.classification = np.where(codes == 2, 8, 1)
    las.write(path)
    return path, codes


def grouped(place, path, settings):
    group = f"{{files: {path}, {settings}}}"
    return read_spec(place / "spec.yaml", [f"clouds.train=[{group}]"]).spec


def test_a_cloud_is_read_with_the_codes_of_its_group(delft, place):
    path, codes = delft
    spec = grouped(place, path, f"classes: {{ground: 8, {PARTIAL}: 1}}")
    labels = read_cloud(path, spec).labels
    np.testing.assert_array_equal(labels, np.where(codes == 2, 0, 3))
    ignoring = grouped(place, path, "classes: {ground: 8}, ignore: [1]")
    expected = np.where(codes == 2, 0, -1)
    np.testing.assert_array_equal(read_cloud(path, ignoring).labels, expected)


def test_labels_are_read_from_an_extra_dimension(delft, place):
    path, codes = delft
    labels = "labels: {dimension: scalar_Label, codes: {ground: 200, building: [600]}}"
    spec = grouped(place, path, labels)
    expected = np.select([codes == 2, codes == 6], [0, 2], -1)  # NaN: no label
    np.testing.assert_array_equal(read_cloud(path, spec).labels, expected)
    with pytest.raises(
        DataError, match=r"class `vegetation` .* 600|class `vegetation`"
    ):
        check_clouds([path], spec, count_classes=True)
    elsewhere = place / "train.laz"  # without the dimension, and in no group
    spec = read_spec(place / "spec.yaml", ["labels.dimension=scalar_Label"]).spec
    assert (read_cloud(elsewhere, spec).labels == -1).all()
    with pytest.raises(DataError, match="no dimension `scalar_Label`"):
        check_clouds([elsewhere], spec, count_classes=True)


def test_a_label_that_is_no_whole_number_is_refused(delft, place):
    path, _ = delft
    las = laspy.read(path)
    las["scalar_Label"][5] = 2.5
    las.write(path)
    spec = grouped(place, path, "labels: {dimension: scalar_Label}")
    with pytest.raises(
        DataError, match=r"point 5 has 2\.5 in dimension `scalar_Label`"
    ):
        read_cloud(path, spec)


def test_classes_are_counted_with_the_codes_of_the_group(delft, place, caplog):
    path, _ = delft
    spec = grouped(place, path, f"classes: {{ground: 8, {PARTIAL}: 1}}")
    with caplog.at_level(logging.WARNING):
        check_clouds([path, place / "train.laz"], spec, count_classes=True)
    assert "has no point of class" not in caplog.text
    with pytest.raises(DataError, match="class `ground`"):
        require_classes(spec, {path: {1: 9}})
    require_classes(spec, {path: {1: 9, 8: 9}})
    assert "class `building` has points of partial labels only" in caplog.text


def test_a_point_of_a_partial_label_is_right_as_each_of_its_classes(place):
    spec = grouped(place, place / "train.laz", f"classes: {{{PARTIAL}: 1}}")
    labels = np.array([0, 1, 2, -1, 3, 3, 3])
    prediction = np.array([1, 1, 0, 2, 1, 2, 0])
    # The last is neither: it counts as the first class of the label, and is wrong.
    expected = [0, 1, 2, -1, 1, 2, 1]
    np.testing.assert_array_equal(scored_labels(labels, prediction, spec), expected)
    np.testing.assert_array_equal(exact_labels(labels, spec), [0, 1, 2, *[-1] * 4])
    np.testing.assert_array_equal(count_labels(labels, spec), [1, 1, 1])
