"""Decompress LAZ; `laz_process` runs this module as a program of its own.

That program is started by each command that reads LAZ, so this module imports little:
no NumPy and nothing of this package.
"""

import contextlib
import json
import mmap
import os
import signal
import socket
import struct
from typing import Any, BinaryIO, TypedDict

import lazrs

# The parallel decompressor holds a whole LAZ chunk for each of its calls.
LARGEST_LAZ_CHUNK = 5_000_000
DAMAGED = "its compressed points are damaged"


class Job(TypedDict):
    """How the points of a file are compressed.

    Args:
        record: Data of the LASzip record, in hexadecimal digits.
        start: Byte of the file at which the points start.
        record_length: Bytes of one point record.
        layers: Layers of a chunk; 0 where chunks have none.
        selection: Layers that are needed, as flags of lazrs.
    """

    record: str
    start: int
    record_length: int
    layers: int
    selection: int


class DamagedError(ValueError):
    """The points cannot be decompressed."""


class Unpacker:
    """Decompresses the points of one file.

    Args:
        file: The file.
        job: How its points are compressed.

    Raises:
        DamagedError: Chunks or layers claim more bytes than the file has.
    """

    def __init__(self, file: BinaryIO, job: Job) -> None:
        self._length = job["record_length"]
        self._following = 0
        record = bytes.fromhex(job["record"])
        file.seek(job["start"])
        laz = lazrs.LazVlr(record)
        _check_chunks(file, laz, job)
        parallel = (
            laz.uses_variable_size_chunks() or 0 < laz.chunk_size() <= LARGEST_LAZ_CHUNK
        )
        kind = lazrs.ParLasZipDecompressor if parallel else lazrs.LasZipDecompressor
        selection = lazrs.DecompressionSelection(job["selection"])
        self._unpacker = kind(file, record, selection)

    def read(self, start: int, count: int, memory: mmap.mmap) -> None:
        """Put `count` records into `memory`, from the record `start` on."""
        if start != self._following:
            self._unpacker.seek(start)
        self._following = start + count
        with memoryview(memory)[: count * self._length] as records:
            self._unpacker.decompress_many(records)


def _check_chunks(file: BinaryIO, laz: lazrs.LazVlr, job: Job) -> None:
    """Raise an error where chunks or layers claim more bytes than the file has.

    The decompressor allocates what they claim, up to 4 GB per layer, before it reads
    a byte. The position of `file` does not change.
    """
    table = lazrs.read_chunk_table(file, laz)
    first = start = file.tell()
    left = os.fstat(file.fileno()).st_size - first
    if sum(length for _, length in table) > left:
        raise DamagedError("its chunks claim more bytes than there are")
    if layers := job["layers"]:
        sizes = struct.Struct(f"<4x{layers}I")
        for _, length in table:
            file.seek(start + job["record_length"])
            head = file.read(sizes.size).ljust(sizes.size, b"\0")
            if sum(sizes.unpack(head)) > length:
                raise DamagedError("a chunk claims more bytes than it has")
            start += length
    file.seek(first - 8)


def problem_of(error: BaseException) -> str | None:
    """What an error of lazrs states about the file; None for any other error."""
    if isinstance(error, lazrs.LazrsError | ValueError | OSError):
        return str(error)
    # A panic of the Rust code is a BaseException of a class of its own.
    if type(error).__name__ == "PanicException" and not is_short(error):
        return DAMAGED
    return None


def is_short(error: BaseException) -> bool:
    """Whether memory or threads are short."""
    return isinstance(error, MemoryError) or "ThreadPoolBuildError" in str(error)


def mapped(descriptor: int, size: int) -> mmap.mmap:
    """Memory that may be shared; new memory where the descriptor is -1."""
    try:
        return mmap.mmap(descriptor, size)
    except OSError as error:
        raise MemoryError from error


def serve(descriptor: int) -> None:
    """Answer the requests that come through a socket, until it is closed."""
    import resource

    # The process that asks decides when work ends; its end closes the socket.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])
    )
    with contextlib.suppress(OSError):
        _serve(socket.socket(fileno=descriptor))
    os._exit(0)


def _serve(connection: socket.socket) -> None:
    requests = _Requests(connection)
    unpacker, memory = None, None
    connection.sendall(b"{}\n")  # ready
    while (request := requests.next()) is not None:
        answer: dict[str, Any] = {}
        try:
            if "start" in request:
                assert unpacker is not None
                assert memory is not None
                unpacker.read(request["start"], request["count"], memory)
            else:
                unpacker, memory = None, None
                if "job" not in request:
                    continue
                unpacker, memory = _open(request, *requests.descriptors())
        except BaseException as error:
            answer = {"memory": True} if is_short(error) else _failure(error)
        connection.sendall(json.dumps(answer).encode() + b"\n")


class _Requests:
    """The lines that come through a socket, and the descriptors beside them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._text = b""
        self._descriptors: list[int] = []

    def next(self) -> dict[str, Any] | None:
        """The next request; None at the end."""
        while b"\n" not in self._text:
            part, more, _, _ = socket.recv_fds(self._connection, 1 << 16, 2)
            if not part:
                return None
            self._text += part
            self._descriptors += more
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)

    def descriptors(self) -> list[int]:
        """Those that came since they were taken last."""
        taken, self._descriptors = self._descriptors, []
        return taken


def _failure(error: BaseException) -> dict[str, Any]:
    problem = problem_of(error)
    return {"error": repr(error)} if problem is None else {"problem": problem}


def _open(
    request: dict[str, Any], points: int, memory: int
) -> tuple[Unpacker, mmap.mmap]:
    try:
        return (
            Unpacker(os.fdopen(points, "rb"), request["job"]),
            mapped(memory, request["size"]),
        )
    finally:
        os.close(memory)
