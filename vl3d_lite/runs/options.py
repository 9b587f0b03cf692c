"""Options of a command that are not part of a spec."""

from dataclasses import dataclass

from vl3d_lite.runs.shard import Shard
from vl3d_lite.runs.workers import Workers


@dataclass(frozen=True)
class Options:
    """Options of a command that do not change its results.

    Attributes:
        threads: Processors to use, at least 1.
        quiet: Show no progress bars.
        resume: Continue an interrupted run.
        overwrite: Replace existing output.
        replace: Replace dimensions of the same name in the input.
        shard: The part of the clouds that this process predicts; None for all.
        workers: The processes that predict; None for this one.
        worker_threads: Processors of each worker, at least 1; None for an equal share.
    """

    threads: int
    quiet: bool = False
    resume: bool = False
    overwrite: bool = False
    replace: bool = False
    shard: Shard | None = None
    workers: Workers | None = None
    worker_threads: int | None = None
