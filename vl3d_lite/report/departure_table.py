"""What of some clouds lies outside the domain of a model, as one table."""

from collections.abc import Sequence

from vl3d_lite.report.text import table

__all__ = ["domain_table"]

HEADER = ("cloud", "outside the domain", "training", "here", "what that cost before")
MOST_ROWS = 30


def domain_table(rows: Sequence[Sequence[str]]) -> str:
    """Format the departures of clouds as aligned text.

    Args:
        rows: Cloud, quantity, training, here and cost of each departure; at least
            one. Rows beyond the thirtieth are counted.
    """
    text = table([HEADER, *rows[:MOST_ROWS]])
    more = len(rows) - MOST_ROWS
    return text + (f"\nand {more} more lines" if more > 0 else "")
