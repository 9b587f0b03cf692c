"""Options of a command that are not part of a spec."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options of a command that do not change its results.

    Attributes:
        threads: Processors to use, at least 1.
        quiet: Show no progress bars.
        resume: Continue an interrupted run.
        overwrite: Replace existing output.
        replace: Replace dimensions of the same name in the input.
    """

    threads: int
    quiet: bool = False
    resume: bool = False
    overwrite: bool = False
    replace: bool = False
