"""Initial values of stacks of weights, one slice for each block."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException


def sliced_initializer(initializer, offset):
    """Return an initializer that draws each slice of a stack on its own.

    The fans are those of one slice. A seeded initializer repeats its values at
    each call, so each slice and each tensor gets its own seed.

    Args:
        initializer: Anything that `keras.initializers.get` accepts.
        offset: Number of the tensor in its layer; it shifts the seeds.

    Returns:
        A function of a shape ``(blocks, ...)`` and a dtype, which raises
        `DeepLearningException` where `initializer` cannot draw a slice.
    """

    def initialize(shape, dtype=None):
        slices = []
        for index in range(shape[0]):
            drawer = keras.initializers.get(initializer)
            if isinstance(drawer, keras.initializers.Initializer):
                config = drawer.get_config()
                if isinstance(config.get("seed"), int):
                    # Tensors stand 1000 seeds apart, more than a layer has blocks.
                    config["seed"] += 1000 * offset + index
                drawer = type(drawer).from_config(config)
            try:
                values = drawer(shape[1:], dtype=dtype)
            except ValueError as error:
                raise DeepLearningException(
                    f"`initializer` must draw vectors as well as matrices. "
                    f"Received: {initializer!r}, which raises: {error}"
                ) from error
            slices.append(ops.convert_to_tensor(values))
        return ops.stack(slices)

    return initialize
