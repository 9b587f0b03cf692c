"""The history of a training: one row per epoch, as CSV."""

import csv
import io
from pathlib import Path

from vl3d_lite.errors import DataError
from vl3d_lite.system import csv_text, read_text, write_text


def write_history(path: Path, rows: list[dict]) -> None:
    """Write one line per epoch to `path`, completely or not at all.

    Args:
        path: ``history.csv``.
        rows: The values of each epoch by column name. A column that only some
            rows have is empty in the others.

    Raises:
        ResourceError: The file cannot be written.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = ([row.get(name, "") for name in names] for row in rows)
    write_text(path, csv_text([names, *cells]))


def read_history(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``history.csv``; an empty list where there is no file.

    Values are strings as they stand in the file; of a row that is cut short, the
    last ones are empty.

    Raises:
        DataError: The file is damaged.
    """
    if not path.is_file():
        return []
    remedy = "restore it from a copy, or remove it"
    text = read_text(path, remedy)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV ({error}); {remedy}") from error
    return [{name: row[name] or "" for name in row if name} for row in rows]
