"""What can go wrong, and the exit code each kind of trouble ends a command with."""


class VL3DError(Exception):
    """A user's trouble, told in one message that names the place and the remedy.

    The command line prints the message without a trace and exits with
    ``exit_code``.
    """

    exit_code = 1


class SpecError(VL3DError):
    """The spec, or an argument of the command line, cannot be used."""

    exit_code = 2


class DataError(VL3DError):
    """A cloud, a run folder or a model file cannot be used."""

    exit_code = 3


class ResourceError(VL3DError):
    """Memory, disk or an output that cannot be written."""

    exit_code = 4


class DivergedError(VL3DError):
    """Training met a loss that is not finite."""

    exit_code = 5


class InterruptedRunError(VL3DError):
    """A signal stopped the run; what was finished lies in the run folder.

    Args:
        message: What was saved and how to go on.
        exit_code: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class DeepLearningException(VL3DError, ValueError):
    """A layer was given arguments or shapes it cannot work with."""

    exit_code = 2
