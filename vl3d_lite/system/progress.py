"""Progress: a bar on a terminal, a plain line every 30 s elsewhere."""

import sys
import time
from typing import Any

from tqdm import tqdm

from vl3d_lite.system.messages import printable

INTERVAL = 30.0  # seconds between two lines
_LINE = (
    "{desc}: {percentage:.0f}%, {n_fmt} of {total_fmt} {unit}, {elapsed} elapsed, "
    "{remaining} left{postfix}"
)


class ProgressBar(tqdm):
    """A progress bar of `tqdm` on stderr, with the time that is left.

    Where stderr is no terminal, such as a log file, it prints a line every `INTERVAL`
    seconds, also while nothing advances, and one at the end if it is to stay.

    Args:
        iterable: What is iterated, if anything.
        desc: Text before the bar; it may come from files.
        quiet: Show nothing.
        settings: As for `tqdm`, such as `total`, `unit` and `leave`.
    """

    def __init__(
        self, iterable: Any = None, *, desc: str, quiet: bool = False, **settings: Any
    ):
        self._plain = not sys.stderr.isatty()
        self._last_line, self._lines = time.monotonic(), 0
        super().__init__(iterable, desc=printable(desc), disable=quiet, **settings)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or print the next line if it is due."""
        if not self._plain:
            return super().display(msg, pos)
        if msg is None and time.monotonic() - self._last_line >= INTERVAL:
            self._print_line()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar from the terminal; a line stays."""
        if not self._plain:
            super().clear(nolock)

    def close(self) -> None:
        """End the bar; a second call does nothing."""
        if not getattr(self, "_plain", False):
            super().close()
        elif not getattr(self, "disable", True):
            self.disable = True
            self._decr_instances(self)
            if self.leave or self._lines:
                self._print_line()

    def _print_line(self) -> None:
        self._last_line, self._lines = time.monotonic(), self._lines + 1
        shown = {**self.format_dict, "bar_format": _LINE, "ncols": None}
        shown["unit"] += "es" if shown["unit"].endswith("ch") else "s"
        self.fp.write(self.format_meter(**shown) + "\n")
        self.fp.flush()
