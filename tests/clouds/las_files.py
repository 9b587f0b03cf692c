"""LAS files made by laspy for the tests, and a reader of their bytes."""

import struct

import laspy
import numpy as np

FORMATS = {
    "1.0": (0, 1),
    "1.1": (0, 1),
    "1.2": (0, 1, 2, 3),
    "1.3": (0, 1, 2, 3, 4, 5),
    "1.4": tuple(range(11)),
}
VERSIONS_AND_FORMATS = [(v, f) for v, formats in FORMATS.items() for f in formats]


def make_las(
    path,
    version="1.4",
    point_format=6,
    *,
    count=257,
    scale=(0.01, 0.01, 0.001),
    offset=(500_000.0, 4_800_000.0, -20.0),
    extra=(),
    crs=None,
    vlrs=(),
    seed=0,
):
    """Write a file whose every dimension holds random bits; return `path`."""
    rng = np.random.default_rng(seed)
    written = "1.2" if version == "1.0" else version
    header = laspy.LasHeader(version=written, point_format=point_format)
    header.scales, header.offsets = np.array(scale), np.array(offset)
    header.add_extra_dims([laspy.ExtraBytesParams(**params) for params in extra])
    if crs is not None:
        header.add_crs(crs)
    header.vlrs.extend(vlrs)
    record = laspy.ScaleAwarePointRecord.zeros(count, header=header)
    bits = rng.integers(0, 256, (count, record.array.dtype.itemsize), np.uint8)
    record.array[:] = bits.view(record.array.dtype)[:, 0]
    for axis in "XYZ":
        record[axis] = rng.integers(-1_000_000, 1_000_000, count)
    for name, (dtype, _) in record.array.dtype.fields.items():
        if dtype.base.kind == "f":
            shape = record.array[name].shape
            record.array[name] = rng.normal(size=shape)
    las = laspy.LasData(header, record)
    las.write(path)
    if version == "1.0":
        patch(path, 25, "<B", 0)
    return path


def patch(path, position, layout, *values):
    """Overwrite bytes of a file."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, position, *values)
    path.write_bytes(bytes(data))


def split(path):
    """Header block, variable length records and extended ones, as bytes."""
    data = path.read_bytes()
    size, _, count = struct.unpack_from("<HII", data, 94)
    position, vlrs = size, []
    for _ in range(count):
        length = 54 + struct.unpack_from("<H", data, position + 20)[0]
        vlrs.append(data[position : position + length])
        position += length
    evlrs = []
    if data[25] >= 4:
        position, count = struct.unpack_from("<QI", data, 235)
        for _ in range(count):
            length = 60 + struct.unpack_from("<Q", data, position + 20)[0]
            evlrs.append(data[position : position + length])
            position += length
    return data[:size], vlrs, evlrs


def vlr_bytes(user, number, data, description=b"", extended=False):
    """One variable length record as bytes."""
    layout = "<H16sHQ32s" if extended else "<H16sHH32s"
    return struct.pack(layout, 0xAABB, user, number, len(data), description) + data


def insert_vlr(path, record):
    """Put a record of any bytes before those that a LAS file has."""
    data = bytearray(path.read_bytes())
    size, start, count = struct.unpack_from("<HII", data, 94)
    struct.pack_into("<II", data, 96, start + len(record), count + 1)
    if data[25] >= 4:
        first = struct.unpack_from("<Q", data, 235)[0]
        struct.pack_into("<Q", data, 235, first + len(record) if first else 0)
    data[size:size] = record
    path.write_bytes(bytes(data))


def make_las_1_5(path, **options):
    """Write a LAS 1.5 file: its header has 18 bytes more than one of LAS 1.4."""
    data = bytearray(make_las(path, **options).read_bytes())
    (start,) = struct.unpack_from("<I", data, 96)
    struct.pack_into("<B", data, 25, 5)
    struct.pack_into("<HI", data, 94, 393, start + 18)
    data[375:375] = struct.pack("<2dH", 1.5, 0.5, 3)  # GPS time: range and offset
    path.write_bytes(bytes(data))
    return path


def append_evlr(path, record):
    """Put an extended record at the end of a LAS 1.4 file."""
    data = bytearray(path.read_bytes())
    first, count = struct.unpack_from("<QI", data, 235)
    struct.pack_into("<QI", data, 235, first or len(data), count + 1)
    path.write_bytes(bytes(data) + record)


def everything(path):
    """Every dimension of a file as laspy reads it, unscaled where stored so."""
    las = laspy.read(path)
    values = {}
    for name in las.point_format.dimension_names:
        view = las.points[name]
        values[name] = np.array(getattr(view, "array", view))
        if hasattr(view, "bit_mask"):
            values[name] = np.array(view)
    return values
