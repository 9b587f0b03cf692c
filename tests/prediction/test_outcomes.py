"""Records of predicted clouds, as files and as a list."""

import json

import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.prediction.outcomes import (
    PredictedCloud,
    read_outcomes,
    record_path,
)

RECORD = {
    "source": "in/a.laz",
    "output": "a.laz",
    "points": 3,
    "voted": 2,
    "nearest": 1,
    "seconds": 0.5,
}


def write_list(folder, *records):
    (folder / "predictions.json").write_text(json.dumps({"clouds": records}))


def write_record(folder, record):
    path = record_path(folder, record["output"])
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))


def test_a_list_without_records_is_read_as_earlier_versions_wrote_it(tmp_path):
    assert read_outcomes(tmp_path) == []
    write_list(tmp_path, RECORD)
    assert read_outcomes(tmp_path) == [PredictedCloud(**RECORD)]


def test_records_count_where_they_differ_from_the_list(tmp_path):
    write_list(tmp_path, RECORD, {**RECORD, "output": "listed.laz"})
    for name, there in (("a.laz", False), ("b.laz", True), ("gone.laz", False)):
        write_record(tmp_path, {**RECORD, "output": name, "seconds": 7.0})
        if there:
            (tmp_path / name).touch()
    (tmp_path / ".records/.7-00000000.part-c.json").write_text("{")
    found = {record.output: record.seconds for record in read_outcomes(tmp_path)}
    assert found == {"a.laz": 7.0, "listed.laz": 0.5, "b.laz": 7.0}


def test_a_damaged_list_is_replaced_by_the_records(tmp_path, caplog):
    (tmp_path / "predictions.json").write_text("{")
    with pytest.raises(DataError, match=r"predictions\.json: .*again with --overwrite"):
        read_outcomes(tmp_path)
    write_record(tmp_path, RECORD)
    (tmp_path / "a.laz").touch()
    assert [record.output for record in read_outcomes(tmp_path)] == ["a.laz"]
    assert "are used instead" in caplog.text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"unsure": 0.5}, "unsure"),
        ({"output": "../a.laz"}, "name of a file"),
        ({"points": "many"}, "points"),
    ],
)
def test_an_entry_of_another_kind_is_an_error_that_names_it(tmp_path, entry, message):
    write_list(tmp_path, {**RECORD, **entry})
    with pytest.raises(DataError, match=rf"{message}.*--overwrite"):
        read_outcomes(tmp_path)


def test_names_as_long_as_the_file_system_bears_have_records_of_their_own(tmp_path):
    names = [f"{'ä' * 123}{number}.laz" for number in range(3)]
    for name in names:
        write_record(tmp_path, {**RECORD, "output": name})
        (tmp_path / name).touch()
    assert sorted(record.output for record in read_outcomes(tmp_path)) == names


@pytest.mark.parametrize(
    "entries",
    [
        {"output": "../scan.laz"},
        {"output": "/tmp/scan.laz"},
        {"output": ".."},
        {"output": ""},
        {"points": 10**400},
        {"points": -1},
        {"threads": 0},
        {"seconds": "long"},
        {"settings": []},
        {"uncalibrated": 3},
    ],
)
def test_a_record_that_nobody_wrote_is_refused(tmp_path, entries):
    write_list(tmp_path, {**RECORD, **entries})
    with pytest.raises(DataError, match=r"predictions\.json: .*with --overwrite"):
        read_outcomes(tmp_path)
