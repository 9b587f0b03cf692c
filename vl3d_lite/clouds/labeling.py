"""Codes and class indices of point records."""

from collections.abc import Mapping, Sequence

import numpy as np

from vl3d_lite.clouds.exclusion import Exclusion
from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.clouds.layout import dimensions_of
from vl3d_lite.errors import DataError

LARGEST = 2**53  # whole numbers up to here are exact in float64


class Labeling:
    """Class indices of point records, and the points that are excluded.

    Args:
        header: Header of the file.
        class_codes: Class names, in the order of their indices, to codes; None for
            no labels.
        ignored: Flags whose points have no label.
        excluded: Points that have no label and are marked as excluded.
        dimension: The dimension that holds the codes; without it there is no label.
    """

    def __init__(
        self,
        header: FileHeader,
        class_codes: Mapping[str, Sequence[int]] | None,
        ignored: Sequence[str],
        excluded: Exclusion | None,
        dimension: str,
    ) -> None:
        self.header, self.layout = header, dimensions_of(header)
        self.excluded = excluded or Exclusion()
        self.code = self.layout.get(dimension) if class_codes else None
        pairs = [
            (code, index)
            for index, codes in enumerate((class_codes or {}).values())
            for code in codes
        ]
        known, index = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
        # The last entry stands for all codes that are not known.
        self.known = np.append(known, np.iinfo(np.int64).max)
        self.index = np.append(index, -1).astype(np.int32)
        self.flags = [n for n in ignored if n in self.layout] if class_codes else []
        used = (*self.excluded.dimensions, *self.flags)
        self.names = {name for name in used if name in self.layout}
        self.names |= {self.code.name} if self.code else set()

    def labels(self, records: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Class indices, and the excluded points.

        Args:
            records: ``(n, record length)`` uint8.
            start: Number of the first point in the file.

        Returns:
            ``(n,)`` int32, -1 where a point has no label; ``(n,)`` bool.

        Raises:
            DataError: A code is not a whole number.
        """
        excluded = self.excluded.mask_of_records(self.layout, records)
        if self.code is None:
            return np.full(len(records), -1, np.int32), excluded
        codes, counted = self._codes(records, start, excluded)
        if self.code.value_dtype == np.uint8:
            labels = self._index_of(np.arange(256))[codes]  # faster than a search
        else:
            labels = self._index_of(codes)
        labels[~counted] = -1
        return labels, excluded

    def _index_of(self, codes: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.known, codes)
        return np.where(self.known[place] == codes, self.index[place], np.int32(-1))

    def codes(self, records: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes, and the points that may have a label.

        Returns:
            ``(n,)`` int64, 0 where a point has none; ``(n,)`` bool, False where a
            point is excluded, ignored by its flags, or has no code.

        Raises:
            DataError: A code is not a whole number.
        """
        excluded = self.excluded.mask_of_records(self.layout, records)
        return self._codes(records, start, excluded)

    def _codes(
        self, records: np.ndarray, start: int, excluded: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        assert self.code is not None, "made with class codes"
        values, counted = self.code.values(records), ~excluded
        for flag in self.flags:
            counted &= self.layout[flag].values(records) == 0
        if values.dtype.kind == "f":
            counted &= ~np.isnan(values)
            odd = counted & ~((values == np.rint(values)) & (np.abs(values) <= LARGEST))
            if odd.any():
                first = int(np.argmax(odd))
                raise DataError(
                    f"{self.header.path}: point {start + first} has {values[first]} in "
                    f"dimension `{self.code.name}`, expected a whole number, since it "
                    "holds labels (`labels.dimension`); name another dimension"
                )
        return np.where(counted, values, 0).astype(np.int64), counted
