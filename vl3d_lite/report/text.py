"""Aligned plain text: facts and tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["fact_lines", "pairs", "percent", "sections", "short", "table"]

_WIDTH = 100  # characters of a value; longer ones wrap in a usual terminal


def sections(*parts: str) -> str:
    """Join parts by empty lines; the text ends with a newline."""
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def fact_lines(entries: Mapping[str, Any]) -> str:
    """Format one aligned ``key  value`` line per entry, without empty values."""
    entries = {key: value for key, value in entries.items() if value not in (None, "")}
    width = max(map(len, entries), default=0)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in entries.items())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of a table: numbers to the right, words to the left.

    Args:
        rows: The header, then rows of as many cells.
    """
    columns = list(zip(*rows, strict=True))
    left = [any(c.isalpha() for c in "".join(column[1:])) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if words else cell.rjust(width)
            for cell, width, words in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    )


def short(value: Any) -> str:
    """Format a value in at most 100 characters; floats get four decimals."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if value is None:
        return "-"
    if isinstance(value, dict):
        return pairs(value)
    return _cut(str(value))


def pairs(entries: Mapping[str, Any]) -> str:
    """Format ``key value, key value``, in at most 100 characters."""
    return _cut(", ".join(f"{key} {value}" for key, value in entries.items()))


def percent(share: float) -> str:
    """Format a share in [0, 1] as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
