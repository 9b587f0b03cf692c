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


def with_new_names(config, new_names):
    """Return a configuration whose old argument names are replaced.

    Args:
        config: Arguments by name, as `get_config` of this or an earlier version
            gives them.
        new_names: New argument names by old ones.

    Returns:
        A copy of `config`.
    """
    return {new_names.get(name, name): value for name, value in config.items()}


def as_shapes(input_shape):
    """List the shapes; a lone tensor's shape counts as one."""
    if all(size is None or isinstance(size, int) for size in input_shape):
        return [input_shape]
    return list(input_shape)
