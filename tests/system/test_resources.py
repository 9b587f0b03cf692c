"""Limits of processors and memory, in a container and out of one."""

import os
import subprocess
import sys

import pytest

from vl3d_lite.errors import ResourceError
from vl3d_lite.system import resources
from vl3d_lite.system.resources import container_memory


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_quota_caps_the_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert resources.cpu_limit(tmp_path) == 8
    write(tmp_path, cpu_DOT_max="150000 100000\n")
    assert resources.cpu_limit(tmp_path) == 2
    write(tmp_path, cpu_DOT_max="10000 100000\n")
    assert resources.cpu_limit(tmp_path) == 1
    write(tmp_path, cpu_DOT_max="max 100000\n")
    assert resources.cpu_limit(tmp_path) == 8


def test_the_older_quota_counts_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    write(
        tmp_path,
        cpu__cpu_DOT_cfs_quota_us="300000",
        cpu__cpu_DOT_cfs_period_us="100000",
    )
    assert resources.cpu_limit(tmp_path) == 3
    write(tmp_path, cpu__cpu_DOT_cfs_quota_us="-1")
    assert resources.cpu_limit(tmp_path) == 8


def test_memory_is_what_the_container_leaves(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    assert resources.memory_limit(tmp_path, meminfo) == 4000 * 1024
    write(tmp_path, memory_DOT_max="3000000", memory_DOT_current="1000000")
    assert resources.memory_limit(tmp_path, meminfo) == 2_000_000
    write(tmp_path, memory_DOT_stat="anon 600000\ninactive_file 400000\n")
    assert resources.memory_limit(tmp_path, meminfo) == 2_400_000
    write(tmp_path, memory_DOT_max="max")
    assert resources.memory_limit(tmp_path, meminfo) == 4000 * 1024


def test_too_little_memory_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(resources, "memory_limit", lambda: 2**30)
    resources.require_memory(2**30, "reading", "tile it")
    with pytest.raises(
        ResourceError, match=r"reading needs about 3\.0 GiB.*1\.0 GiB are free; tile it"
    ):
        resources.require_memory(3 * 2**30, "reading", "tile it")


def test_the_container_limit_alone(tmp_path):
    assert container_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert container_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("4096\n")
    assert container_memory(tmp_path) == 4096
    (tmp_path / "memory.max").unlink()
    (tmp_path / "memory").mkdir()
    old = tmp_path / "memory/memory.limit_in_bytes"
    old.write_text("9223372036854771712\n")
    assert container_memory(tmp_path) is None
    old.write_text("8192\n")
    assert container_memory(tmp_path) == 8192


@pytest.mark.parametrize(
    ("own", "place", "limit", "used"),
    [
        ("0::/slurm/job_7/step_0\n", "slurm/job_7", "memory.max", "memory.current"),
        (
            "9:cpuset:/x\n4:memory:/slurm/job_7\n0::/y\n",
            "memory/slurm/job_7",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_the_limit_of_a_job_below_the_root_counts(tmp_path, own, place, limit, used):
    meminfo, groups = tmp_path / "meminfo", tmp_path / "groups"
    meminfo.write_text("MemAvailable:    4000 kB\n")
    groups.write_text(own)
    job = tmp_path / place
    (job / "step_0").mkdir(parents=True)
    assert resources.memory_limit(tmp_path, meminfo, groups) == 4000 * 1024
    (job / limit).write_text("3000000")
    (job / used).write_text("1000000")
    assert resources.memory_limit(tmp_path, meminfo, groups) == 2_000_000
    assert container_memory(tmp_path, groups) == 3_000_000
    other = tmp_path / place.replace("job_7", "job_8")
    other.mkdir()
    (other / limit).write_text("10")
    assert resources.memory_limit(tmp_path, meminfo, groups) == 2_000_000


def test_the_quota_of_a_job_below_the_root_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "own").write_text("0::/a/b\n")
    write(tmp_path, a__cpu_DOT_max="400000 100000", a__b__cpu_DOT_max="max 100000")
    assert resources.cpu_limit(tmp_path, tmp_path / "own") == 4
    write(tmp_path, a__b__cpu_DOT_max="200000 100000")
    assert resources.cpu_limit(tmp_path, tmp_path / "own") == 2


def test_a_limit_of_the_address_space_counts():
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))\n"
        "from vl3d_lite.system.resources import memory_limit\n"
        "print(memory_limit())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(done.stdout) <= 3 << 29, done.stderr


def test_hardware_is_read_from_the_files_of_the_system(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 5: gold\n")
    assert resources.processor_name(tmp_path / "cpuinfo") == "Abacus 5: gold"
    assert resources.processor_name(tmp_path / "none")
    (tmp_path / "meminfo").write_text("MemFree: 5 kB\nMemTotal: 25165000 kB\n")
    assert resources.physical_memory(tmp_path / "meminfo") == 24
    assert resources.physical_memory(tmp_path / "none") is None
    for number, name in enumerate(("H100", "H200")):
        (tmp_path / "gpus" / str(number)).mkdir(parents=True)
        (tmp_path / "gpus" / str(number) / "information").write_text(
            f"Model: \t\t NVIDIA {name}\nIRQ:   4\n"
        )
    assert resources.gpu_names(tmp_path / "gpus") == ["NVIDIA H100", "NVIDIA H200"]
    assert resources.gpu_names(tmp_path / "none") == []


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (RuntimeError("can't start new thread"), True),
        (type("ResourceExhaustedError", (Exception,), {})("OOM"), True),
        (caused(ValueError("damaged"), caused(KeyError("a"), MemoryError())), True),
        (ImportError("No module named x"), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory"), False),
        (None, False),
    ],
    ids=repr,
)
def test_errors_of_short_memory_are_known(error, expected):
    assert resources.is_out_of_memory(error) is expected


def test_a_limit_that_admits_no_library_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(resources, "free_address_space", lambda: 300 << 20)
    with pytest.raises(ResourceError, match=r"512 MiB .* leaves 300 MiB; raise"):
        resources.require_address_space()
    resources.require_address_space(100 << 20, "a small command")
    monkeypatch.setattr(resources, "free_address_space", lambda: None)
    resources.require_address_space()


@pytest.mark.parametrize("extra", [30, 120, 300])
def test_a_command_without_memory_ends_with_its_exit_code(extra):
    code = (
        "import sys\n"
        "from vl3d_lite.system.resources import resource, _words\n"
        "from pathlib import Path\n"
        "used = int(_words(Path('/proc/self/statm'))[0]) * resource.getpagesize()\n"
        f"limit = used + ({extra} << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "from vl3d_lite.__main__ import main\n"
        "sys.argv[1:] = ['inspect', 'nowhere.laz']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert "address space" in done.stderr
    assert "Traceback" not in done.stderr


def test_threads_are_bounded_by_the_processors(monkeypatch, caplog):
    monkeypatch.setattr(resources, "cpu_limit", lambda: 4)
    assert resources.thread_count(100_000) == 4
    assert "100000 threads: uses 4" in caplog.text
    assert resources.thread_count(1) == 1
    assert resources.thread_count(None) == 4
