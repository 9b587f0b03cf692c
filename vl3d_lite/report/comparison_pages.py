"""A comparison as text, CSV, Markdown or one HTML page."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from vl3d_lite.errors import SpecError
from vl3d_lite.report.comparison import Comparison, Row
from vl3d_lite.report.text import sections, table


def as_text(comparison: Comparison) -> str:
    """Aligned tables for a terminal; the best of a row has a star."""
    parts = ["\n".join(comparison.notes)] if comparison.notes else []
    for title, rows in comparison.tables.items():
        lines = [["", *comparison.runs], *_starred(rows, "*", "")]
        parts.append(f"{title}\n{table(lines)}")
    return sections(*parts)


def as_csv(comparison: Comparison) -> str:
    """One table: the title of its part, the name of the row, a column a run."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["part", "name", *comparison.runs])
    for title, rows in comparison.tables.items():
        writer.writerows([title, row.name, *row.cells] for row in rows)
    for note in comparison.notes:
        writer.writerow(["note", note, *("" for _ in comparison.runs)])
    return stream.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """Tables of Markdown; the best of a row is bold."""
    lines = [f"# {' | '.join(comparison.runs)}".replace("|", "and"), ""]
    lines += [f"- {_escaped(note)}" for note in comparison.notes]
    for title, rows in comparison.tables.items():
        head = ["", *map(_escaped, comparison.runs)]
        lines += ["", f"## {title}", "", _piped(head)]
        lines.append(_piped(["---", *("--:" for _ in comparison.runs)]))
        escaped = [
            Row(_escaped(row.name), tuple(map(_escaped, row.cells)), row.best)
            for row in rows
        ]
        lines += [_piped(line) for line in _starred(escaped, "**", "**")]
    return "\n".join(lines) + "\n"


def as_html(comparison: Comparison) -> str:
    """One page without scripts or outside files."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vl3d_lite.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("compare.html").render(
        title=" and ".join(comparison.runs), comparison=comparison
    )
    # Names of folders may hold bytes that are no text.
    return page.encode("utf-8", "replace").decode("utf-8")


FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".html": as_html,
    ".csv": as_csv,
    ".md": as_markdown,
}


def writer_of(path: Path) -> Callable[[Comparison], str]:
    """What writes a file of this name.

    Raises:
        SpecError: The name has another ending.
    """
    if path.suffix.lower() not in FORMATS:
        raise SpecError(
            f"{path}: must end in {', '.join(FORMATS)}. Received: "
            f"{path.suffix or 'no ending'}"
        )
    return FORMATS[path.suffix.lower()]


def _starred(rows, before: str, after: str) -> list[list[str]]:
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


def _piped(cells) -> str:
    return f"| {' | '.join(cells)} |"
