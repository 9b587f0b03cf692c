"""Processors and memory this process may use, in a container or out of one."""

import os
import sys
from pathlib import Path

from vl3d_lite.errors import ResourceError

CGROUP = Path("/sys/fs/cgroup")
NVIDIA = Path("/proc/driver/nvidia/gpus")


def cpu_limit(cgroup: Path = CGROUP) -> int:
    """Processors this process may use: affinity and the container's quota."""
    count = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )
    quota = _words(cgroup / "cpu.max")
    if len(quota) == 2 and quota[0] != "max":
        count = min(count, max(1, round(int(quota[0]) / int(quota[1]))))
    v1 = _words(cgroup / "cpu/cpu.cfs_quota_us")
    period = _words(cgroup / "cpu/cpu.cfs_period_us")
    if v1 and period and int(v1[0]) > 0:
        count = min(count, max(1, round(int(v1[0]) / int(period[0]))))
    return count


def memory_limit(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes this process may hold: free memory, or less in a container."""
    limits = []
    for line in meminfo.read_text().splitlines() if meminfo.is_file() else []:
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    for limit_name, used_name, stat_name, cache_key in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        limit, used = _words(cgroup / limit_name), _words(cgroup / used_name)
        if limit and limit[0] != "max":
            stat = _words(cgroup / stat_name)
            entries = dict(zip(stat[::2], stat[1::2], strict=False))
            cache = int(entries.get(cache_key, 0))  # the system takes it back
            taken = max(0, int(used[0] if used else 0) - cache)
            limits.append(max(0, int(limit[0]) - taken))
    return min(limits, default=1 << 62)


def has_gpu(driver: Path = NVIDIA) -> bool:
    """Whether a GPU is there that a backend could compute on: its driver tells."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    return not hidden and driver.is_dir() and any(driver.iterdir())


def container_memory(cgroup: Path = CGROUP) -> int | None:
    """Bytes the container may hold in all, or None where nothing limits it."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        limit = _words(cgroup / name)
        # Version 1 says "no limit" by a number near the largest one.
        if limit and limit[0] != "max" and int(limit[0]) < 1 << 60:
            return int(limit[0])
    return None


def peak_memory() -> int | None:
    """Most bytes this process has held so far; None where no system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def require_memory(needed: int, purpose: str, remedy: str) -> None:
    """Complain where `needed` bytes are more than this process may hold.

    Raises:
        ResourceError: It names the purpose, both amounts and the remedy.
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
