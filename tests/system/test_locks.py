"""Locks name their holder, and end with its process."""

import errno
import signal
import socket
import subprocess
import sys

import pytest

from vl3d_lite.errors import ResourceError
from vl3d_lite.system.locks import claimed, locked

HOLD = """
import sys, time
from pathlib import Path
from vl3d_lite.system.locks import claimed, locked
folder = Path(sys.argv[1])
with locked(folder / ".lock", folder), claimed(folder, ["a.laz", "b.laz"], folder):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_killed(holder, tmp_path):
    who = rf"process {holder.pid} on host {socket.gethostname()} has been writing"
    with pytest.raises(ResourceError, match=who), locked(tmp_path / ".lock", tmp_path):
        pass
    with (
        pytest.raises(ResourceError, match=rf"b\.laz: {who}"),
        claimed(tmp_path, ["c.laz", "b.laz"], tmp_path),
    ):
        pass
    with claimed(tmp_path, ["c.laz"], tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 2  # lock and claim of the first
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / ".lock", tmp_path), claimed(tmp_path, ["b.laz"], tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_never_follows_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "mine")
    with pytest.raises(ResourceError), locked(tmp_path / ".lock", tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_lock_on_a_file_system_without_locks_is_a_warning(
    tmp_path, monkeypatch, caplog
):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path / ".lock", tmp_path):
        pass
    with locked(tmp_path / ".lock", tmp_path):
        pass
    assert caplog.text.count("has no locks") == 1
