"""The conversion of point records from an input file to its classified copy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vl3d_lite.clouds.header import HEADER_SIZES, FileHeader
from vl3d_lite.clouds.layout import (
    EXTRA_BYTES_ENTRY,
    EXTRA_TYPES,
    UNDESCRIBED,
    extra_fields,
    standard_dimensions,
    standard_length,
)
from vl3d_lite.clouds.points import read_records
from vl3d_lite.errors import DataError

Values = np.ndarray | Callable[[int, int], np.ndarray]

# The first format from 6 on that has every dimension of the old one.
RAISED = {0: 6, 1: 6, 2: 7, 3: 7, 4: 9, 5: 10}
LARGEST_OLD_CODE = 31  # formats 0 to 5 have five bits for the class
DEGREES_PER_STEP = 0.006  # of `scan_angle` in formats 6 to 10
LONGEST = 0xFFFF  # bytes of a point record, a header and a variable length record


@dataclass(frozen=True, eq=False)
class ExtraDimension:
    """An extra dimension to write.

    Args:
        values: ``(n,)``, or a function ``(start, stop)`` that returns the values of
            the points from `start` to before `stop`.
        dtype: How to store it, one of the ten LAS types, such as "u2" or "f4".
        description: At most 32 bytes of ASCII.
    """

    values: Values
    dtype: str
    description: str = ""

    def part(self, name: str, start: int, stop: int) -> np.ndarray:
        """The values from `start` to before `stop`.

        Raises:
            DataError: Their number is wrong, or the type cannot hold them.
        """
        values = part_of(self.values, name, start, stop)
        dtype = np.dtype(self.dtype)
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            if not (limits.min <= values.min() and values.max() <= limits.max):
                raise DataError(
                    f"dimension `{name}` is stored as {dtype}, {limits.min} to "
                    f"{limits.max}. Received: {values.min()} to {values.max()}"
                )
        return values


def part_of(values: Values, name: str, start: int, stop: int) -> np.ndarray:
    """The values from `start` to before `stop`.

    Args:
        values: As in `ExtraDimension`.
        name: Name of the dimension, for the message.
        start: First point.
        stop: The point after the last.

    Raises:
        DataError: There is not one value per point.
    """
    part = values(start, stop) if callable(values) else values[start:stop]
    if np.shape(part) != (stop - start,):
        raise DataError(
            f"`{name}` must have one value for each point, {stop - start} from point "
            f"{start} on. Received: {np.shape(part)}. Do not change the file meanwhile"
        )
    return np.asarray(part)


class Rewriting:
    """The records of the copy, made from those of the input.

    Args:
        header: The header of the input.
        added: Extra dimensions to add, by name.
        classification: ``(n,)`` codes to write, or a function as in
            `ExtraDimension`; None leaves the codes unchanged.
        keep_codes: Points with one of these codes in the input keep it.
        replace: Whether an extra dimension of the same name is replaced.
        log: Called with each change that the file format requires.

    Attributes:
        point_format: Point format of the copy.
        record_length: Bytes of a point record of the copy.
        entries: The entries of the extra-bytes record of the copy; None if unchanged.

    Raises:
        DataError: A dimension cannot be added.
    """

    def __init__(
        self,
        header: FileHeader,
        added: Mapping[str, ExtraDimension],
        classification: Values | None,
        keep_codes: Sequence[int],
        replace: bool,
        log: Callable[[str], None],
    ) -> None:
        self.header = header
        self.classification = classification
        self.kept_codes = np.zeros(256, bool)
        self.kept_codes[list(keep_codes)] = True
        self.code = standard_dimensions(header.point_format)["classification"]

        fields, entries = extra_fields(header)
        check_names(header, list(added), replace, log)
        start = standard_length(header.point_format)
        described = fields[-1].stop if fields else start
        spans = [(f.start, f.stop) for f in fields if f.name not in added]
        new = [e for f, e in zip(fields, entries, strict=True) if f.name not in added]
        if described < header.record_length:
            spans.append((described, header.record_length))
            new += _undescribed_entries(header.record_length - described)
        new += [_entry(name, extra) for name, extra in added.items()]
        self.entries = np.array(new, EXTRA_BYTES_ENTRY) if added else None
        if added:
            log(f"{header.path.name}: extra dimensions written: {', '.join(added)}")
        self.spans = _joined(spans)

        self.point_format = header.point_format
        if self._needs_raise():
            self.point_format = RAISED[header.point_format]
            log(
                f"{header.path.name}: point format {header.point_format} raised to "
                f"{self.point_format}, since a class code is above {LARGEST_OLD_CODE}"
            )
        self.first_extra = standard_length(self.point_format)
        position = self.first_extra + sum(stop - start for start, stop in self.spans)
        self.added = []
        for name, extra in added.items():
            self.added.append((name, extra, position))
            position += np.dtype(extra.dtype).itemsize
        self.record_length = position
        types = {name: extra.dtype for name, extra in added.items()}
        raised = self.point_format != header.point_format
        check_room(header, types, raised=raised)

    def apply(self, start: int, records: np.ndarray, out: np.ndarray) -> None:
        """Convert point records of the input to those of the copy.

        Args:
            start: Index of the first point.
            records: ``(m, record length of the input)`` uint8.
            out: ``(m, record length of the copy)`` uint8, written in place.
        """
        old = standard_length(self.header.point_format)
        if self.point_format == self.header.point_format:
            _copy(records, 0, out, 0, old)
        else:
            self._convert(records, out)
        position = self.first_extra
        for first, last in self.spans:
            _copy(records, first, out, position, last - first)
            position += last - first
        stop = start + len(records)
        for name, extra, position in self.added:
            field = np.ndarray(len(out), extra.dtype, out, position, out.strides[:1])
            field[:] = extra.part(name, start, stop)
        if self.classification is not None:
            codes = self._codes(start, records)
            standard_dimensions(self.point_format)["classification"].store(out, codes)

    def _codes(self, start: int, records: np.ndarray) -> np.ndarray:
        assert self.classification is not None
        codes = part_of(
            self.classification, "classification", start, start + len(records)
        )
        if codes.min() < 0 or codes.max() > 255:
            raise DataError(
                "class codes must be 0 to 255. Received: "
                f"{codes.min()} to {codes.max()}"
            )
        old = self.code.values(records)
        return np.where(self.kept_codes[old], old, codes).astype(np.uint8)

    def _needs_raise(self) -> bool:
        if self.classification is None or self.header.point_format not in RAISED:
            return False
        if not callable(self.classification):
            largest = np.max(self.classification, initial=0)
            if largest <= LARGEST_OLD_CODE:
                return False
        # Codes of kept points do not need the new format: each point is checked.
        return any(
            self._codes(start, records).max() > LARGEST_OLD_CODE
            for start, records in read_records(
                self.header, frozenset(["classification"])
            )
        )

    def _convert(self, records: np.ndarray, out: np.ndarray) -> None:
        out[:, : self.first_extra] = 0
        old = standard_dimensions(self.header.point_format)
        new = standard_dimensions(self.point_format)
        for name in old.keys() & new.keys():
            new[name].store(out, old[name].values(records))
        degrees = old["scan_angle_rank"].values(records)
        new["scan_angle"].store(out, np.rint(degrees / DEGREES_PER_STEP))


def _copy(
    source: np.ndarray, start: int, target: np.ndarray, position: int, length: int
) -> None:
    dtype = f"V{length}"
    taken = np.ndarray(len(source), dtype, source, start, source.strides[:1])
    np.ndarray(len(target), dtype, target, position, target.strides[:1])[:] = taken


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        elif start < stop:
            joined.append((start, stop))
    return joined


def check_names(
    header: FileHeader,
    added: Sequence[str],
    replace: bool,
    log: Callable[[str], None],
) -> None:
    """Check that extra dimensions can be added to a cloud.

    Args:
        header: The header of the cloud.
        added: Names of the extra dimensions.
        replace: Whether a dimension of the same name is replaced.
        log: Called with a name that is allowed but may cause problems in QGIS.

    Raises:
        DataError: A name is not valid in LAS, belongs to the standard, or exists.
    """
    existing = [field.name for field in extra_fields(header)[0]]
    standard = standard_dimensions(header.point_format)
    for name in added:
        if not (name.isascii() and name.isprintable() and 0 < len(name) <= 32):
            raise DataError(
                f"`{name}` cannot name a LAS dimension: expected 1 to 32 ASCII "
                "characters. Rename the class or the dimension."
            )
        if name in (*standard, "x", "y", "z"):
            raise DataError(
                f"{header.path}: `{name}` is a dimension of the LAS standard. "
                "Choose another name."
            )
        if name in existing and not replace:
            raise DataError(
                f"{header.path}: already has a dimension `{name}`. Give --replace "
                "to replace it, or write another dimension."
            )
        for other in (*existing, *added):
            if other == name or not (other.startswith(name) or name.startswith(other)):
                continue
            problem = (
                f"{header.path}: of the dimensions `{name}` and `{other}` one begins "
                "with the name of the other, which some versions of QGIS confuse"
            )
            if other in existing and other not in added and not replace:
                raise DataError(f"{problem}. Give --replace to write it anyway.")
            log(problem)


def check_room(header: FileHeader, added: Mapping[str, str], *, raised: bool) -> None:
    """Check that a copy of a cloud holds more dimensions, within the limits of LAS.

    Args:
        header: The header of the cloud.
        added: Type of each extra dimension, by name; one that exists is replaced.
        raised: Whether class codes may need a higher point format.

    Raises:
        DataError: A point record, the record of extra dimensions or the header would
            be too long.
    """
    fields = extra_fields(header)[0]
    old = standard_length(header.point_format)
    undescribed = header.record_length - (fields[-1].stop if fields else old)
    kept = [field for field in fields if field.name not in added]
    raised = raised and header.point_format in RAISED
    new = standard_length(RAISED[header.point_format]) if raised else old
    length = new + undescribed + sum(field.stop - field.start for field in kept)
    length += sum(np.dtype(dtype).itemsize for dtype in added.values())
    entries = len(kept) + -(-undescribed // 255) + len(added)
    size = header.size
    if raised and header.version[1] < 4:
        size += HEADER_SIZES[4] - HEADER_SIZES[header.version[1]]
    for what, needed in {
        "a point record": length,
        "the record of extra dimensions": entries * EXTRA_BYTES_ENTRY.itemsize,
        "the header": size,
    }.items():
        if needed > LONGEST:
            raise DataError(
                f"{header.path}: with the prediction {what} would need {needed:,} "
                f"bytes, but LAS holds {LONGEST:,}; write fewer dimensions, or remove "
                "some from the cloud"
            )


def _entry(name: str, extra: ExtraDimension) -> np.ndarray:
    dtype = np.dtype(extra.dtype).newbyteorder("<")
    entry = np.zeros((), EXTRA_BYTES_ENTRY)
    entry["data_type"] = 1 + [np.dtype(t) for t in EXTRA_TYPES].index(dtype)
    entry["name"] = name.encode()
    entry["description"] = extra.description.encode("ascii", "replace")[:32]
    return entry


def _undescribed_entries(length: int) -> list[np.ndarray]:
    entries = []
    for first in range(0, length, 255):
        entry = np.zeros((), EXTRA_BYTES_ENTRY)
        entry["options"] = min(255, length - first)
        entry["name"] = UNDESCRIBED.encode() + (b"%d" % first if first else b"")
        entries.append(entry)
    return entries
