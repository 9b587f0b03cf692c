"""Checks and conversions of layer arguments and input shapes."""

from vl3d_lite.errors import DeepLearningException


def check_arguments(where, given, checks):
    """Raise an error for the first argument that is out of range.

    Args:
        where: Name of the layer.
        given: Arguments by name.
        checks: Pairs by argument name: whether the argument fits, and the
            expected range in words.

    Raises:
        DeepLearningException: An argument does not fit.
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
    """Return a list of shapes, also for the shape of a single tensor."""
    if all(size is None or isinstance(size, int) for size in input_shape):
        return [input_shape]
    return list(input_shape)
