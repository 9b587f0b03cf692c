"""Predictions are paired with the labels of the very points they belong to."""

import dataclasses
import shutil
from pathlib import Path

import laspy
import numpy as np
import pytest

from vl3d_lite import pipeline
from vl3d_lite.errors import DataError
from vl3d_lite.evaluation import pairs
from vl3d_lite.evaluation.pairs import read_pair
from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.spec.schema.spec import Spec


@pytest.fixture
def pair(trained, tmp_path):
    """Copies of a source and its prediction that may be changed, and `read_pair`."""
    (outcome,) = read_outcomes(trained.predictions)
    source = Path(shutil.copy(outcome.source, tmp_path / "source.laz"))
    shutil.copy(trained.predictions / outcome.output, tmp_path / outcome.output)
    outcome = dataclasses.replace(outcome, source=str(source))
    spec = pipeline.open_run(trained)[0]

    def read(**changes):
        return read_pair(spec, tmp_path, dataclasses.replace(outcome, **changes))

    return source, tmp_path / outcome.output, read


def reorder(path, by):
    las = laspy.read(path)
    las.points = las.points[np.argsort(np.array(las[by]), kind="stable")]
    las.write(path)


def agreement(pair):
    return float(np.mean(pair.reference == pair.prediction))


def test_files_as_recorded_are_paired_by_row(pair, caplog):
    _, _, read = pair
    assert len(read().reference) == 6000
    assert not caplog.records


@pytest.mark.parametrize("which", [0, 1], ids=["source", "output"])
def test_a_file_in_another_order_is_paired_by_coordinates(pair, which, caplog):
    *files, read = pair
    before = read()
    reorder(files[which], "z")
    after = read()
    assert agreement(after) == agreement(before)
    order = np.lexsort(after.xyz.T), np.lexsort(before.xyz.T)
    for name in ("xyz", "reference", "prediction", "confidence"):
        np.testing.assert_array_equal(
            getattr(after, name)[order[0]], getattr(before, name)[order[1]]
        )
    assert f"{files[which]}: changed since the prediction" in caplog.text
    assert "paired by their coordinates" in caplog.text


def test_corrected_labels_are_scored_and_mentioned(pair, caplog):
    source, _, read = pair
    las = laspy.read(source)
    las.classification[:] = 2
    las.write(source)
    assert set(read().reference) == {0}
    assert "the labels are those of today" in caplog.text


def test_points_without_a_certain_partner_are_not_scored(pair, caplog):
    source, output, read = pair
    for path in (source, output):
        las = laspy.read(path)
        for axis in "XYZ":
            las[axis][10:15] = las[axis][10]
        las.write(path)
    reorder(source, "z")
    assert np.count_nonzero(read().reference < 0) == 5
    assert "without 5 points that share theirs" in caplog.text


def test_too_many_points_at_one_place_are_refused(pair):
    source, output, read = pair
    for path in (source, output):
        las = laspy.read(path)
        for axis in "XYZ":
            las[axis][:1000] = las[axis][0]
        las.write(path)
    reorder(source, "z")
    with pytest.raises(DataError, match=r"1,000 of 6,000 share their coordinates"):
        read()


def test_other_points_are_refused(pair):
    source, _, read = pair
    las = laspy.read(source)
    las.Z[5] += 1
    las.write(source)
    with pytest.raises(DataError, match=r"source\.laz: does not hold the points"):
        read()


@pytest.mark.parametrize(
    ("column", "kept", "refused"),
    [
        ("prediction", [], True),
        ("prediction", [9], True),
        ("classification", [], True),
        ("classification", [9], False),
    ],
)
def test_a_predicted_code_of_no_class_is_refused(pair, column, kept, refused):
    _, output, read = pair
    las = laspy.read(output)
    las.classification[:] = las.prediction
    las[column][:50] = 9
    las.write(output)
    if refused:
        with pytest.raises(
            DataError, match=rf"test\.laz: `{column}` has the code 9 in 50 points"
        ):
            read(column=column, kept_codes=kept)
    else:
        reference = read(column=column, kept_codes=kept).reference
        assert np.flatnonzero(reference < 0).tolist() == list(range(50))


def test_a_file_replaced_while_it_is_read_is_refused(pair, monkeypatch):
    source, _, read = pair
    real = pairs.read_las

    def replacing(path, **options):
        if path == source:
            las = laspy.read(path)
            las.classification[:] = 2
            las.write(path)
        return real(path, **options)

    monkeypatch.setattr(pairs, "read_las", replacing)
    with pytest.raises(DataError, match=r"source\.laz was replaced or changed while"):
        read()


def test_the_reference_is_read_with_the_codes_of_the_group(pair, trained, caplog):
    source, _, read = pair
    (outcome,) = read_outcomes(trained.predictions)
    before = read()
    las = laspy.read(source)
    las.classification[np.isin(las.classification, [5, 6])] = 1
    las.write(source)
    codes = {"vegetation or building": 1}
    spec = pipeline.open_run(trained)[0].model_dump()
    spec["clouds"]["predict"] = [{"files": [str(source)], "classes": codes}]
    here = dataclasses.replace(outcome, source=str(source))
    pair = read_pair(Spec.model_validate(spec), source.parent, here)
    # The source has changed, so points are paired by coordinates, in its order.
    truth, prediction = before.reference, pair.prediction
    partial = truth > 0
    np.testing.assert_array_equal(pair.partial, partial)
    expected = np.where(partial, np.maximum(prediction, 1), 0)
    np.testing.assert_array_equal(pair.reference, expected)
    assert "codes of `classes`" not in caplog.text
    spec["clouds"]["predict"] = [{"files": ["/delft"], "classes": codes}]
    read_pair(Spec.model_validate(spec), source.parent, here)
    assert f"{source}: is read with the codes of `classes`" in caplog.text
