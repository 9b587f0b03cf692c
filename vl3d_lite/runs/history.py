"""The history of a training: one row per epoch, as CSV."""

import csv
import io
from pathlib import Path

from vl3d_lite.system import write_text


def write_history(path: Path, rows: list[dict]) -> None:
    """Write one line per epoch to `path`, completely or not at all.

    Args:
        path: ``history.csv``.
        rows: The values of each epoch by column name. A column that only some
            rows have is empty in the others.

    Raises:
        ResourceError: The file cannot be written.
    """
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_history(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``history.csv``; an empty list where there is no file.

    Values are strings as they stand in the file.
    """
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
