"""LAS and LAZ files: fields of the header, records, chunks and points."""

import struct

import laspy
import numpy as np

from tests.clouds.las_files import make_las
from tests.conftest import SPEC, write_place
from tests.fuzz.mutations import NUMBERS, change_bytes
from vl3d_lite.clouds.writing import write_las

# Offset and layout of the fields of the header.
FIELDS = [
    *((0, "4s"), (6, "H"), (24, "B"), (25, "B"), (94, "H"), (96, "I"), (100, "I")),
    *((104, "B"), (105, "H"), (107, "I"), (227, "Q"), (235, "Q"), (243, "I")),
    *((247, "Q"), *((position, "I") for position in range(111, 131, 4))),
    *((position, "d") for position in range(131, 227, 8)),
]
CLOUDS = {
    "las_10": dict(version="1.0", point_format=1),
    "las_12": dict(version="1.2", point_format=3),
    "las_14": dict(version="1.4", point_format=7),
    "laz_12": dict(version="1.2", point_format=1),
    "laz_14": dict(version="1.4", point_format=6),
    "laz_waves": dict(version="1.4", point_format=8),
}
EXTRA = [{"name": "amplitude", "type": "u2"}, {"name": "normal", "type": "3f4"}]


def prepare(shared):
    """Make a cloud of each sort, and a labeled place."""
    if (shared / "spec.yaml").exists():
        return
    for name, options in CLOUDS.items():
        path = shared / f"{name}.{name[:3]}"
        make_las(path, **options, extra=EXTRA, count=300)
    for epsg, name in ((25832, "utm"), (2263, "feet"), (4326, "degrees")):
        las = laspy.LasHeader(version="1.4", point_format=6)
        las.add_crs(pyproj_crs(epsg))
        file = laspy.LasData(las)
        file.x, file.y, file.z = np.random.default_rng(0).uniform(0, 90, (3, 200))
        file.write(shared / f"{name}.las")
    write_place(shared / "place.laz", 0, n=2000)
    (shared / "spec.yaml").write_text(SPEC)


def pyproj_crs(epsg):
    import pyproj

    return pyproj.CRS.from_epsg(epsg)


def attempt(rng, judge, shared):
    """Damage a cloud, and describe, check, propose for and rewrite it."""
    clouds = sorted(shared.glob("*.la[sz]"))
    base = clouds[rng.integers(len(clouds))]
    data = base.read_bytes()
    for _ in range(rng.integers(1, 4)):
        data = damaged(data, rng)
    path = judge.folder / f"scan{base.suffix}"
    path.write_bytes(data)
    spec = judge.folder / "spec.yaml"
    spec.write_bytes((shared / "spec.yaml").read_bytes())
    judge.command("inspect", str(path))
    kind = rng.integers(10)
    if kind < 3:
        group = ("train", "validation", "predict")[rng.integers(3)]
        judge.command("check", str(spec), *only(group, path))
    elif kind < 5:
        judge.command("init", str(path), "--output", str(judge.folder / "new.yaml"))
    elif kind == 5:
        judge.command("plan", str(spec), *only("train", path))
    else:
        values = {
            "prediction": (lambda start, stop: np.zeros(stop - start, "u2"), "u2")
        }
        judge.call("write_las", write_las, path, judge.folder / "out.laz", values)


def only(group, path):
    """Options by which a spec has one cloud in one group."""
    words = []
    for name in ("train", "validation", "predict"):
        words += ["--set", f"clouds.{name}=[{path if name == group else ''}]"]
    return words


def damaged(data, rng):
    """Change a field of the header, a record, or some bytes."""
    kind = rng.integers(5)
    if kind < 2 and len(data) > 260:
        position, layout = FIELDS[rng.integers(len(FIELDS))]
        return replaced(data, position, layout, rng)
    if kind == 2 and len(data) > 600:  # the records before the points
        start = int(rng.integers(227, 600))
        return data[:start] + change_bytes(data[start:600], rng) + data[600:]
    if kind == 3 and len(data) > 500:  # the table of chunks, extended records
        start = len(data) - int(rng.integers(8, 200))
        return data[:start] + change_bytes(data[start:], rng)
    return change_bytes(data, rng)


def replaced(data, position, layout, rng):
    data = bytearray(data)
    if layout == "4s":
        struct.pack_into(layout, data, position, rng.bytes(4))
    elif layout == "d":
        value = rng.choice([n for n in NUMBERS if abs(n) < 2**64 or n != n])
        old = struct.unpack_from("<d", data, position)[0]
        value = value if rng.random() < 0.7 else old * 10.0 ** rng.integers(-12, 12)
        struct.pack_into("<d", data, position, float(value))
    else:
        size = 256 ** struct.calcsize(layout)
        old = struct.unpack_from("<" + layout, data, position)[0]
        odd = [n for n in NUMBERS if isinstance(n, int)]
        value = odd[rng.integers(len(odd))] if rng.random() < 0.6 else old
        value += int(rng.integers(-2, 3))
        struct.pack_into("<" + layout, data, position, value % size)
    return bytes(data)
