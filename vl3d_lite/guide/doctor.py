"""`vl3d-lite doctor`: check versions, GPUs and memory, and train a small network."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vl3d_lite.report import fact_lines
from vl3d_lite.runs import package_versions
from vl3d_lite.system import (
    NVIDIA,
    __version__,
    container_memory,
    cpu_limit,
    memory_limit,
)

TIMEOUT = 600  # s; the self-tests of an idle machine take about ten
LITTLE_MEMORY = 2 << 30  # bytes; less is too little for most scans
INSTALL = "install the program in a fresh environment: `pip install .`"
# Remedy by the signal that ended a self-test.
SIGNALS: dict[int, str] = {
    signal.SIGILL: "this build needs a processor with AVX; use a newer machine",
    signal.SIGSEGV: f"libraries are incompatible; {INSTALL}",
    signal.SIGABRT: f"libraries are incompatible; {INSTALL}",
    signal.SIGBUS: f"libraries are incompatible; {INSTALL}",
    signal.SIGKILL: "the system stopped it, probably for lack of memory; free some",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        name: What was checked.
        text: The result.
        state: ``bad`` if it prevents training, ``note`` if it does not.
        remedy: What to do about it.
    """

    name: str
    text: str
    state: Literal["good", "note", "bad"] = "good"
    remedy: str = ""


@dataclass(frozen=True)
class SelfTest:
    """Result of a self-test, which runs in a separate process.

    Args:
        found: The objects it printed, by step; of several GPUs the one that failed.
        error: What went wrong, or an empty text.
        remedy: What to do about it, if the way the process ended shows that.
    """

    found: dict[str, dict]
    error: str = ""
    remedy: str = ""


def examine_installation() -> list[Finding]:
    """Run all checks and self-tests."""
    with tempfile.TemporaryDirectory(prefix="vl3d-doctor-") as folder:
        backend = run_self_test("backend", folder)
        training = run_self_test("training", folder)
        open3d = run_self_test("open3d", folder)
    return [
        *_versions(),
        *_backend(backend, machine_gpus()),
        _memory(),
        _processors(),
        _laz(),
        _open3d(open3d),
        _training(training),
    ]


def describe_findings(findings: Sequence[Finding]) -> str:
    """Format the findings as text, with remedies below and a verdict at the end."""
    lines = fact_lines({finding.name: finding.text for finding in findings})
    remedies = [
        f"{'FAILS' if finding.state == 'bad' else 'note'}: {finding.name}: "
        f"{finding.remedy}"
        for finding in findings
        if finding.remedy
    ]
    verdict = (
        "Training works."
        if installation_works(findings)
        else "Training does not work; see FAILS above."
    )
    return "\n\n".join(filter(None, [lines, "\n".join(remedies), verdict]))


def installation_works(findings: Sequence[Finding]) -> bool:
    """Whether training works on this machine."""
    return all(finding.state != "bad" for finding in findings)


def run_self_test(name: str, folder: str, seconds: float = TIMEOUT) -> SelfTest:
    """Run a test of `guide.self_test` in a separate process.

    Args:
        name: ``backend``, ``training`` or ``open3d``.
        folder: Folder for its files.
        seconds: Time after which it is stopped.
    """
    # The current folder may hold files that shadow modules; `folder` does not.
    command = [sys.executable, "-m", "vl3d_lite.guide.self_test", name, folder]
    root = str(Path(__file__).parents[2])
    paths = filter(None, [root, os.environ.get("PYTHONPATH")])
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        return SelfTest(
            _objects(text),
            f"did not end within {seconds:g} s",
            "the machine is very busy, or the test hangs: try again on an idle machine",
        )
    found = _objects(done.stdout)
    if "error" in found:
        return SelfTest(found, found["error"]["error"])
    if done.returncode < 0:
        number = -done.returncode
        ended_by = signal.Signals(number).name
        return SelfTest(found, f"was ended by {ended_by}", SIGNALS.get(number, INSTALL))
    if done.returncode:
        last = (done.stderr.strip().split("\n") or [""])[-1]
        return SelfTest(found, last[:300] or f"exit code {done.returncode}", INSTALL)
    return SelfTest(found)


def machine_gpus(driver: Path = NVIDIA) -> int:
    """Number of NVIDIA GPUs that the driver lists, usable or not."""
    if driver.is_dir():
        return len(list(driver.iterdir()))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run(
            [tool, "-L"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _objects(text: str) -> dict[str, dict]:
    """The JSON objects of a self-test by step, past lines of other libraries."""
    found: dict[str, dict] = {}
    for line in text.splitlines():
        if line.startswith('{"step"'):
            entry = json.loads(line)
            failed = entry["step"] == "gpu" and not entry["works"]
            if failed or entry["step"] not in found:
                found[entry["step"]] = entry
    return found


def _versions() -> list[Finding]:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    packages = package_versions()
    return [
        Finding("vl3d_lite", __version__),
        Finding("python", f"{platform.python_version()} ({sys.executable})"),
        Finding("system", system),
        Finding("packages", ", ".join(f"{n} {v}" for n, v in packages.items())),
    ]


def _backend(test: SelfTest, machine: int) -> list[Finding]:
    found = test.found
    requested = os.environ.get("KERAS_BACKEND", "tensorflow")
    if "backend" not in found:
        return [
            Finding(
                "backend",
                f"{requested}: {test.error}",
                "bad",
                test.remedy or f"{requested} cannot be loaded; {INSTALL}",
            )
        ]
    name = found["backend"]["name"]
    backend = Finding("backend", name)
    if name != "tensorflow":
        backend = Finding(
            "backend",
            name,
            "note",
            "the program is tested with TensorFlow; unset KERAS_BACKEND to use it",
        )
    if "gpus" not in found:
        return [backend, _failed("GPU", test)]
    if found["gpus"]["seen"] and "gpu" not in found:
        return [backend, _failed("GPU", test)]
    findings = [backend, _gpu(found, machine, name)]
    if "xla" in found:
        seconds = found["xla"]["seconds"]
        findings.append(Finding("XLA", f"works ({seconds:.1f} s to compile)"))
    elif test.error:
        findings.append(_failed("XLA", test))
    else:
        findings.append(Finding("XLA", f"not used with {name}"))
    return findings


def _failed(name: str, test: SelfTest) -> Finding:
    remedies = {
        "GPU": "driver and CUDA do not match; `pip install '.[gpu]'` installs CUDA, "
        "CUDA_VISIBLE_DEVICES=-1 trains on the CPU",
        "XLA": "train without it: `--set training.jit=off`",
    }
    state: Literal["note", "bad"] = "note" if name == "XLA" else "bad"
    return Finding(name, test.error, state, test.remedy or remedies[name])


def _gpu(found: dict[str, dict], machine: int, backend: str) -> Finding:
    seen = found["gpus"]["seen"]
    if seen and "gpu" in found and not found["gpu"]["works"]:
        return Finding(
            "GPU",
            f"{seen} found, number {found['gpu']['number']} computes wrong results",
            "bad",
            "select another with CUDA_VISIBLE_DEVICES",
        )
    if seen:
        more = "; one is used" if seen > 1 else ""
        return Finding("GPU", f"{seen} found by {backend}, usable{more}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if machine and hidden is not None and not hidden.strip("-1, "):
        return Finding("GPU", f"{machine} hidden by CUDA_VISIBLE_DEVICES={hidden}")
    if machine:
        return Finding(
            "GPU",
            f"{machine} in the machine, none found by {backend}; the CPU is used",
            "note",
            "`pip install '.[gpu]'` installs CUDA; Docker also needs `--gpus all`; "
            "TF_CPP_MIN_LOG_LEVEL=0 makes TensorFlow print the reason",
        )
    return Finding("GPU", "none; the CPU is used")


def _memory() -> Finding:
    free, limit = memory_limit(), container_memory()
    bound = f"; container limit {_gib(limit)}" if limit else "; no container limit"
    text = f"{_gib(free)} free{bound}"
    if free < LITTLE_MEMORY:
        remedy = "close other programs or raise the limit of the container"
        return Finding("memory", text, "note", remedy)
    return Finding("memory", text)


def _gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"


def _processors() -> Finding:
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    settings = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    text = f"{cpu_limit()} usable of {os.cpu_count()}"
    return Finding("processors", "; ".join([text, *settings]))


def _laz() -> Finding:
    import laspy

    backends = laspy.LazBackend.detect_available()
    if not backends:
        remedy = "`pip install 'laspy[lazrs]'`, or use .las files"
        return Finding("LAZ", "cannot be read or written", "note", remedy)
    return Finding("LAZ", ", ".join(backend.name for backend in backends))


def _open3d(test: SelfTest) -> Finding:
    if "open3d" in test.found:
        return Finding("open3d", f"{test.found['open3d']['version']}, can be loaded")
    reason = test.error.removeprefix("ResourceError: Open3D ")
    return Finding(
        "open3d",
        "cannot be loaded; SciPy replaces it, training does not need it",
        "note",
        reason if test.error else "it ended without a message",
    )


def _training(test: SelfTest) -> Finding:
    if "training" in test.found:
        found = test.found["training"]
        text = (
            f"works: four steps on a {found['file']} file in {found['seconds']:.1f} s"
        )
        return Finding("training", text)
    return Finding(
        "training",
        "does not work",
        "bad",
        f"{test.error}; {test.remedy}" if test.remedy else test.error,
    )
