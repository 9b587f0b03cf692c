"""One trial: a command, a signal at a moment, and what follows."""

import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import write_place
from tests.signals.verbs import VERBS
from vl3d_lite.cli.options import load_pipeline

MOST_SECONDS = 10.0  # from a signal to the end of the process
LIMIT = 900.0  # seconds of any process; the machine may be very busy
# The least that has every step of a command: a signal comes between steps, and their
# length makes trials expensive alone.
SPEC = """\
classes: {ground: 2, vegetation: {codes: [3, 5], output_code: 5}, building: 6}
clouds: {train: [train.laz], validation: [val.laz], predict: [test.laz]}
features: [height, return_ratio]
fields: {radius: 8, grid_size: 0.5}
model:
  stages: [{points: 128, channels: 4, neighbors: 4, blocks: [kpconvx]}]
  kpconvx: {groups: 2, hidden_ratio: 2}
training: {epochs: 3, steps_per_epoch: 4, batch_size: 2, learning_rate: 0.01, jit: off}
prediction: {write: [prediction, confidence]}
export: {plots: false, every: 2}
"""
# A signal while the interpreter shuts down ends the process by the operating system,
# which shells report with the same code.
CODES = {
    signal.SIGTERM: {143, -signal.SIGTERM},
    signal.SIGINT: {130, -signal.SIGINT},
    signal.SIGKILL: {-signal.SIGKILL},
}
CLOUDS = ("train.laz", "val.laz", "test.laz")
DRAFT = re.compile(r"\.part|\.tmp")


def make_room(room: Path) -> None:
    """Make the clouds and a trained run."""
    base = room / "base"
    base.mkdir(parents=True)
    for seed, name in enumerate(CLOUDS):
        write_place(base / name, seed, n=2000)
    (base / "spec.yaml").write_text(SPEC)
    _train_base(base, "run", 3)


def add_twin(room: Path) -> None:
    """Train a second run beside the first, if there is none."""
    if not (room / "base/twin").exists():
        _train_base(room / "base", "twin", 4)


def _train_base(base: Path, run: str, seed: int) -> None:
    words = ["run", "spec.yaml", "--run", run, "--quiet", "--set", f"seed={seed}"]
    code, errors = finish(base, *words)
    assert code == 0, errors


def start(folder: Path, *words: str) -> subprocess.Popen:
    """Start a command in a folder."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        [sys.executable, "-m", "vl3d_lite", *words],
        cwd=folder,
        env=quiet,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path, *words: str) -> tuple[int, str]:
    """Run a command to its end in a fork of this process.

    The fork spares the imports of Keras, which are most of the processor time of a
    short command. This process must compute nothing with Keras itself.

    Returns:
        Its exit code, -SIGKILL where it did not end within `LIMIT`, and its stderr.
    """
    load_pipeline()
    errors = folder.with_name(f"{folder.name}.stderr")
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=_run_command, args=(folder, words, errors))
    process.start()
    process.join(LIMIT)
    if process.is_alive():
        process.kill()
        process.join()
    assert process.exitcode is not None
    return process.exitcode, errors.read_text()


def _run_command(folder: Path, words: tuple[str, ...], errors: Path) -> None:
    from vl3d_lite.__main__ import main

    os.chdir(folder)
    with open(os.devnull, "w") as null, open(errors, "w") as file:
        os.dup2(null.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["vl3d-lite", *words]
    main()


def fresh(room: Path, name: str) -> Path:
    """A folder with clouds and spec, and with the runs if the command needs them."""
    folder = room / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    verb = VERBS[name]
    needed = {"run": verb.needs_run, "twin": verb.needs_twin}
    ignore = shutil.ignore_patterns(*(run for run in needed if not needed[run]))
    shutil.copytree(room / "base", folder, ignore=ignore)
    return folder


def reference(room: Path, name: str) -> tuple[dict, float]:
    """What a command leaves without a signal, and its seconds."""
    folder = fresh(room, name)
    began = time.monotonic()
    process = start(folder, *VERBS[name].words)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode in VERBS[name].codes, errors
    return VERBS[name].results(folder), time.monotonic() - began


def trial(room: Path, name: str, number: int, after: float, expected: dict) -> str:
    """Send a signal to a command, and let it go on.

    Args:
        room: Where `make_room` was called.
        name: The command.
        number: The signal.
        after: Seconds after the start.
        expected: What the command leaves without a signal.

    Returns:
        What is wrong; empty if nothing is.
    """
    verb, folder = VERBS[name], fresh(room, name)
    inputs = digests(folder)
    process = start(folder, *verb.words)
    if number != signal.SIGKILL:
        wait_until_caught(process)
    time.sleep(after)
    process.send_signal(number)
    sent = time.monotonic()
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "the process goes on"
    waited, code = time.monotonic() - sent, process.returncode
    if code not in CODES[signal.Signals(number)] | verb.codes:
        return f"exit code {code}: {errors}"
    if waited > MOST_SECONDS and code not in verb.codes:
        return f"ended after {waited:.1f} s"
    if "Traceback" in errors or "internal error" in errors:
        return errors
    if code > 2 and not errors.strip():
        return "no message"
    left = [path for path in folder.rglob("*") if DRAFT.search(path.name)]
    if left and number != signal.SIGKILL and code > 0:
        return f"left {left}"
    if digests(folder) != inputs:
        return "an input has changed"
    return go_on(folder, name, expected)


def wait_until_caught(process: subprocess.Popen) -> None:
    """Wait for the first line of the program; before it Python itself is loading."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = re.search(r"SigCgt:\s*(\w+)", status.read_text())
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


def go_on(folder: Path, name: str, expected: dict) -> str:
    """Run a command again, which ended early; return what is wrong."""
    verb = VERBS[name]
    for more in verb.more:
        code, errors = finish(folder, *verb.words, *more)
        if code != 2:
            break
    if code not in verb.codes:
        return f"exit code {code} with {more}: {errors}"
    left = [path for path in folder.rglob("*") if DRAFT.search(path.name)]
    if left:
        return f"left {left} after {more}"
    try:
        results = verb.results(folder)
    except Exception as error:
        return f"after {more}: {error!r}"
    different = [key for key in expected if results.get(key) != expected[key]]
    return f"different after {more}: {different}" if different else ""


def digests(folder: Path) -> dict[str, str]:
    """The hashes of the inputs."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (*CLOUDS, "spec.yaml")
    }
