"""A comparison as text, CSV, Markdown or one HTML page."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vl3d_lite.errors import SpecError
from vl3d_lite.report.comparison import Comparison, Row
from vl3d_lite.report.pictures import data_uri
from vl3d_lite.report.rendering import render
from vl3d_lite.report.text import sections, table
from vl3d_lite.system import csv_text


def comparison_text(comparison: Comparison) -> str:
    """Aligned tables for a terminal; ``*`` marks the best score in each row."""
    parts = ["\n".join(comparison.notes)] if comparison.notes else []
    for title, rows in comparison.tables.items():
        lines = [["", *comparison.heads], *_marked(rows, "*", "")]
        parts.append(f"{title}\n{table(lines)}")
    return sections(*parts)


def as_csv(comparison: Comparison) -> str:
    """One table: title of the table, name of the row, and one column per run."""
    lines: list[Sequence] = [["part", "name", *comparison.heads]]
    for title, rows in comparison.tables.items():
        lines += ([title, row.name, *row.cells] for row in rows)
    for note in comparison.notes:
        lines.append(["note", note, *("" for _ in comparison.heads)])
    return csv_text(lines)


def as_markdown(comparison: Comparison) -> str:
    """Tables in Markdown; the best score in each row is bold."""
    lines = [f"# {' | '.join(comparison.runs)}".replace("|", "and"), ""]
    lines += [f"- {_escaped(note)}" for note in comparison.notes]
    for title, rows in comparison.tables.items():
        head = ["", *map(_escaped, comparison.heads)]
        lines += ["", f"## {title}", "", _piped(head)]
        lines.append(_piped(["---", *("--:" for _ in comparison.heads)]))
        escaped = [
            Row(_escaped(row.name), tuple(map(_escaped, row.cells)), row.best)
            for row in rows
        ]
        lines += [_piped(line) for line in _marked(escaped, "**", "**")]
    return "\n".join(lines) + "\n"


def as_html(comparison: Comparison) -> str:
    """One page without scripts and other files; the best scores are bold."""
    title = " and ".join(comparison.runs)
    pictures = [(one, data_uri(one.png())) for one in comparison.pictures]
    return render("compare.html", title=title, comparison=comparison, pictures=pictures)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".html": as_html,
    ".csv": as_csv,
    ".md": as_markdown,
}


def comparison_writer(path: Path) -> Callable[[Comparison], str]:
    """The function of `FORMATS` for a file, chosen by its suffix.

    Raises:
        SpecError: The suffix is not one of `FORMATS`.
    """
    if path.suffix.lower() not in FORMATS:
        raise SpecError(
            f"{path}: must end in {', '.join(FORMATS)}. Received: "
            f"{path.suffix or 'no suffix'}"
        )
    return FORMATS[path.suffix.lower()]


def _marked(rows: Sequence[Row], before: str, after: str) -> list[list[str]]:
    return [
        [
            row.name,
            *(
                f"{before}{cell}{after}" if number in row.best else cell
                for number, cell in enumerate(row.cells)
            ),
        ]
        for row in rows
    ]


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _piped(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
