"""What a command prints: text in which nothing steers the terminal."""

import errno
import logging
import os
import sys

import typer

from vl3d_lite.errors import ResourceError
from vl3d_lite.system import printable, shortened


def prepare_streams() -> None:
    """Print characters that the locale does not know as escapes, without an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def echo(
    text: str, *, nl: bool = True, err: bool = False, color: str | None = None
) -> None:
    """Print a text whose parts may come from files.

    Args:
        text: The text.
        nl: Whether a line break follows.
        err: Whether the text goes to stderr.
        color: Its color on a terminal, such as "red".

    Raises:
        ResourceError: The output cannot be written, for example to a full disk.
    """
    try:
        typer.secho(printable(text), nl=nl, err=err, fg=color)
    except OSError as error:
        if error.errno == errno.EPIPE:  # a reader such as `head` has seen enough
            raise
        raise output_error(error) from error


def echo_error(message: str) -> None:
    """Print an error message, shortened, to stderr if it can be written to."""
    try:
        typer.echo(shortened(printable(message)), err=True)
    except OSError:  # there is nowhere left to report it
        _discard(sys.stderr.fileno())


def output_error(error: OSError) -> ResourceError:
    """The error of a standard output that cannot be written."""
    # The interpreter would try once more at its end, and change the exit code.
    _discard(1)
    reason = error.strerror or error
    return ResourceError(
        f"standard output: cannot be written ({reason}); free some space or write "
        "elsewhere"
    )


def _discard(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


class LogFormatter(logging.Formatter):
    """Plain messages, shortened, in which nothing steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return shortened(printable(super().format(record)))
