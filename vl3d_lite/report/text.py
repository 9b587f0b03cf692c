"""Aligned plain text: facts and tables for a terminal."""

from collections.abc import Sequence
from typing import Any

__all__ = ["fact_lines", "pairs", "sections", "short", "table"]


def sections(*parts: str) -> str:
    """Join parts by empty lines; the text ends with a newline."""
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def fact_lines(entries: dict[str, Any]) -> str:
    """One aligned ``key  value`` line an entry; empty and None are left out."""
    entries = {key: value for key, value in entries.items() if value not in (None, "")}
    width = max(map(len, entries), default=0)
    return "\n".join(f"{key:<{width}}  {value}" for key, value in entries.items())


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns; numbers to the right, words to the left."""
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
    """A value in at most 100 characters."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if value is None:
        return "-"
    if isinstance(value, dict):
        return pairs(value)
    return _cut(str(value))


def pairs(entries: dict[str, Any]) -> str:
    """``key value, key value``, in at most 100 characters."""
    return _cut(", ".join(f"{key} {value}" for key, value in entries.items()))


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
