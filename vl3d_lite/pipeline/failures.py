"""Errors of single clouds, which do not stop the work on the others."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vl3d_lite.errors import InterruptedRunError, VL3DError

logger = logging.getLogger(__name__)


def add_error(errors: list[VL3DError], error: VL3DError) -> None:
    """Add an error to the others; all but the first are logged at once.

    Args:
        errors: The errors so far, in the order of the clouds.
        error: The next one; it loses the frames that keep the arrays of its cloud in
            memory.
    """
    if errors:
        logger.error("%s", error)
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    errors.append(error)


@contextmanager
def collected(errors: list[VL3DError]) -> Iterator[None]:
    """Add the error of a block to the others (`add_error`).

    Args:
        errors: The errors so far.

    Raises:
        InterruptedRunError: A signal came, which stops the work.
    """
    try:
        yield
    except InterruptedRunError:
        raise
    except VL3DError as error:
        add_error(errors, error)
