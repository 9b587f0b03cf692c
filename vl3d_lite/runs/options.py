"""Options of a command that are no part of a spec."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """How a verb behaves beside what the spec says.

    Attributes:
        threads: Processors to use.
        quiet: No progress bars.
        resume: Go on with what was begun.
        overwrite: Replace what lies there.
        replace: Replace dimensions of the same name in the input.
    """

    threads: int
    quiet: bool = False
    resume: bool = False
    overwrite: bool = False
    replace: bool = False
