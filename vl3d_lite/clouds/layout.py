"""The position of each dimension in a point record."""

from dataclasses import dataclass

import numpy as np
from laspy.point.dims import ALL_POINT_FORMATS_DTYPE, COMPOSED_FIELDS

from vl3d_lite.clouds.header import EXTRA_BYTES, FileHeader

# One entry of the extra-bytes record, LAS 1.4 R15, table 24.
EXTRA_BYTES_ENTRY = np.dtype(
    [
        ("reserved", "S2"),
        ("data_type", "u1"),
        ("options", "u1"),
        ("name", "S32"),
        ("unused", "V4"),
        ("no_data", "V24"),
        ("min", "V24"),
        ("max", "V24"),
        ("scale", "<f8", 3),
        ("offset", "<f8", 3),
        ("description", "S32"),
    ]
)
NO_DATA = 0b00001
SCALED = 0b01000
SHIFTED = 0b10000
# Data types 1 to 10; 11 to 20 are pairs and 21 to 30 triples of them.
EXTRA_TYPES = ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8")
UNDESCRIBED = "ExtraBytes"


@dataclass(frozen=True)
class Dimension:
    """One dimension of a point record.

    Args:
        name: As the LAS standard or the extra-bytes record has it.
        start: Byte at which it starts in the record.
        dtype: How it is stored.
        mask: The bits of the byte that belong to it; 0 for all.
        scale: Factor of a scaled extra dimension.
        shift: Offset of a scaled extra dimension.
        extra: Whether it is an extra dimension.
        no_data: The stored value that the file declares as no-data; None for none.
    """

    name: str
    start: int
    dtype: np.dtype
    mask: int = 0
    scale: float = 1.0
    shift: float = 0.0
    extra: bool = False
    no_data: float | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether values differ from what is stored."""
        return (self.scale, self.shift) != (1.0, 0.0)

    @property
    def value_dtype(self) -> np.dtype:
        """The type of `values`."""
        holds_nan = self.dtype.kind == "f" or self.no_data is None
        if self.is_scaled or not holds_nan:
            return np.dtype(np.float64)
        return self.dtype.newbyteorder("=")

    def values(self, records: np.ndarray) -> np.ndarray:
        """The ``(n,)`` values in ``(n, record length)`` uint8 records.

        NaN where the stored value is `no_data`.
        """
        stored = self.stored(records)
        if self.mask:
            return (stored & np.uint8(self.mask)) >> np.uint8(self.lowest_bit)
        values = stored * self.scale + self.shift if self.is_scaled else stored
        if self.no_data is None:
            return values
        values = values.astype(self.value_dtype)
        values[self.is_no_data(records)] = np.nan
        return values

    def is_no_data(self, records: np.ndarray) -> np.ndarray:
        """``(n,)`` bool, where the stored value is the declared no-data."""
        stored = self.stored(records)
        if self.no_data is None:
            return np.zeros(len(stored), bool)
        if np.isnan(self.no_data):
            return np.isnan(stored)
        with np.errstate(over="ignore"):  # a float64 may be beyond float32
            return stored == self.dtype.type(self.no_data)

    def store(self, records: np.ndarray, values: np.ndarray) -> None:
        """Write unscaled values into ``(n, record length)`` uint8 records."""
        stored = self.stored(records)
        if self.mask:
            stored &= np.uint8(~self.mask & 0xFF)
            stored |= values.astype(np.uint8) << np.uint8(self.lowest_bit)
        else:
            stored[:] = values

    def stored(self, records: np.ndarray) -> np.ndarray:
        """A ``(n,)`` view of the stored values, with all bits of their bytes."""
        return np.ndarray(
            len(records), self.dtype, records, self.start, records.strides[:1]
        )

    @property
    def lowest_bit(self) -> int:
        """Number of the lowest bit of `mask`."""
        return (self.mask & -self.mask).bit_length() - 1


@dataclass(frozen=True)
class ExtraField:
    """One entry of the extra-bytes record: one dimension, or one per element."""

    name: str
    start: int
    dtype: np.dtype
    scales: tuple[float, ...]
    shifts: tuple[float, ...]
    no_data: tuple[float | None, ...]

    @property
    def stop(self) -> int:
        """Byte at which the field ends in the record."""
        return self.start + len(self.scales) * self.dtype.itemsize

    def dimensions(self) -> list[Dimension]:
        """The dimensions of the field; of several elements, ``name[0]`` and on."""
        single = len(self.scales) == 1
        return [
            Dimension(
                self.name if single else f"{self.name}[{element}]",
                self.start + element * self.dtype.itemsize,
                self.dtype,
                scale=scale,
                shift=shift,
                extra=True,
                no_data=no_data,
            )
            for element, (scale, shift, no_data) in enumerate(
                zip(self.scales, self.shifts, self.no_data, strict=True)
            )
        ]


def standard_dimensions(point_format: int) -> dict[str, Dimension]:
    """The dimensions of a LAS point format by name."""
    found: dict[str, Dimension] = {}
    composed = COMPOSED_FIELDS[point_format]
    for name, (dtype, start) in ALL_POINT_FORMATS_DTYPE[point_format].fields.items():
        for part in composed.get(name, ()):
            found[part.name] = Dimension(part.name, start, dtype, mask=part.mask)
        if name not in composed:
            found[name] = Dimension(name, start, dtype)
    return found


def standard_length(point_format: int) -> int:
    """Bytes of a point record without extra dimensions."""
    return ALL_POINT_FORMATS_DTYPE[point_format].itemsize


def dimensions_of(header: FileHeader) -> dict[str, Dimension]:
    """All dimensions of the point records by name, standard ones first.

    Of two dimensions with the same name only the first is listed.
    """
    found = standard_dimensions(header.point_format)
    for field in extra_fields(header)[0]:
        for dimension in field.dimensions():
            found.setdefault(dimension.name, dimension)
    return found


def extra_fields(header: FileHeader) -> tuple[list[ExtraField], np.ndarray]:
    """The extra fields in their order in the record, and their entries.

    Returns:
        The fields, and the ``(m,)`` entries of the extra-bytes record that
        describe them. An entry that does not fit the record ends the list;
        bytes after the last field are not described by the file.
    """
    data = header.data(EXTRA_BYTES) or b""
    whole = len(data) - len(data) % EXTRA_BYTES_ENTRY.itemsize
    entries = np.frombuffer(data[:whole], EXTRA_BYTES_ENTRY)
    start = standard_length(header.point_format)
    found: list[ExtraField] = []
    for entry in entries:
        field = _extra_field(entry, start)
        if field is None or field.stop > header.record_length:
            break
        found.append(field)
        start = field.stop
    return found, entries[: len(found)]


def _extra_field(entry: np.void, start: int) -> ExtraField | None:
    name = entry["name"].split(b"\0")[0].decode("utf-8", "replace")
    code, options = int(entry["data_type"]), int(entry["options"])
    if code > 30:
        return None
    if code == 0:  # not typed: `options` counts the bytes
        ones, zeros, nones = (1.0,) * options, (0.0,) * options, (None,) * options
        return ExtraField(name, start, np.dtype("u1"), ones, zeros, nones)
    elements = (code - 1) // 10 + 1
    scales = entry["scale"].tolist() if options & SCALED else [1.0] * 3
    shifts = entry["offset"].tolist() if options & SHIFTED else [0.0] * 3
    dtype = np.dtype(EXTRA_TYPES[(code - 1) % 10])
    no_data: list[float | None] = [None] * 3
    if options & NO_DATA:
        data = bytes(entry["no_data"])
        no_data = [_no_data(data[i : i + 8], dtype) for i in (0, 8, 16)]
    return ExtraField(
        name,
        start,
        dtype,
        tuple(scales[:elements]),
        tuple(shifts[:elements]),
        tuple(no_data[:elements]),
    )


def _no_data(data: bytes, dtype: np.dtype) -> float | None:
    """The no-data value of 8 bytes; None where the type cannot hold it.

    The standard stores it in the widest type of its kind; some writers store it in
    the type of the dimension.
    """
    wide = np.frombuffer(data, f"<{dtype.kind}8")[0]
    narrow = np.frombuffer(data[: dtype.itemsize], dtype)[0]
    if dtype.kind == "f":
        # The bits of a narrow number are a tiny wide one, 1e-314 or so.
        return float(narrow if 0 < abs(wide) < np.finfo(wide.dtype).tiny else wide)
    limits = np.iinfo(dtype)
    return int(wide if limits.min <= wide <= limits.max else narrow)
