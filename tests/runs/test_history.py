"""The history of a training on disk."""

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
