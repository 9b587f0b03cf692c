"""A small fixed run of the fuzzer, and that it finds what is wrong."""

import json
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
def test_the_fuzzer_finds_nothing():
    """The other kinds train a run first; their inputs are tried above."""
    command = [sys.executable, "-m", "tests.fuzz", *NEED_NO_RUN, "--count", "25"]
    done = subprocess.run(
        [*command, "--seed", str(SEED)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    for kind in NEED_NO_RUN:
        assert f"{kind}: 25 inputs, 0 findings" in done.stdout


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


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    """What is found for each attempt; in a process that no test shares."""
    program = (
        "import json, sys; from pathlib import Path\n"
        "from tests.fuzz import test_fuzz\n"
        "names = 'hang', 'crash', 'fail', 'write'\n"
        "found = {n: test_fuzz.found(n, Path(sys.argv[1]) / n) for n in names}\n"
        "print(json.dumps(found))\n"
    )
    words = [sys.executable, "-c", program, tmp_path_factory.mktemp("rooms")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


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
def test_what_is_wrong_is_found_for_every_input(attempt, expected, findings):
    texts = [text for _, text in findings[attempt.__name__]]
    assert sum(text.count(expected) for text in texts) == 2, texts


def found(attempt, room):
    """What the fuzzer finds for two inputs."""
    kind = Kind(lambda shared: None, globals()[attempt])
    result = fuzz(kind, range(2), 0, room, seconds=1)
    assert result.inputs == 2
    return result.findings
