"""Arguments and input shapes of `KPConvXLayer`: checks and conversions."""

from numbers import Real

import keras

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import as_shapes
from vl3d_lite.model.layers.convolution.kernel_geometry import check_kernel

ORDERS = ("vl3d", "apple")
# Model files of version 0.1 hold the old names.
OLD_ORDERS = {"seed": "vl3d", "official": "apple"}
# The seed's default is a layer; one shared instance is recognized by identity.
LEAKY_RELU = keras.layers.LeakyReLU()


def check_kpconvx_arguments(layer):
    """Check the arguments that a layer holds, and make whole numbers integers.

    Args:
        layer: A `KPConvXLayer`.

    Raises:
        DeepLearningException: An argument is out of its range.
    """
    check_kernel(layer.name, layer.sigma, layer.influence)
    for name in ("blocks", "DH", "groups", "output_channels"):
        value = getattr(layer, name)
        if name == "output_channels" and value is None:
            continue
        whole = isinstance(value, Real) and float(value).is_integer()
        if not whole or value < 1:
            raise _error(layer, name, "a whole number of at least 1")
        setattr(layer, name, int(value))
    for name in ("drop_path", "bn_momentum"):
        if not isinstance(getattr(layer, name), Real):
            raise _error(layer, name, "a number")
    if not 0 <= layer.drop_path <= 1:
        raise _error(layer, "drop_path", "a probability in [0, 1]")
    if not 0 <= layer.bn_momentum < 1:
        raise _error(layer, "bn_momentum", "in [0, 1)")
    if layer.order not in ORDERS:
        raise _error(layer, "order", f"one of {', '.join(ORDERS)}")
    if layer.strided and layer.blocks != 1:
        raise _error(layer, "blocks", "1 where `strided` is True")


def check_kpconvx_shapes(layer, shapes):
    """Check the shapes of the inputs of a `KPConvXLayer`.

    Args:
        layer: The layer.
        shapes: Shapes of its inputs, in order.

    Returns:
        The shapes as a list of tuples.

    Raises:
        DeepLearningException: The number of inputs, a rank or an axis is wrong.
    """
    shapes = [tuple(shape) for shape in as_shapes(shapes)]
    form = "[X, F, N, centers]" if layer.strided else "[X, F, N]"
    counts = (4, 5) if layer.strided else (3, 5)
    if len(shapes) not in counts or any(len(shape) != 3 for shape in shapes):
        raise DeepLearningException(
            f"{layer.name}: inputs must be {form} or [X, F, N, nearest, influence], "
            f"each of rank 3. Received: {shapes}"
        )
    error = _shape_error(layer, *shapes)
    if error:
        raise DeepLearningException(f"{layer.name}: {error}. Received: {shapes}")
    return shapes


def _shape_error(layer, X, F, N, *rest):
    """Describe the first axis that does not fit, or return None."""
    batches = {shape[0] for shape in (X, F, N, *rest)} - {None}
    if len(batches) > 1:
        return "all inputs must have the same number of fields"
    if X[-1] not in (2, 3):
        return "X must have 2 or 3 coordinates"
    if F[-1] is None or F[-1] % layer.groups:
        return f"`groups` = {layer.groups} must divide the channels of F"
    if X[1] != F[1] and None not in (X[1], F[1]):
        return "X and F must have the same number of points"
    if not layer.strided and N[1] != X[1] and None not in (N[1], X[1]):
        return "N must have a row for each point of X"
    if len(rest) == 2 and any(shape[1:] != N[1:] for shape in rest):
        return "nearest and influence must have the shape of N"
    if len(rest) == 1 and rest[0][1:] != (N[1], X[-1]):
        return "centers must have a row for each row of N and the coordinates of X"
    if len(rest) == 2 and layer.deformable:
        return "a deformable kernel computes its own nearest and influence"
    return None


def activation_layer(value, dtype):
    """Return the layer that an `activation` argument stands for.

    Args:
        value: A layer, its configuration, a name, a function, or the negative
            slope of a LeakyReLU.
        dtype: Policy of a layer that is made here.
    """
    if value is LEAKY_RELU:
        return keras.layers.LeakyReLU(dtype=dtype)
    if isinstance(value, int | float):
        return keras.layers.LeakyReLU(negative_slope=value, dtype=dtype)
    if isinstance(value, dict | keras.layers.Layer):
        return as_layer(value)
    return keras.layers.Activation(value, dtype=dtype)


def as_layer(value):
    """Return a layer, made from its configuration if that is given."""
    if not isinstance(value, dict):
        return value
    return keras.layers.deserialize({"module": "keras.layers", **value})


def _error(layer, name, expected):
    return DeepLearningException(
        f"{layer.name}: `{name}` must be {expected}. "
        f"Received: {name}={getattr(layer, name)!r}"
    )
