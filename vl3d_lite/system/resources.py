"""Processors and memory that this process may use, also in a container or job."""

import errno
import logging
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path, PurePosixPath

from vl3d_lite.errors import ResourceError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
# Files of the limit and of the use, and the cache in memory.stat that the kernel
# reclaims: control groups of version 2, then of version 1.
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
NVIDIA = Path("/proc/driver/nvidia/gpus")
# Bytes that NumPy, laspy and pydantic take before a command begins, with a reserve.
LEAST_ADDRESS_SPACE = 512 << 20
MOST_FILES_OF_MACOS = 10240
_OUT_OF_MEMORY = (
    "failed to map segment",
    "cannot allocate memory",
    "cannot create shared object descriptor",
    "can't start new thread",
    "bad_alloc",
    "out of memory",
    "cannot apply additional memory protection",
)


def cpu_limit(cgroup: Path = CGROUP, own: Path = OWN_GROUPS) -> int:
    """Number of processors: the affinity and the quotas of the control groups."""
    count = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    for group in _groups("cpu", cgroup, own):
        quota = _words(group / "cpu.max")
        if not quota:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota = [word for name in names for word in _words(group / name)[:1]]
        if len(quota) == 2 and quota[0] != "max" and int(quota[0]) > 0:
            count = min(count, max(1, round(int(quota[0]) / int(quota[1]))))
    return count


def thread_count(threads: int | None) -> int:
    """The threads of a command: at most one per processor, by default as many.

    More of them would only take memory.

    Args:
        threads: As the user gave them; None for the default.
    """
    processors = cpu_limit()
    if threads is not None and threads > processors:
        logger.warning(
            "%d threads: uses %d, since this process may use %d processors",
            threads,
            processors,
            processors,
        )
    return min(threads or processors, processors)


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Model of the processor; its architecture where the model is unknown."""
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def physical_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Installed memory in whole GiB; None if unknown."""
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 2**20)
    return None


def gpu_names(driver: Path = NVIDIA) -> list[str]:
    """Names of the NVIDIA GPUs, as their driver reports them."""
    names = []
    for path in sorted(driver.glob("*/information")):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key == "Model":
                names.append(value.strip())
    return names


def memory_limit(
    cgroup: Path = CGROUP,
    meminfo: Path = Path("/proc/meminfo"),
    own: Path = OWN_GROUPS,
) -> int:
    """Bytes that this process may allocate: free memory, or less in a container."""
    limits = []
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    for group in _groups("memory", cgroup, own):
        for limit_name, used_name, cache_key in MEMORY_FILES:
            limit, used = _words(group / limit_name), _words(group / used_name)
            if limit and limit[0] != "max":
                stat = _words(group / "memory.stat")
                entries = dict(zip(stat[::2], stat[1::2], strict=False))
                cache = int(entries.get(cache_key, 0))
                taken = max(0, int(used[0] if used else 0) - cache)
                limits.append(max(0, int(limit[0]) - taken))
    address_space = free_address_space()
    if address_space is not None:
        limits.append(address_space)
    return min(limits, default=1 << 62)


def free_address_space(statm: Path = Path("/proc/self/statm")) -> int | None:
    """Bytes until the limit of the address space (`ulimit -v`); None without one."""
    if resource is None:
        return None
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    if soft == resource.RLIM_INFINITY:
        return None
    pages = _words(statm)
    used = int(pages[0]) * resource.getpagesize() if pages else 0
    return max(0, soft - used)


def require_address_space(
    needed: int = LEAST_ADDRESS_SPACE, purpose: str = "a command"
) -> None:
    """Raise an error where a limit of the address space leaves less than `needed`.

    Libraries that do not fit end the process, or fail with errors of their own.

    Args:
        needed: Bytes.
        purpose: What needs them, the subject of the message.

    Raises:
        ResourceError: The message names both amounts and the remedy.
    """
    free = free_address_space()
    if free is not None and free < needed:
        raise ResourceError(
            f"{purpose} needs {needed >> 20} MiB of address space, and its limit "
            f"leaves {free >> 20} MiB; raise the limit (`ulimit -v unlimited`)"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was short: of an error itself, or of what caused it.

    Python, NumPy, TensorFlow and the dynamic linker name it differently. TensorFlow's
    error is known by its name, since importing it takes seconds.
    """
    while error is not None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if kinds & {"MemoryError", "ResourceExhaustedError"}:
            return True
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return True
        if kinds & {"ImportError", "OSError", "RuntimeError", "SystemError"}:
            text = str(error).lower()
            if any(phrase in text for phrase in _OUT_OF_MEMORY):
                return True
        error = error.__cause__ or error.__context__
    return False


def _groups(controller: str, cgroup: Path, own: Path) -> list[Path]:
    """Folders of the control groups of this process; the limits of all apply.

    In a container its own group is the root. A job of Slurm or systemd is below the
    root, in a folder that `own` names for each version of the groups.
    """
    paths = {"": "/", controller: "/"}
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, names, path = line.split(":", 2)
        for name in {"", controller} & set(names.split(",")):
            paths[name] = path
    found = []
    for name, path in paths.items():
        folder = cgroup / name  # version 2, then version 1
        found.append(folder)
        for part in PurePosixPath(path).parts[1:]:
            folder = folder / part
            found.append(folder)
    return [folder for folder in found if folder.is_dir()]


def has_gpu(driver: Path = NVIDIA) -> bool:
    """Whether the NVIDIA driver lists a GPU and the environment hides none."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and driver.is_dir() and any(driver.iterdir())


def container_memory(cgroup: Path = CGROUP, own: Path = OWN_GROUPS) -> int | None:
    """Memory limit of the container or job in bytes; None without a limit."""
    limits = []
    for group in _groups("memory", cgroup, own):
        for name, _, _ in MEMORY_FILES:
            limit = _words(group / name)
            # Version 1 writes a number near the largest one where there is no limit.
            if limit and limit[0] != "max" and int(limit[0]) < 1 << 60:
                limits.append(int(limit[0]))
    return min(limits, default=None)


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None where it is not reported."""
    if resource is None:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes


def allow_open_files() -> None:
    """Raise the limit of open files to the most that this process may have.

    A file that is mapped into memory counts as open.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS allows less than it names
        with suppress(ValueError, OSError):
            most = max(soft, MOST_FILES_OF_MACOS)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def few_files_may_open() -> bool:
    """Whether a quarter or less is left of the files that this process may open.

    The rest of the program needs some, such as logs, clouds that are read, and drafts.
    """
    if resource is None:
        return False
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return False
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return True
    os.close(descriptor)
    return descriptor >= 0.75 * most  # it is the lowest number that is free


def require_memory(needed: int, purpose: str, remedy: str) -> None:
    """Raise an error where `needed` bytes are more than this process may allocate.

    Args:
        needed: Bytes.
        purpose: What needs them, the subject of the message.
        remedy: What the user can do, the end of the message.

    Raises:
        ResourceError: The message names the purpose, both amounts and the remedy.
    """
    free = memory_limit()
    if needed > free:
        raise ResourceError(
            f"{purpose} needs about {needed / 2**30:.1f} GiB of memory and "
            f"{free / 2**30:.1f} GiB are free; {remedy}"
        )


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
