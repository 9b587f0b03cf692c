"""The history of a training on disk."""

import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.runs.history import read_history, write_history


def test_a_history_reads_back_what_was_written(tmp_path):
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_miou": 0.75}]
    write_history(tmp_path / "history.csv", rows)
    assert read_history(tmp_path / "history.csv") == [
        {"epoch": "1", "loss": "0.5", "val_miou": ""},
        {"epoch": "2", "loss": "0.25", "val_miou": "0.75"},
    ]


def test_a_run_without_a_history_has_no_rows(tmp_path):
    assert read_history(tmp_path / "history.csv") == []


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"epoch,loss\n1\n", [{"epoch": "1", "loss": ""}]),
        (b"epoch,loss\n1,2,3\n", [{"epoch": "1", "loss": "2"}]),
        (b"", []),
        (b"epoch\n\0\n", [{"epoch": "\0"}]),
    ],
    ids=["short row", "long row", "empty", "null"],
)
def test_odd_rows_of_a_history_are_text(tmp_path, data, rows):
    (tmp_path / "history.csv").write_bytes(data)
    assert read_history(tmp_path / "history.csv") == rows


@pytest.mark.parametrize("data", [b"\xff\xfe", b'"' + b"a" * 200_000])
def test_a_damaged_history_is_one_message(tmp_path, data):
    (tmp_path / "history.csv").write_bytes(data)
    with pytest.raises(DataError, match=r"history\.csv: is not .*; restore it"):
        read_history(tmp_path / "history.csv")
