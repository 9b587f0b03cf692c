"""Model files: the zip, its config, its weights, and bombs."""

import json
import zipfile

from tests.fuzz.mutations import (
    change_bytes,
    change_value,
    dump_json,
    read_zip,
    write_zip,
)
from tests.fuzz.of_records import make_run

BOMB = 700 << 20  # bytes


def prepare(shared):
    """Train a small run, and load what opens models."""
    make_run(shared)
    import vl3d_lite.model.files  # noqa: F401  takes seconds, once


def attempt(rng, judge, shared):
    """Damage a model, describe it and load it."""
    from vl3d_lite.model.files import load_model

    data = damaged((shared / "run/model.keras").read_bytes(), rng)
    path = judge.folder / "model.keras"
    path.write_bytes(data)
    judge.command("inspect", str(path))
    judge.call("load_model", load_model, path)


def damaged(data, rng):
    if rng.random() < 0.2:
        return change_bytes(data, rng)
    entries = read_zip(data)
    names = list(entries)
    name = names[rng.integers(len(names))]
    kind = rng.integers(10)
    if kind < 6:
        value = json.loads(entries["config.json"])
        for _ in range(rng.integers(1, 3)):
            value = change_value(value, rng)
        entries["config.json"] = dump_json(value, rng)
    elif kind == 6:
        del entries[name]
    elif kind == 7:
        entries[("../outside", "/tmp/outside", "a" * 300)[rng.integers(3)]] = b"x"
    elif kind == 8 and rng.random() < 0.05:
        entries[name] = b" " * BOMB
    else:
        entries[name] = change_bytes(entries[name], rng)
    return write_zip(entries, zipfile.ZIP_DEFLATED)
