"""A small fixed run of the fuzzer, and that it finds what is wrong."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.fuzz.harness import Kind, fuzz
from tests.fuzz.judging import Judge
from tests.fuzz.kinds import KINDS

SEED = 16


NEED_NO_RUN = ("las", "yaml", "arguments")


@pytest.fixture
def shared(tmp_path, request, kind):
    """What inputs need, with the run of all tests instead of an own one."""
    folder = tmp_path / "shared"
    folder.mkdir()
    if kind not in NEED_NO_RUN:
        shutil.copytree(request.getfixturevalue("trained").root, folder / "run")
        for path in request.getfixturevalue("place").iterdir():
            shutil.copy(path, folder)
    KINDS[kind].prepare(folder)
    return folder


def inputs(kinds, count):
    return [(kind, number) for kind in kinds for number in range(count)]


def try_input(kind, number, shared, folder, monkeypatch):
    folder.mkdir()
    monkeypatch.chdir(folder)
    judge = Judge(folder)
    KINDS[kind].attempt(np.random.default_rng([SEED, number]), judge, shared)
    assert judge.findings == []


@pytest.mark.parametrize(
    ("kind", "number"), inputs(("las", "yaml", "arguments", "json", "npz"), 3)
)
def test_an_input_ends_with_one_message_and_changes_nothing(
    kind, number, shared, tmp_path, monkeypatch
):
    try_input(kind, number, shared, tmp_path / "input", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), inputs(("keras", "runs"), 3))
def test_a_damaged_network_ends_with_one_message_and_changes_nothing(
    kind, number, shared, tmp_path, monkeypatch
):
    try_input(kind, number, shared, tmp_path / "input", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEED_NO_RUN)
def test_the_fuzzer_finds_nothing(kind):
    """The other kinds train a run first; their inputs are tried above."""
    command = [sys.executable, "-m", "tests.fuzz", kind, "--count", "25"]
    done = subprocess.run(
        [*command, "--seed", str(SEED)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "25 inputs, 0 findings" in done.stdout


def hang(rng, judge, shared):
    while rng.random() < 2:
        pass


def crash(rng, judge, shared):
    os.kill(os.getpid(), 11)


def fail(rng, judge, shared):
    judge.call("fail", {}.__getitem__, "a")


def write(rng, judge, shared):
    judge.call("write", (judge.folder / "a.txt").write_text, "b")
    judge.call("change", change, judge.folder / "a.txt")


def change(path):
    path.write_text("c")
    raise MemoryError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (hang, "hang: more than 1 s"),
        (crash, "crash: the process ended with -11"),
        (fail, "KeyError"),
        (write, "changed a file that existed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_found_for_every_input(attempt, expected, tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.fuzz import test_fuzz\n"
        "print(test_fuzz.found(sys.argv[1], Path(sys.argv[2])))\n"
    )
    words = [sys.executable, "-c", program, attempt.__name__, tmp_path / "room"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.count(expected) == 2, done.stdout


def found(attempt, room):
    """What the fuzzer finds for two inputs; in a process that no test shares."""
    kind = Kind(lambda shared: None, globals()[attempt])
    result = fuzz(kind, range(2), 0, room, seconds=1)
    assert result.inputs == 2
    return result.findings
