"""Text on its way to a terminal or a spreadsheet: nothing in it may act there."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST_MESSAGE = 2000  # characters
# A cell that begins with one of these is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Unicode categories: control, surrogate, line and paragraph separator.
_UNSAFE = {"Cc", "Cs", "Zl", "Zp"}
# They reverse the writing of what follows, so that a name reads as another one.
_REVERSING = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def is_printable(text: str) -> bool:
    """Whether a text has no character that steers a terminal, and no line break."""
    return not any(map(_is_unsafe, text))


def printable(text: str) -> str:
    r"""Replace characters that steer a terminal by escapes such as ``\x1b``.

    Line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _is_unsafe(character: str) -> bool:
    return character in _REVERSING or unicodedata.category(character) in _UNSAFE


def _escaped(character: str) -> str:
    if character in "\n\t" or not _is_unsafe(character):
        return character
    return ascii(character)[1:-1]


def shortened(text: str, most: int = LONGEST_MESSAGE) -> str:
    """Cut a long message at a line or word, and count what was left out."""
    if len(text) <= most:
        return text
    cut = max(text.rfind("\n", most // 2, most), 0) or text.rfind(" ", most // 2, most)
    cut = cut if cut > 0 else most
    rest = text[cut:]
    lines = rest.count("\n")
    more = f"{lines:,} more lines" if lines > 1 else f"{len(rest):,} more characters"
    return f"{text[:cut]}\n... and {more}"


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """CSV of rows, in which no text is a formula to a spreadsheet.

    Text that begins like a formula gets an apostrophe in front, by which spreadsheets
    show it as it is; numbers stay numbers.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
