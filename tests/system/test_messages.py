"""Text on its way to a terminal or a spreadsheet cannot act there."""

import csv
import io

import pytest

from vl3d_lite.system import csv_text, is_printable, printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Gebäude 3\n\tm²", "Gebäude 3\n\tm²"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb\x00\x7f\x9b", r"a\rb\x00\x7f\x9b"),
        ("\udcff.laz", r"\udcff.laz"),
        ("abc\u202egpj", r"abc\u202egpj"),
        ("a\u2028b", r"a\u2028b"),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    assert is_printable(text) == (text == shown and "\n" not in text)


def test_a_long_message_is_cut_with_a_count():
    text = "\n".join(f"spec.yaml:{n}:1: unknown key" for n in range(500))
    cut = shortened(text)
    kept = cut.count("unknown key")
    assert len(cut) < 2100
    assert cut.endswith(f"\n... and {500 - kept} more lines")
    assert shortened("x" * 5000).endswith("... and 3,000 more characters")
    assert shortened("short") == "short"


def test_cells_cannot_be_formulas():
    names = ["=1+1", "+a", "-b", "@c", "-1.5", "plain", 'a,"b"', "\tx"]
    text = csv_text([names, [-1.5, None, True, 3]])
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["'=1+1", "'+a", "'-b", "'@c", "-1.5", "plain", 'a,"b"', "'\tx"]
    assert rows[1] == ["-1.5", "", "True", "3"]
