"""Errors that are reported to the user, each with the exit code of a command.

Example:
    >>> import vl3d_lite
    >>> try:
    ...     vl3d_lite.read_las("absent.laz")
    ... except vl3d_lite.errors.DataError as error:
    ...     print(error.exit_code)
    3
"""


class VL3DError(Exception):
    """An error that the user can correct; its message names the place and the remedy.

    The command line prints the message without a traceback and exits with
    ``exit_code``.
    """

    exit_code = 1


class SpecError(VL3DError):
    """The spec or an argument of the command line is invalid."""

    exit_code = 2


class DataError(VL3DError):
    """A cloud, a run folder or a model file cannot be used."""

    exit_code = 3


class ResourceError(VL3DError):
    """Memory or disk is short, or an output cannot be written."""

    exit_code = 4


class DivergedError(VL3DError):
    """The training loss is not finite."""

    exit_code = 5


class InterruptedRunError(VL3DError):
    """A signal stopped the command; what was finished is in the run folder.

    Args:
        message: What was saved and how to resume.
        exit_code: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class DeepLearningException(VL3DError, ValueError):
    """A layer received invalid arguments or shapes."""

    exit_code = 2
