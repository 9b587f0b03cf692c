"""Command lines: odd paths, values and options."""

import os
import shutil

from tests.conftest import SPEC, write_place
from tests.fuzz.mutations import TEXTS, odd_value

COMMANDS = {
    "run": ["SPEC"],
    "check": ["SPEC"],
    "plan": ["SPEC"],
    "init": ["CLOUD"],
    "train": ["SPEC"],
    "predict": ["RUN", "CLOUD"],
    "evaluate": ["RUN"],
    "verify": ["RUN"],
    "export": ["RUN"],
    "inspect": ["ANY"],
    "convert": ["ANY"],
    "compare": ["RUN", "RUN"],
    "ensemble": ["RUN", "RUN"],
    "schema": [],
    "fly": [],
}
OPTIONS = [
    *("--run", "--output", "--set", "--threads", "--classes", "--predictions"),
    *("--rotations", "--cloud", "--html", "--split-into", "--resume", "--overwrite"),
    *("--quiet", "--replace", "--dry-run", "--no-files", "--help", "--nonsense"),
]
FLAGS = OPTIONS[10:]


def prepare(shared):
    """Make files of every sort, none of which is a whole run."""
    if (shared / "room").is_dir():
        return
    room = shared / "room"
    room.mkdir()
    write_place(room / "cloud.laz", 0, n=500)
    (room / "spec.yaml").write_text(SPEC)
    for name in ("a[1].laz", "~backup.laz", "a b.las", "-x.laz", "ü.laz"):
        shutil.copy(room / "cloud.laz", room / name)
    shutil.copy(room / "cloud.laz", os.fsencode(room) + b"/\xff\xfe.laz")
    (room / "empty").touch()
    (room / "folder").mkdir()
    run = room / "half"
    run.mkdir()
    (run / "run.json").write_text('{"vl3d_lite": "0.2.0"}')


def attempt(rng, judge, shared):
    """Give a command words that do not fit."""
    names = list(COMMANDS)
    name = names[rng.integers(len(names))]
    shutil.copytree(shared / "room", judge.folder, dirs_exist_ok=True)
    os.mkfifo(judge.folder / "pipe.laz")
    (judge.folder / "loop").symlink_to("loop")
    words = [name]
    for sort in COMMANDS[name]:
        words.append(word(sort, rng))
    for _ in range(rng.integers(0, 4)):
        words += option(rng)
    if name in ("run", "train") and "--run" not in words:
        words += ["--run", "empty"]  # a file: nothing is trained
    judge.command(*words, writes=[judge.folder])


def word(sort, rng):
    paths = ["spec.yaml", "cloud.laz", "empty", "folder", "half", "pipe.laz", "loop"]
    paths += [
        "a[1].laz",
        "~backup.laz",
        "-x.laz",
        "nowhere",
        "*.laz",
        os.fsdecode(b"\xff\xfe.laz"),
    ]
    usual = {"SPEC": "spec.yaml", "CLOUD": "cloud.laz", "RUN": "half"}
    if rng.random() < 0.3 and sort in usual:
        return usual[sort]
    if rng.random() < 0.7:
        return paths[rng.integers(len(paths))]
    return as_word(TEXTS[rng.integers(len(TEXTS))])


def option(rng):
    name = OPTIONS[rng.integers(len(OPTIONS))]
    if name in FLAGS:
        return [name]
    if name == "--set":
        keys = ["seed", "fields.radius", "clouds.train", "nowhere", "classes.ground"]
        return [name, f"{keys[rng.integers(len(keys))]}={as_word(odd_value(rng))}"]
    return [name, word("ANY", rng) if rng.random() < 0.6 else as_word(odd_value(rng))]


def as_word(value):
    """Text as an operating system passes it: without null, in its encoding."""
    text = str(value)[:4000].replace("\0", "").replace("\ud800", "\udcff")
    return text
