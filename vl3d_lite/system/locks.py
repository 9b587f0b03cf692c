"""Locks of files that end with their process, whatever ends it."""

import errno
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vl3d_lite.errors import ResourceError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

CLAIM = ".claim"
_MUTEX = ".mutex"
# No link is followed, and no pipe waited for.
OPEN_FLAGS = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_TAKEN = (errno.EACCES, errno.EAGAIN)  # another process holds the lock
_TRIES, _PAUSE = 100, 0.05  # seconds: a claim takes milliseconds
_WARNED: set[Path] = set()  # folders without locks, each of which is reported once


@contextmanager
def locked(path: Path, what: Path) -> Iterator[None]:
    """Hold a lock file while a block runs.

    A process that is killed leaves the file behind, but not its lock.

    Args:
        path: The lock file, in a folder that exists; it is removed at the end.
        what: What the lock is for; named in the message.

    Raises:
        ResourceError: Another process holds the lock. The message names its host and
            process id.
    """
    descriptor = _acquire(path)
    if descriptor is None:
        raise _in_use(what, _read(path))
    try:
        _write(descriptor, ())
        yield
    finally:
        _release(descriptor, path)


@contextmanager
def claimed(folder: Path, names: Sequence[str], what: Path) -> Iterator[Path]:
    """Claim names while a block runs, so that no other process uses them.

    Args:
        folder: The folder of the claims; it exists.
        names: What is claimed.
        what: What the names are entries of; named in the message.

    Yields:
        The file of the claim, which exists while the block runs.

    Raises:
        ResourceError: Another process has claimed one of the names. The message names
            it, and the host and id of that process.
    """
    path = folder / f".{secrets.token_hex(8)}{CLAIM}"
    with exclusive(folder):
        for other in folder.glob(f"*{CLAIM}"):
            content = _living(other)
            if both := set(content.get("names", ())).intersection(names):
                raise _in_use(what / min(both), content)
        descriptor = _acquire(path)
        assert descriptor is not None  # its name is new
        _write(descriptor, names)
    try:
        yield path
    finally:
        _release(descriptor, path)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let only one process work in a folder; others wait.

    Args:
        folder: The folder; it exists. The block should take milliseconds.

    Raises:
        ResourceError: Another process is in its block for seconds.
    """
    path = folder / _MUTEX
    for _ in range(_TRIES):
        if (descriptor := _acquire(path)) is not None:
            break
        time.sleep(_PAUSE)
    else:
        raise _in_use(folder, _read(path))
    try:
        _write(descriptor, ())
        yield
    finally:
        _release(descriptor, path)


def open_to_lock(path: Path) -> int:
    """Open a file or folder for `lock`; on NFS only files open for writing have locks.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        return os.open(path, os.O_RDWR | OPEN_FLAGS)
    except FileNotFoundError:
        raise
    except OSError:  # a folder, or a file of another user
        return os.open(path, os.O_RDONLY | OPEN_FLAGS)


def lock(descriptor: int) -> bool:
    """Lock an open file without waiting; whether no other process has locked it.

    Raises:
        OSError: The file system has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no locks")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def share(descriptor: int) -> bool:
    """Lock an open file together with others; whether no process has it for itself.

    On a file system without locks nobody has.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _acquire(path: Path) -> int | None:
    """Create or open a lock file and lock it; None where another process has."""
    try:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | OPEN_FLAGS, 0o666)
            try:
                taken = not lock(descriptor)
            except OSError as error:
                _warn(path.parent, error)
                return descriptor
            if taken:
                os.close(descriptor)
                return None
            # The last holder may have removed the file before this lock was taken.
            if is_at(descriptor, path):
                return descriptor
            os.close(descriptor)
    except OSError as error:
        raise ResourceError(
            f"{path.parent}: cannot be written ({error.strerror}); check the folder's "
            "permissions or write elsewhere"
        ) from error


def _warn(folder: Path, error: OSError) -> None:
    if folder not in _WARNED:
        logger.warning(
            "%s: the file system has no locks (%s); let no other process write to this "
            "folder meanwhile",
            folder,
            error.strerror,
        )
    _WARNED.add(folder)


def _release(descriptor: int, path: Path) -> None:
    with suppress(OSError):
        if is_at(descriptor, path):
            path.unlink()
    os.close(descriptor)


def _write(descriptor: int, names: Sequence[str]) -> None:
    content = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "names": list(names),
    }
    data = json.dumps(content).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


def _read(path: Path) -> dict:
    """The content of a lock file that another process holds; {} where it is gone."""
    for _ in range(3):
        with suppress(OSError, ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
        time.sleep(_PAUSE)  # it is locked before it is written
    return {}


def _living(path: Path) -> dict:
    """The content of a claim; {} where its process has ended. Then it is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR | OPEN_FLAGS)
    except OSError:
        return {}
    try:
        if not lock(descriptor):
            return _read(path)
        path.unlink()
    except OSError:  # without locks nobody knows whether its process lives
        return {}
    finally:
        os.close(descriptor)
    return {}


def _in_use(what: Path, content: dict) -> ResourceError:
    return ResourceError(
        f"{what}: process {content.get('process', 'unknown')} on host "
        f"{content.get('host', 'unknown')} has been writing it since "
        f"{content.get('started', 'a moment ago')}; wait until it has ended, or end it"
    )
