"""Signals to whole processes at fixed moments; `python -m tests.signals` draws them."""

import shutil
import signal
import subprocess
import sys
import time

import laspy
import pytest

from vl3d_lite import pipeline
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import read_spec

# Seconds after which a process hangs; the machine may be very busy.
LIMIT = 300


@pytest.fixture
def start():
    """Starts a command; ends it if the test fails or hangs."""
    started = []

    def start(*args):
        words = [sys.executable, "-m", "vl3d_lite", *map(str, args), "--quiet"]
        piped = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*words, "--threads", "2"], text=True, **piped)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def send_when(process, number, happened):
    """Send a signal once something happened; return the exit code and the message."""
    end = time.monotonic() + LIMIT
    while not happened():
        assert process.poll() is None, process.communicate(timeout=LIMIT)[1]
        assert time.monotonic() < end, "the process hangs"
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=LIMIT)
    return process.returncode, errors


def records(path):
    return laspy.read(path).points.array.tobytes()


@pytest.mark.slow
def test_a_terminated_prediction_goes_on_to_equal_outputs(
    trained, place, tmp_path, start
):
    clouds = [place / f"{name}.laz" for name in ("test", "val", "train")]
    out = tmp_path / "out"
    process = start("predict", trained.root, *clouds, "--output", out)
    first = out / "test.laz"
    code, errors = send_when(process, signal.SIGTERM, first.exists)
    assert code == 143
    assert errors.strip()
    assert "Traceback" not in errors
    assert not (out / "train.laz").exists()
    assert not list(out.rglob("*.part"))
    written = first.stat().st_mtime_ns
    options = Options(resume=True, threads=2, quiet=True)
    pipeline.predict(trained, clouds, out, options=options)
    assert first.stat().st_mtime_ns == written  # finished files stay
    whole = tmp_path / "whole"
    pipeline.predict(trained, clouds, whole, options=Options(threads=2, quiet=True))
    for cloud in clouds:
        assert records(out / cloud.name) == records(whole / cloud.name)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_equal_predictions(trained, place, tmp_path, start):
    cut = RunFolder(shutil.copytree(trained.root, tmp_path / "cut"))
    shutil.rmtree(cut.root / "predictions")  # as where the training has just ended
    for left in (*cut.root.glob("metrics.*"), *cut.root.glob("report.*")):
        left.unlink()
    spec = place / "spec.yaml"
    process = start("run", spec, "--run", cut.root, "--resume")
    folder = cut.root / "predictions"
    code, _ = send_when(process, signal.SIGKILL, folder.exists)
    assert code == -signal.SIGKILL
    assert not (cut.root / "report.html").exists()
    pipeline.run(read_spec(spec), cut, Options(resume=True, threads=2, quiet=True))
    (resumed,) = folder.rglob("*.laz")
    (expected,) = (trained.root / "predictions").rglob("*.laz")
    assert records(resumed) == records(expected)
    assert (cut.root / "report.html").is_file()
    assert not list(cut.root.rglob("*.part"))
