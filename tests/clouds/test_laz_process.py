"""Files that end the process of lazrs are errors, and the next file is read."""

import gc
import os
import select
import signal
import subprocess
import sys

import laspy
import numpy as np
import pytest

from tests.clouds.las_files import make_las
from vl3d_lite.clouds import laz_process
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.points import read_records
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.errors import DataError, ResourceError

EXTRA = ({"name": "amplitude", "type": "u2"}, {"name": "normal", "type": "3f4"})


@pytest.fixture
def helpers(monkeypatch):
    """The processes that wait, of which there is none at first."""
    idle = []
    monkeypatch.setattr(laz_process, "_idle", idle)
    yield idle
    laz_process._end_idle()


@pytest.fixture
def path(tmp_path):
    return make_las(tmp_path / "a.laz", "1.2", 1, count=300, extra=EXTRA)


def expected(path):
    """The records as laspy reads them."""
    return laspy.read(path).points.array.tobytes()


def read(path):
    return b"".join(part.tobytes() for _, part in read_records(read_header(path)))


def damage(path):
    """Overwrite points so that lazrs 0.8.2 writes outside its memory (SIGSEGV)."""
    data = bytearray(path.read_bytes())
    assert len(data) == 12_117
    data[6531:7031] = b"\xff" * 500
    bad = path.with_name("bad.laz")
    bad.write_bytes(bytes(data))
    return bad


def failing(monkeypatch, statement):
    """Let the processes that decompress execute a statement instead."""
    changed = (
        "import laz_worker; "
        "laz_worker.Unpacker.read = lambda *_: exec(sys.argv[4], vars(laz_worker)); "
    )
    program = laz_process._PROGRAM.replace("import laz_worker; ", changed)
    assert changed in program
    monkeypatch.setattr(laz_process, "_PROGRAM", program)
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda words, **k: popen([*words, statement], **k)
    )


def test_damaged_points_are_an_error_and_the_next_file_is_read(path, helpers):
    with pytest.raises(DataError) as caught:
        read_las(damage(path))
    assert str(caught.value) == (
        f"{path.with_name('bad.laz')}: the points cannot be read (its compressed "
        "points are damaged); the file is cut short or damaged. Download or copy the "
        "file again."
    )
    assert helpers == []
    assert read(path) == expected(path)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGABRT"])
def test_a_process_that_crashes_is_a_damaged_file(name, path, helpers, monkeypatch):
    failing(monkeypatch, f"os.kill(os.getpid(), {getattr(signal, name)})")
    with pytest.raises(DataError, match=r"a\.laz: .* compressed points are damaged"):
        read_las(path)
    assert helpers == []


@pytest.mark.parametrize(
    "statement",
    [
        f"os.kill(os.getpid(), {signal.SIGKILL})",  # by the system
        "os.write(2, b'memory allocation of 4000 bytes failed'); os.abort()",
        "raise MemoryError",
    ],
    ids=["killed", "aborted", "refused"],
)
def test_a_process_without_memory_is_no_damaged_file(
    statement, path, helpers, monkeypatch
):
    failing(monkeypatch, statement)
    with pytest.raises(ResourceError, match="300 points need"):
        read_las(path)
    assert helpers == []


def test_a_file_that_asks_for_more_than_it_holds_is_damaged(path, helpers, monkeypatch):
    text = "memory allocation of 4000000000 bytes failed"
    failing(monkeypatch, f"os.write(2, {text!r}.encode()); os.abort()")
    with pytest.raises(DataError, match="compressed points are damaged"):
        read_las(path)


def test_a_process_reads_one_file_after_another(path, helpers):
    assert read(path) == expected(path)
    (helper,) = helpers
    parts = read_records(read_header(path), None, [(0, 10), (100, 120)])
    next(parts)
    parts.close()  # before the end
    assert read(path) == expected(path)
    assert helpers == [helper]
    helper.process.kill()
    helper.process.wait()  # the next file is not blamed for it
    assert read(path) == expected(path)
    assert helper not in helpers


def test_files_that_are_read_at_once_have_a_process_each(path, helpers, tmp_path):
    other = make_las(tmp_path / "b.laz", point_format=7, count=200)
    both = [read_records(read_header(name)) for name in (path, other)]
    parts = [next(records)[1] for records in both]
    assert [part.tobytes() for part in parts] == [expected(path), expected(other)]
    for records in both:
        records.close()
    assert len(helpers) == 2


def test_a_process_that_was_interrupted_is_not_used_again(path, helpers, monkeypatch):
    ask = laz_process._Helper.ask

    def interrupted(helper, request, *descriptors):
        monkeypatch.setattr(laz_process._Helper, "wait", interrupt)
        ask(helper, request, *descriptors)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(laz_process._Helper, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read(path)
    assert helpers == []


@pytest.mark.parametrize("missing", ["program", "memory"])
def test_without_a_process_this_one_decompresses(missing, path, helpers, monkeypatch):
    if missing == "program":
        monkeypatch.setattr(sys, "executable", str(path.with_name("none")))
    else:
        monkeypatch.delattr(os, "memfd_create")
    assert read(path) == expected(path)
    assert helpers == []
    gc.collect()  # an unclosed file is a warning, and so an error


def test_records_are_arrays_that_stay_when_the_file_is_closed(path, helpers):
    ((_, records),) = read_records(read_header(path))
    read(path)
    assert records.tobytes() == expected(path)
    assert records.flags.writeable
    assert records.dtype == np.uint8


SCRIPT = """\
import os, signal, sys
from vl3d_lite.clouds import laz_process, read_las

def names():
    return [str(helper.process.pid) for helper in laz_process._idle]

points = read_las(sys.argv[1]).local
print(*names(), flush=True)
if os.fork() == 0:
    assert names() == []
    assert (read_las(sys.argv[1]).local == points).all()
    print(*names(), flush=True)
    sys.exit()
os.wait()
read_las(sys.argv[1])
print(*names(), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "usual"])
def test_a_process_ends_with_the_one_that_it_works_for(end, path):
    words = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning"]
    done = subprocess.run(
        [*words, "-c", SCRIPT, path, end], capture_output=True, text=True
    )
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0)
    assert done.stderr == ""
    first, of_fork, last = map(int, done.stdout.split())
    assert first == last != of_fork
    for number in (first, of_fork):
        assert wait_for_end(number)


def wait_for_end(number):
    """Whether a process ends within 5 s."""
    try:
        descriptor = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5)[0])
    finally:
        os.close(descriptor)
