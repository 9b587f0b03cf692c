"""The files of one record: announced, kept, and the starts of its prediction."""

import os
import socket
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from vl3d_lite.errors import DataError
from vl3d_lite.prediction.outcomes import (
    RECORDS,
    PredictedCloud,
    read_outcome,
    record_path,
)
from vl3d_lite.system import file_hash, output_errors, write_json

_ANNOUNCED = ".new"  # suffix of the record of an output that gets its name next
_STARTS = ".starts"  # suffix of the list of workers that began an output


def announce(folder: Path, outcome: PredictedCloud) -> None:
    """Write the record of an output that is complete and gets its name next.

    Raises:
        ResourceError: The record cannot be written.
    """
    write_json(_announced(folder, outcome.output), asdict(outcome))


def keep(folder: Path, output: str) -> None:
    """Keep the announced record of an output, which has its name now.

    Raises:
        ResourceError: The record cannot be written.
    """
    path = record_path(folder, output)
    with output_errors(path):
        _announced(folder, output).replace(path)


def settle(
    folder: Path, output: str, *, recorded: bool = False
) -> PredictedCloud | None:
    """Keep the record that an ended process announced, where its output is there.

    Otherwise it is removed: the output never got its name.

    Args:
        folder: The folder of the outputs.
        output: The name of the output.
        recorded: Whether a record that was kept before counts as well.

    Returns:
        The record of the output, if there is one.

    Raises:
        ResourceError: The record cannot be written.
    """
    announced, path = _announced(folder, output), record_path(folder, output)
    with output_errors(announced):
        if record := _matching(announced, folder / output):
            announced.replace(path)
            return record
        announced.unlink(missing_ok=True)
    return _matching(path, folder / output) if recorded else None


def _matching(path: Path, target: Path) -> PredictedCloud | None:
    """The record in a file, if it is that of an output as it is now."""
    with suppress(FileNotFoundError, DataError):
        record = read_outcome(path)
        if file_hash(target) == record.sha256:
            return record
    return None


def unsettled(folder: Path) -> set[str]:
    """Names of the files that ended processes left beside the records."""
    with suppress(OSError):
        names = os.listdir(folder / RECORDS)
        return {name for name in names if name.endswith((_ANNOUNCED, _STARTS))}
    return set()


def settle_all(folder: Path, outputs: list[str]) -> None:
    """Settle what ended processes left of some outputs.

    Raises:
        ResourceError: A record cannot be written.
    """
    left = unsettled(folder)
    for output in outputs:
        if _announced(folder, output).name in left:
            settle(folder, output)
        starts = Starts(folder, output, "")
        if starts.path.name in left:
            starts.remove()


class Starts:
    """How often workers of a campaign began to predict an output.

    A worker that is killed cannot report it; that it began can be read afterwards.

    Args:
        folder: The folder of the outputs.
        output: The name of the output.
        campaign: Name of the campaign; starts of others do not count.
    """

    def __init__(self, folder: Path, output: str, campaign: str):
        self.path = record_path(folder, output).with_suffix(_STARTS)
        self.campaign = campaign

    def count(self) -> int:
        """The number of starts."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return 0
        return sum(line.partition(" ")[0] == self.campaign for line in lines)

    def add(self) -> None:
        """Note that this process begins.

        Raises:
            ResourceError: The file cannot be written.
        """
        line = f"{self.campaign} {socket.gethostname()} {os.getpid()}\n"
        with output_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def remove(self) -> None:
        """Forget all starts."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _announced(folder: Path, output: str) -> Path:
    return record_path(folder, output).with_suffix(_ANNOUNCED)
