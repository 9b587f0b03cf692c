"""The history of a training as CSV."""

import csv
import io


def history_csv(rows: list[dict]) -> str:
    """The rows of a history as CSV, one epoch a line."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
