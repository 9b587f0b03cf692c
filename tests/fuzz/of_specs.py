"""Specs: values, keys, YAML's own notations, bytes, and `--set`."""

import shutil
from pathlib import Path

import yaml

from tests.conftest import SPEC
from tests.fuzz.mutations import change_bytes, change_value, odd_value

CONFIGS = Path(__file__).parents[2] / "configs"
BASES = sorted(path.name for path in CONFIGS.glob("*.yaml"))
LINES = [
    *("extends: spec.yaml", "extends: [spec.yaml, other.yaml]", "extends: .", "\t- a"),
    *("extends: ~nobody/a.yaml", 'extends: "a\\0b"', "? [a, b]\n: c", "<<: {a: 1}"),
    *("seed: !!python/object/apply:os.system [ls]", "x: &a [*a, *a]", "--- \n...\n---"),
    *("seed: 1_000", "seed: 0o17", "seed: 1:30", "seed: 2026-01-01", "%YAML 9.9"),
    *("a: &x [1]\nb: &y [*x, *x]\nc: &z [*y, *y]\nd: [*z, *z]", "seed: *unknown", "{"),
    *("classes: *ground", "clouds: *.laz", "seed: 1e-3", "seed: .nan", "no: yes", "]"),
]


def prepare(shared):
    """Read the specs that are changed."""
    (shared / "spec.yaml").write_text(SPEC)
    for name in BASES:
        shutil.copy(CONFIGS / name, shared)


def texts():
    return [SPEC, *((CONFIGS / name).read_text() for name in BASES)]


def attempt(rng, judge, shared):
    """Change a spec, and check it."""
    found = texts()
    data = changed(found[rng.integers(len(found))], rng)
    path = judge.folder / "changed.yaml"
    path.write_bytes(data)
    for name in ("spec.yaml", *BASES):
        shutil.copy(shared / name, judge.folder / name)
    overrides = []
    if rng.random() < 0.2:
        overrides = ["--set", override(rng)]
    judge.command("check", str(path), "--no-files", *overrides)
    if rng.random() < 0.1:
        judge.command("check", str(path))
        judge.command("plan", str(path))


def changed(text, rng):
    kind = rng.integers(6)
    if kind < 3:
        value = yaml.safe_load(text)
        for _ in range(rng.integers(1, 4)):
            value = change_value(value, rng)
        try:
            dumped = yaml.safe_dump(value, sort_keys=False, allow_unicode=bool(kind))
        except RecursionError:  # nested too deep for PyYAML, not for a file
            dumped = "[" * 2000 + "]" * 2000
        return dumped.encode("utf-8", "surrogatepass")
    lines = text.splitlines()
    place = int(rng.integers(len(lines)))
    if kind == 3:
        lines.insert(place, LINES[rng.integers(len(LINES))])
    elif kind == 4:
        other = lines[rng.integers(len(lines))]
        lines[place] = " " * int(rng.integers(0, 5)) + other.strip()
    data = "\n".join(lines).encode()
    return change_bytes(data, rng) if kind == 5 else data


def override(rng):
    keys = ["seed", "classes", "training.epochs", "model.stages.0.points", "a..b", ""]
    keys += [
        "fields.radius",
        "features",
        "clouds.train",
        "prediction.write",
        "classes.",
    ]
    value = str(odd_value(rng))[:3000].replace("\ud800", "?")
    return f"{keys[rng.integers(len(keys))]}{rng.choice(['=', '', '=='])}{value}"
