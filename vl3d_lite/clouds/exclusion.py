"""Points of a file that are kept out of cells and features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vl3d_lite.clouds.layout import Dimension

CODE = "classification"


@dataclass(frozen=True)
class Exclusion:
    """Which points are excluded: those of a code, or with a flag.

    Args:
        codes: LAS codes of excluded points.
        flags: LAS flags of excluded points.
        kept_codes: LAS codes whose points stay, whatever their code or flag.
    """

    codes: Sequence[int] = ()
    flags: Sequence[str] = ()
    kept_codes: Sequence[int] = ()

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the dimensions that decide."""
        by_code = (CODE,) if self.codes or self.flags else ()
        return (*by_code, *self.flags)

    def mask(self, attributes: Mapping[str, np.ndarray], count: int) -> np.ndarray:
        """Mark the excluded points.

        Args:
            attributes: Name to ``(n,)`` values; a dimension that is not there
                excludes no point.
            count: ``n``.

        Returns:
            ``(n,)`` bool, True where a point is excluded.
        """
        excluded = np.zeros(count, bool)
        for flag in self.flags:
            if flag in attributes:
                excluded |= np.asarray(attributes[flag]) != 0
        if CODE in attributes:
            code = np.asarray(attributes[CODE])
            excluded |= np.isin(code, self.codes)
            excluded &= ~np.isin(code, self.kept_codes)
        return excluded

    def mask_of_records(
        self, layout: Mapping[str, Dimension], records: np.ndarray
    ) -> np.ndarray:
        """`mask` of ``(n, record length)`` uint8 point records."""
        values = {
            name: layout[name].values(records)
            for name in self.dimensions
            if name in layout
        }
        return self.mask(values, len(records))

    def __str__(self) -> str:
        codes = ", ".join(str(c) for c in self.codes if c not in self.kept_codes)
        flags = ", ".join(self.flags)
        parts = (codes and f"code {codes}", flags and f"flagged {flags}")
        return " or ".join(part for part in parts if part) or "none"
