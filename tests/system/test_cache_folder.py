"""A bounded folder of entries that several processes share."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.system import cache_folder
from vl3d_lite.system.cache_folder import (
    CacheFolder,
    default_cache_folder,
    open_cache_folder,
)

ROOM = 1 << 30


@pytest.fixture(autouse=True)
def _no_reserve(monkeypatch):
    """The disk of the tests may be nearly full."""
    monkeypatch.setattr(cache_folder, "LARGEST_RESERVE", 0)


def put(cache, key, count=1000):
    values = {"a": np.arange(count, dtype=np.float64)}
    return cache.write("clouds", key, values, {"source": f"{key}.laz"})


def keys(cache):
    return {entry.path.stem for entry in cache.entries()}


def used_at(cache, key, moment):
    path = cache.root / "clouds" / f"{key}.npys"
    os.utime(path, ns=(moment * 10**9, path.stat().st_mtime_ns))


def test_what_was_written_is_read_by_another_process(tmp_path):
    put(CacheFolder(tmp_path, ROOM), "k")
    found = CacheFolder(tmp_path, ROOM).read("clouds", "k")
    np.testing.assert_array_equal(found.arrays["a"], np.arange(1000.0))
    assert CacheFolder(tmp_path, ROOM).read("clouds", "other") is None


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = CacheFolder(tmp_path, 35_000)  # three entries of 8.4 kB
    for moment, key in enumerate("abc"):
        put(cache, key)
        used_at(cache, key, moment)
    cache.read("clouds", "a")
    put(cache, "d")
    assert keys(cache) == {"a", "c", "d"}


def test_a_mapped_entry_is_never_removed(tmp_path):
    cache = CacheFolder(tmp_path, 25_000)
    put(cache, "a")
    mapped = cache.read("clouds", "a").arrays["a"]
    used_at(cache, "a", 0)
    for key in "bc":
        put(cache, key)
    assert keys(cache) == {"a", "c"}
    assert cache.clear() == (1, 1)
    del mapped
    assert cache.clear() == (1, 0)
    assert not keys(cache)


def test_what_does_not_fit_is_one_warning(tmp_path, caplog):
    cache = CacheFolder(tmp_path, 20_000)
    put(cache, "a")
    mapped = cache.read("clouds", "a").arrays["a"]
    assert not put(cache, "b")
    assert not put(cache, "c", count=10_000)
    assert caplog.text.count("has no room") == 1
    assert keys(cache) == {"a"}
    assert len(mapped)


def test_a_full_disk_is_one_warning(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = CacheFolder(tmp_path, ROOM)
    monkeypatch.setattr(cache_folder, "write_arrays", full)
    assert not put(cache, "a")
    assert not put(cache, "b")
    assert len(caplog.records) == 1
    assert "No space left on device" in caplog.text
    assert "stay in memory" in caplog.text
    assert not list((tmp_path / "clouds").iterdir())


def test_a_disk_without_a_reserve_is_not_filled(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cache_folder, "LARGEST_RESERVE", 1 << 60)
    monkeypatch.setattr(cache_folder, "RESERVED_SHARE", 1.0)
    assert not put(CacheFolder(tmp_path, ROOM), "a")
    assert "free on the disk" in caplog.text


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = CacheFolder(tmp_path / "file" / "cache", ROOM)
    assert not put(cache, "a")
    assert cache.read("clouds", "a") is None
    assert len(caplog.records) == 1
    with pytest.raises(SpecError, match=r"not a folder.*cache.folder"):
        open_cache_folder(tmp_path / "file", ROOM)


def test_a_damaged_entry_is_removed(tmp_path):
    cache = CacheFolder(tmp_path, ROOM)
    put(cache, "a")
    path = tmp_path / "clouds" / "a.npys"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert cache.read("clouds", "a") is None
    assert not path.exists()
    assert put(cache, "a")
    assert cache.read("clouds", "a") is not None


def test_the_draft_of_a_killed_process_is_removed(tmp_path):
    cache = CacheFolder(tmp_path, ROOM)
    put(cache, "a")
    draft = tmp_path / "clouds" / ".123-0a1b2c3d.part-b.npys"
    draft.write_bytes(b"half")
    assert keys(cache) == {"a"}
    put(cache, "c")
    assert not draft.exists()


@pytest.mark.parametrize("name", ["loop/cache", "n" * 300])
def test_a_folder_that_cannot_be_looked_at_is_one_warning(tmp_path, caplog, name):
    (tmp_path / "loop").symlink_to("loop")
    cache = open_cache_folder(tmp_path / name, ROOM)
    assert not put(cache, "a")
    assert cache.read("clouds", "a") is None
    assert len(caplog.records) == 1


def test_entries_are_removed_where_locks_need_files_open_for_writing(
    tmp_path, monkeypatch
):
    fcntl = pytest.importorskip("fcntl")
    flock = fcntl.flock

    def as_on_nfs(descriptor, operation):
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    cache = CacheFolder(tmp_path, ROOM)
    put(cache, "a")
    draft = tmp_path / "clouds" / ".123-0a1b2c3d.part-b.npys"
    draft.write_bytes(b"half")
    assert cache.clear() == (1, 0)
    assert not list((tmp_path / "clouds").iterdir())


def test_where_few_files_may_open_entries_are_held_in_memory(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    cache = CacheFolder(tmp_path, ROOM)
    put(cache, "a")
    assert not cache.read("clouds", "a").arrays["a"].flags.writeable
    monkeypatch.setattr(resource, "getrlimit", lambda _: (4, 4))
    found = cache.read("clouds", "a").arrays["a"]
    assert found.flags.writeable
    np.testing.assert_array_equal(found, np.arange(1000.0))
    assert cache.clear() == (1, 0)


WORKER = """
import sys
import numpy as np
from pathlib import Path
from vl3d_lite.system import cache_folder
from vl3d_lite.system.cache_folder import CacheFolder
cache_folder.LARGEST_RESERVE = 0
cache = CacheFolder(Path(sys.argv[1]), 60_000)
rng = np.random.default_rng(int(sys.argv[2]))
for _ in range(150):
    key = int(rng.integers(12))
    found = cache.read("clouds", f"{key:02}")
    if found is None:
        cache.write("clouds", f"{key:02}", {"a": np.full(1000, key)}, {"source": ""})
    else:
        assert (found.arrays["a"] == key).all() and len(found.arrays["a"]) == 1000
"""


@pytest.mark.slow
def test_processes_that_write_read_and_remove_disturb_nobody(tmp_path):
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, tmp_path, str(seed)], stderr=subprocess.PIPE
        )
        for seed in range(3)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors.decode()
    cache = CacheFolder(tmp_path, ROOM)
    entries = list(cache.entries())
    assert 0 < sum(entry.size for entry in entries) < 60_000 + 3 * 10_000
    assert all(cache.read("clouds", key, verify=True) for key in keys(cache))


def test_the_place_is_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(cache_folder.VARIABLE, str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.setenv(cache_folder.VARIABLE, "off")
    assert default_cache_folder() is None
    monkeypatch.delenv(cache_folder.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert default_cache_folder() == Path(tmp_path, "vl3d-lite")


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    monkeypatch.delenv(cache_folder.VARIABLE)
    monkeypatch.setattr(
        cache_folder.platformdirs, "user_cache_dir", lambda *_, **__: "~/.cache/x"
    )
    assert default_cache_folder() is None
