"""What a support thread asks first: versions, GPUs, memory, and whether it trains."""

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

from vl3d_lite.report.text import fact_lines
from vl3d_lite.runs.provenance import package_versions
from vl3d_lite.system.resources import NVIDIA, container_memory, cpu_limit, memory_limit
from vl3d_lite.system.version import __version__

SECONDS = 600  # the tests of a machine that works take about ten
LITTLE_MEMORY = 2 << 30
INSTALL = "install the program anew in a fresh environment: `pip install .`"
SIGNALS = {
    signal.SIGILL: "this build needs a processor with AVX; use a newer machine",
    signal.SIGSEGV: f"libraries do not fit each other; {INSTALL}",
    signal.SIGABRT: f"libraries do not fit each other; {INSTALL}",
    signal.SIGBUS: f"libraries do not fit each other; {INSTALL}",
    signal.SIGKILL: "the system stopped it, most likely for memory; give it more",
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Args:
        name: What was looked at.
        text: What was found.
        state: ``bad`` keeps training from working here, a ``note`` does not.
        remedy: What to do about it.
    """

    name: str
    text: str
    state: Literal["good", "note", "bad"] = "good"
    remedy: str = ""


@dataclass(frozen=True)
class Probe:
    """What a test in a process of its own said, and how it ended.

    Args:
        found: The objects it printed, by step; the last one of each.
        error: What went wrong, or an empty text.
        remedy: What to do about it, where how it ended tells.
    """

    found: dict[str, dict]
    error: str = ""
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything, the quick things first."""
    with tempfile.TemporaryDirectory(prefix="vl3d-doctor-") as folder:
        backend = run_probe("backend", folder)
        training = run_probe("training", folder)
        open3d = run_probe("open3d", folder)
    return [
        *_versions(),
        *_backend(backend, machine_gpus()),
        _memory(),
        _processors(),
        _laz(),
        _open3d(open3d),
        _training(training),
    ]


def describe(findings: Sequence[Finding]) -> str:
    """The findings as text, remedies below, a verdict at the end."""
    lines = fact_lines({finding.name: finding.text for finding in findings})
    troubles = [finding for finding in findings if finding.remedy]
    remedies = [
        f"{'FAILS' if finding.state == 'bad' else 'note'}: {finding.name}: "
        f"{finding.remedy}"
        for finding in troubles
    ]
    verdict = (
        "Training works here."
        if works(findings)
        else "Training does not work here; see FAILS above."
    )
    return "\n\n".join(filter(None, [lines, "\n".join(remedies), verdict]))


def works(findings: Sequence[Finding]) -> bool:
    """Whether training works here."""
    return all(finding.state != "bad" for finding in findings)


def run_probe(what: str, folder: str, seconds: float = SECONDS) -> Probe:
    """Try `what` of `guide.self_test` in a process of its own."""
    # A check of a backend must not depend on where the command was typed.
    command = [sys.executable, "-m", "vl3d_lite.guide.self_test", what, folder]
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
        return Probe(
            _objects(text),
            f"did not end within {seconds:g} s",
            "the machine is very busy, or it hangs: try again on a quiet one",
        )
    found = _objects(done.stdout)
    if "error" in found:
        return Probe(found, found["error"]["error"])
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name
        return Probe(found, f"was ended by {name}", SIGNALS.get(number, INSTALL))
    if done.returncode:
        last = (done.stderr.strip().split("\n") or [""])[-1]
        return Probe(found, last[:300] or f"exit code {done.returncode}", INSTALL)
    return Probe(found)


def machine_gpus(driver: Path = NVIDIA) -> int:
    """NVIDIA GPUs of the machine, as its driver says, whoever may use them."""
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
    found = {}
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


def _backend(probe: Probe, machine: int) -> list[Finding]:
    found = probe.found
    wanted = os.environ.get("KERAS_BACKEND", "tensorflow")
    if "backend" not in found:
        return [
            Finding(
                "backend",
                f"{wanted}: {probe.error}",
                "bad",
                probe.remedy or f"{wanted} cannot be loaded; {INSTALL}",
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
        return [backend, _broken("GPU", probe)]
    if found["gpus"]["seen"] and "gpu" not in found:
        return [backend, _broken("GPU", probe)]
    findings = [backend, _gpu(found, machine, name)]
    if "xla" in found:
        seconds = found["xla"]["seconds"]
        findings.append(Finding("XLA", f"works ({seconds:.1f} s to compile)"))
    elif probe.error:
        findings.append(_broken("XLA", probe))
    else:
        findings.append(Finding("XLA", f"not used with {name}"))
    return findings


def _broken(name: str, probe: Probe) -> Finding:
    remedies = {
        "GPU": "the driver and CUDA do not fit; `pip install '.[gpu]'` brings CUDA, "
        "CUDA_VISIBLE_DEVICES=-1 trains on the CPU",
        "XLA": "train without it: `--set training.jit=off`",
    }
    state: Literal["note", "bad"] = "note" if name == "XLA" else "bad"
    return Finding(name, probe.error, state, probe.remedy or remedies[name])


def _gpu(found: dict[str, dict], machine: int, backend: str) -> Finding:
    seen = found["gpus"]["seen"]
    if seen and "gpu" in found and not found["gpu"]["works"]:
        return Finding(
            "GPU",
            f"{seen} seen, number {found['gpu']['number']} computes wrong numbers",
            "bad",
            "choose another by CUDA_VISIBLE_DEVICES",
        )
    if seen:
        more = "; one is used" if seen > 1 else ""
        return Finding("GPU", f"{seen} seen by {backend}, usable{more}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if machine and hidden is not None and not hidden.strip("-1, "):
        return Finding("GPU", f"{machine} hidden by CUDA_VISIBLE_DEVICES={hidden}")
    if machine:
        return Finding(
            "GPU",
            f"{machine} in the machine, none seen by {backend}; the CPU is used",
            "note",
            "`pip install '.[gpu]'` brings CUDA; in Docker also `--gpus all`; "
            "TF_CPP_MIN_LOG_LEVEL=0 makes TensorFlow say why",
        )
    return Finding("GPU", "none; the CPU is used")


def _memory() -> Finding:
    free, limit = memory_limit(), container_memory()
    bound = f"; container limit {_gib(limit)}" if limit else "; no container limit"
    text = f"{_gib(free)} free{bound}"
    if free < LITTLE_MEMORY:
        remedy = "close other programs or raise the container's limit; scans need more"
        return Finding("memory", text, "note", remedy)
    return Finding("memory", text)


def _gib(n: int) -> str:
    return f"{n / 2**30:.1f} GiB"


def _processors() -> Finding:
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    given = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    text = f"{cpu_limit()} usable of {os.cpu_count()}"
    return Finding("processors", "; ".join([text, *given]))


def _laz() -> Finding:
    import laspy

    backends = laspy.LazBackend.detect_available()
    if not backends:
        remedy = "`pip install 'laspy[lazrs]'`, or give .las files"
        return Finding("LAZ", "cannot be read or written", "note", remedy)
    return Finding("LAZ", ", ".join(backend.name for backend in backends))


def _open3d(probe: Probe) -> Finding:
    if "open3d" in probe.found:
        return Finding("open3d", f"{probe.found['open3d']['version']}, can be loaded")
    reason = probe.error.removeprefix("ResourceError: Open3D ")
    return Finding(
        "open3d",
        "cannot be loaded; SciPy takes over, training does not need it",
        "note",
        reason if probe.error else "it ended without a word",
    )


def _training(probe: Probe) -> Finding:
    if "training" in probe.found:
        found = probe.found["training"]
        text = (
            f"works: four steps on a {found['file']} file in {found['seconds']:.1f} s"
        )
        return Finding("training", text)
    return Finding(
        "training",
        "does not work",
        "bad",
        f"{probe.error}; {probe.remedy}" if probe.remedy else probe.error,
    )
