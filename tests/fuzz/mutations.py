"""Changes of bytes and of values, as damage, mistakes and malice make them."""

import copy
import io
import json
import zipfile

# Numbers at which counts, offsets and formats break.
NUMBERS = [
    *(0, 1, -1, 2, 7, 100, 255, 256, 65534, 65535, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**53, 2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**400, -(10**30)),
    *(0.0, -0.0, 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf")),
]
TEXTS = [
    *("", " ", "a" * 5000, "\0", "\x1b[31mred", "a\nb", "\ud800", "\u202eabc", "=1+1"),
    *("..", "../../outside.laz", "/etc/passwd", "~nobody/a.laz", "~backup.laz", "*"),
    *("a[1].laz", "NaN", "1e999", "yes", "null", "0x10", "é" * 200, "/dev/zero", "."),
    *("{{ x }}", "%s%n", "<script>alert(1)</script>", "C:\\a", "-", "--", "$HOME"),
]
OTHERS = [None, True, False, [], {}, [[]], [{}], {"": None}, [None] * 50]


def nested(depth):
    value = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def odd_value(rng):
    """A value that fits nowhere."""
    kind = rng.integers(4)
    if kind == 0:
        return NUMBERS[rng.integers(len(NUMBERS))]
    if kind == 1:
        return TEXTS[rng.integers(len(TEXTS))]
    if kind == 2:
        return copy.deepcopy(OTHERS[rng.integers(len(OTHERS))])
    return nested(int(rng.choice([3, 30, 70, 300])))


def places(value, path=()):
    """The paths of all entries inside a value of dicts and lists."""
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    else:
        return
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def change_value(value, rng):
    """Change one entry of nested dicts and lists; the original stays."""
    value = copy.deepcopy(value)
    found = list(places(value))
    if not found:
        return odd_value(rng)
    *above, key = found[rng.integers(len(found))]
    parent = value
    for step in above:
        parent = parent[step]
    kind = rng.integers(8)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif kind == 1:
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == 2:
        parent[key] = [parent[key]]
    elif kind == 3:
        parent[key] = str(parent[key])
    elif kind == 4 and isinstance(parent[key], int | float):
        parent[key] = parent[key] * float(rng.choice([-1, 2, 1e3, 1e-3, 1e12]))
    elif kind == 5:
        other = value
        for step in found[rng.integers(len(found))]:
            other = other[step] if step in keys(other) else other
        parent[key] = copy.deepcopy(other)
    else:
        parent[key] = odd_value(rng)
    return value


def keys(value):
    if isinstance(value, dict):
        return value.keys()
    return range(len(value)) if isinstance(value, list) else ()


def change_bytes(data, rng):
    """Damage bytes: flip, delete, repeat, overwrite, cut short, or append."""
    data = bytearray(data)
    kind = rng.integers(7)
    if not data or kind == 0:
        return bytes(data) + rng.bytes(int(rng.integers(1, 40)))
    start = int(rng.integers(len(data)))
    length = int(min(rng.choice([1, 2, 4, 8, 50, 500]), len(data) - start))
    if kind == 1:
        data[start] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        del data[start : start + length]
    elif kind == 3:
        data[start:start] = data[start : start + length]
    elif kind == 4:
        data[start : start + length] = rng.bytes(length)
    elif kind == 5:
        data[start : start + length] = bytes([int(rng.choice([0, 255]))]) * length
    else:
        del data[start:]
    return bytes(data)


def dump_json(value, rng):
    """JSON of a value, sometimes with damage of its text."""
    text = json.dumps(value, indent=2).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        text = text.replace(b'": ', b'": 1, "again": ', 1)
    if rng.random() < 0.05:
        text = b"\xef\xbb\xbf" + text
    if rng.random() < 0.1:
        text = change_bytes(text, rng)
    return text


def read_zip(data):
    """The content of each file of a zip archive, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write_zip(entries, method):
    """A zip archive of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()
