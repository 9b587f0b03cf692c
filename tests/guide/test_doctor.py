"""`doctor`, on this machine and on machines that lack something."""

import os
import re
import subprocess
import sys

import pytest

from vl3d_lite.guide import doctor
from vl3d_lite.guide.doctor import (
    Finding,
    SelfTest,
    describe_findings,
    installation_works,
    run_self_test,
)

GOOD = {
    "backend": {"step": "backend", "name": "tensorflow", "keras": "3"},
    "gpus": {"step": "gpus", "seen": 1},
    "gpu": {"step": "gpu", "number": 0, "works": True},
    "xla": {"step": "xla", "works": True, "seconds": 0.2},
}


def shadow(folder, module, text):
    """A package of that name that is found before the real one."""
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text(text)


def examined(folder):
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "vl3d_lite", "doctor"],
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "PYTHONPATH": paths},
    )


@pytest.mark.slow
def test_training_works_without_a_library_of_open3d(tmp_path):
    missing = "libusb-1.0.so.0: cannot open shared object file"
    shadow(tmp_path, "open3d", f"raise OSError({missing!r})")
    result = examined(tmp_path)
    assert result.returncode == 0, result.stdout
    report = dict(re.findall(r"^(\w+) {2,}(.+)$", result.stdout, re.M))
    assert report["training"].startswith("works: four steps on a .laz file")
    assert report["open3d"].startswith("cannot be loaded; SciPy replaces it")
    assert missing in result.stdout
    assert "libusb-1.0-0" in result.stdout
    assert result.stdout.endswith("Training works.\n")
    others = {"backend", "GPU", "XLA", "memory", "processors", "LAZ", "packages"}
    assert others <= report.keys()


@pytest.mark.slow
def test_a_backend_that_is_missing_is_exit_code_1(tmp_path):
    shadow(tmp_path, "keras", "raise ImportError('no library libfoo')")
    result = examined(tmp_path)
    assert result.returncode == 1
    assert "FAILS: backend: tensorflow cannot be loaded" in result.stdout
    assert "FAILS: training: ImportError: no library libfoo" in result.stdout
    assert "Training does not work" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("text", "error", "remedy"),
    [
        ("import os; os.kill(os.getpid(), 4)", "SIGILL", "AVX"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV", "install"),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL", "memory"),
        ("raise SystemExit('worn out')", "worn out", "install"),
        ("raise RuntimeError('odd')", "RuntimeError: odd", ""),
    ],
    ids=["illegal", "segment", "killed", "exit", "raised"],
)
def test_the_remedy_depends_on_how_a_self_test_ended(
    tmp_path, monkeypatch, text, error, remedy
):
    shadow(tmp_path, "keras", text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run_self_test("backend", str(tmp_path))
    assert error in result.error
    assert remedy in result.remedy
    assert result.found.keys() <= {"error"}


def test_a_self_test_that_hangs_is_stopped(tmp_path, monkeypatch):
    shadow(tmp_path, "keras", "import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run_self_test("backend", str(tmp_path), seconds=0.5)
    assert "did not end within 0.5 s" in result.error
    assert "busy" in result.remedy


def test_what_was_found_before_a_crash_is_kept(tmp_path, monkeypatch):
    shadow(
        tmp_path,
        "keras",
        "__version__ = '3'\n"
        "class backend:\n"
        "    def backend():\n"
        "        return 'tensorflow'\n",
    )
    shadow(tmp_path, "tensorflow", "import os; os.kill(os.getpid(), 11)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run_self_test("backend", str(tmp_path))
    assert result.found["backend"]["name"] == "tensorflow"
    findings = doctor._backend(result, 0)
    assert [(f.name, f.state) for f in findings] == [
        ("backend", "good"),
        ("GPU", "bad"),
    ]


def found(**changes):
    entries = {**GOOD, **changes}
    return {name: entry for name, entry in entries.items() if entry is not None}


def gpu_of(findings):
    (finding,) = [finding for finding in findings if finding.name == "GPU"]
    return finding


NO_GPU = {"gpus": {"step": "gpus", "seen": 0}, "gpu": None}


@pytest.mark.parametrize(
    ("changes", "machine", "state", "words"),
    [
        ({}, 1, "good", "1 found by tensorflow, usable"),
        (NO_GPU, 0, "good", "none; the CPU is used"),
        (NO_GPU, 2, "note", "2 in the machine, none found"),
        (
            {"gpu": {"number": 3, "works": False}},
            4,
            "bad",
            "3 computes wrong results",
        ),
    ],
    ids=["usable", "none", "unseen", "broken"],
)
def test_gpus_are_reported(monkeypatch, changes, machine, state, words):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    finding = gpu_of(doctor._backend(SelfTest(found(**changes)), machine))
    assert finding.state == state
    assert words in finding.text
    assert bool(finding.remedy) == (state != "good")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_no_failure(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    finding = gpu_of(doctor._backend(SelfTest(found(**NO_GPU)), 2))
    assert (finding.state, finding.remedy) == ("good", "")
    assert "hidden by CUDA_VISIBLE_DEVICES" in finding.text


def test_a_broken_gpu_prevents_training_and_broken_xla_does_not():
    gpu = SelfTest(found(gpu=None, xla=None), error="InternalError: no kernel image")
    assert gpu_of(doctor._backend(gpu, 1)).state == "bad"
    xla = SelfTest(found(xla=None), error="libdevice not found")
    finding = doctor._backend(xla, 1)[-1]
    assert (finding.name, finding.state) == ("XLA", "note")
    assert "training.jit=off" in finding.remedy


def test_another_backend_gets_a_note():
    result = SelfTest(found(backend={"name": "torch"}, xla=None))
    findings = doctor._backend(result, 1)
    assert findings[0].state == "note"
    assert "KERAS_BACKEND" in findings[0].remedy
    assert findings[-1].text == "not used with torch"


def test_gpus_are_counted_by_their_driver(tmp_path):
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    assert doctor.machine_gpus(tmp_path) == 2


def test_little_memory_gets_a_note(monkeypatch):
    monkeypatch.setattr(doctor, "memory_limit", lambda: 1 << 30)
    monkeypatch.setattr(doctor, "container_memory", lambda: 3 << 29)
    finding = doctor._memory()
    assert finding.text == "1.0 GiB free; container limit 1.5 GiB"
    assert finding.state == "note"


def test_the_verdict_follows_from_the_worst_finding():
    note = Finding("open3d", "gone", "note", "install it")
    bad = Finding("training", "does not work", "bad", "buy a computer")
    assert installation_works([note])
    assert describe_findings([note]).endswith("Training works.")
    assert not installation_works([note, bad])
    text = describe_findings([note, bad])
    assert "note: open3d: install it\nFAILS: training: buy a computer" in text
    assert "Training does not work" in text
