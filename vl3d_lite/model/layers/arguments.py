"""What layers ask of their arguments and of the shapes they are built for."""

from vl3d_lite.errors import DeepLearningException


def check_arguments(where, given, checks):
    """Complain about the first argument that does not fit.

    Args:
        where: Name of the layer.
        given: Arguments by name.
        checks: Argument names to pairs: whether it fits, and what is expected.

    Raises:
        DeepLearningException: One does not fit.
    """
    for name, (fits, expected) in checks.items():
        if not fits:
            raise DeepLearningException(
                f"{where}: `{name}` must be {expected}. "
                f"Received: {name}={given[name]!r}"
            )


def as_shapes(input_shape):
    """List the shapes; a lone tensor's shape counts as one."""
    if all(size is None or isinstance(size, int) for size in input_shape):
        return [input_shape]
    return list(input_shape)
