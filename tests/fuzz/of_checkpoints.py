"""Checkpoints: the zip, the headers of its arrays, the arrays, the progress."""

import io
import json
import shutil
import zipfile

import numpy as np

from tests.fuzz.mutations import (
    change_bytes,
    change_value,
    dump_json,
    read_zip,
    write_zip,
)
from tests.fuzz.of_records import make_run

NAMES = ["last.npz", "previous.npz", "best.npz", "initial_kernels.npz"]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]


class Variable:
    """What `restore` uses of a variable."""

    def __init__(self, value, path):
        self.shape, self.path = value.shape, path

    def assign(self, value):
        np.broadcast_to(value, self.shape).astype("f4")


class Model:
    """What `restore` uses of a model."""

    def __init__(self, variables):
        self.variables, self.optimizer = variables, type("", (), {"variables": []})


def prepare(shared):
    """Train a small run, and load what reads checkpoints."""
    make_run(shared)
    import vl3d_lite.training.checkpoints  # noqa: F401  takes seconds, once


def attempt(rng, judge, shared):
    """Damage checkpoints, and restore them as a training does."""
    from vl3d_lite.runs.folder import RunFolder
    from vl3d_lite.training import checkpoints

    run = judge.folder / "run"
    shutil.copytree(shared / "run", run)
    folder = run / "checkpoints"
    with np.load(folder / "last.npz") as file:
        values = [file[f"v{n}"] for n in range(len(file.files) - 1)]
    for name in NAMES:
        path = folder / name
        if path.exists() and rng.random() < 0.6:
            path.write_bytes(damaged(path.read_bytes(), rng))
    variables = [Variable(value, f"v{n}") for n, value in enumerate(values)]
    judge.call("restore", checkpoints.restore, RunFolder(run), Model(variables))
    best = folder / "best.npz"
    judge.call("load_variables", checkpoints.load_variables, best, variables[:1])


def damaged(data, rng):
    """Damage the zip, an array in it, or the progress."""
    if rng.random() < 0.25:
        return change_bytes(data, rng)
    entries = read_zip(data)
    names = list(entries)
    name = names[rng.integers(len(names))]
    if "progress.npy" in entries and rng.random() < 0.4:
        entries["progress.npy"] = progress(entries["progress.npy"], rng)
    elif rng.random() < 0.2:
        entries[f"{name[:-4]}_.npy"] = entries.pop(name)
    elif rng.random() < 0.2:
        del entries[name]
    else:
        entries[name] = array(entries[name], rng)
    return write_zip(entries, METHODS[rng.integers(len(METHODS))])


def progress(data, rng):
    value = json.loads(str(np.load(io.BytesIO(data), allow_pickle=False)))
    text = dump_json(change_value(value, rng), rng).decode("utf-8", "replace")
    return saved(np.array(text))


def array(data, rng):
    kind = rng.integers(5)
    value = np.load(io.BytesIO(data), allow_pickle=False)
    if kind == 0:
        return change_bytes(data[:128], rng) + data[128:]
    if kind == 1:
        return change_bytes(data, rng)
    if kind == 2:
        return data.replace(b"'shape': (", b"'shape': (9999999999, ")
    dtypes = ["f2", "i8", "c8", "S3", "M8[s]", "?", ">f4", "V4"]
    if kind == 3 and value.dtype.kind == "f":
        return saved(np.zeros(value.shape, dtypes[rng.integers(len(dtypes))]))
    return saved(np.zeros((3, *value.shape[:1]), "f4"))


def saved(value):
    stream = io.BytesIO()
    np.save(stream, value)
    return stream.getvalue()
