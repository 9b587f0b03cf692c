"""Several networks as one: the mean of what they say."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

FEATURES = "features"
MEAN = "mean_of_members"

# Factor and summand, `(C,)` each, that bring features to a member's own scaling.
Rescaling = tuple[np.ndarray, np.ndarray]


@keras.saving.register_keras_serializable(package="vl3d_lite")
class ProbabilityMean(keras.layers.Layer):
    """Logits whose softmax is the mean of the members' softmaxes.

    For logits ``z_mc`` of member ``m`` of ``M``::

        y_c = ln(1/M sum_m exp(z_mc) / sum_k exp(z_mk))

    Shapes: any leading axes, ``C`` classes.

    Call arguments:
        logits: A list of ``(..., C)`` float, one of each member.

    Returns:
        ``(..., C)`` logarithms of probabilities, which are logits too.
    """

    def call(self, logits):
        logs = ops.log_softmax(ops.stack(logits), axis=-1)  # (M, ..., C)
        return ops.logsumexp(logs, axis=0) - math.log(len(logits))

    def compute_output_shape(self, shapes):
        return tuple(shapes[0])


def combine_networks(
    networks: Sequence[keras.Model], rescalings: Sequence[Rescaling | None]
) -> keras.Model:
    """One network that says the mean of what several say.

    The layers of all stand side by side, named ``member_1_<name>`` and so on, so
    that whatever looks for layers in a network finds those of every member.

    Args:
        networks: From the same named inputs to logits; they stay as they are.
        rescalings: What is done to ``features`` before a member sees them; None
            where they are scaled as it learned them.

    Returns:
        A model from the same inputs to ``(B, R_0, classes)`` float32 logits.
    """
    inputs = {
        tensor.name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for tensor in networks[0].inputs
    }
    logits = [
        _member(network, inputs, rescaling, member_prefix(number))
        for number, (network, rescaling) in enumerate(
            zip(networks, rescalings, strict=True), start=1
        )
    ]
    mean = ProbabilityMean(dtype="float32", name=MEAN)(logits)
    return keras.Model(inputs, mean, name="vl3d_lite")


def member_prefix(number: int) -> str:
    """What the names of a member's layers begin with; members count from 1."""
    return f"member_{number}_"


def rebuilt(model: keras.Model, build: Callable[[], keras.Model]) -> keras.Model:
    """A network with the weights of another, whatever its layers do between them.

    Args:
        model: A network, or several combined.
        build: Makes a network with layers of the names of `model`'s, or of one
            of its members'.
    """
    means = [layer for layer in model.layers if isinstance(layer, ProbabilityMean)]
    if not means:
        return _take(build(), model, "")
    numbers = range(1, len(means[0].input) + 1)
    return combine_networks(
        [_take(build(), model, member_prefix(number)) for number in numbers],
        [_rescaling(model, member_prefix(number)) for number in numbers],
    )


def first_member(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Layers with weights by name, of a network or of the first of those combined.

    The names are those that the layers have in a network by itself.
    """
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if not any(isinstance(layer, ProbabilityMean) for layer in model.layers):
        return layers
    prefix = member_prefix(1)
    return {
        name.removeprefix(prefix): layer
        for name, layer in layers.items()
        if name.startswith(prefix)
    }


def _member(network, inputs, rescaling, prefix):
    clones = []

    def renamed(layer):
        config = {**layer.get_config(), "name": prefix + layer.name}
        clones.append((layer, type(layer).from_config(config)))
        return clones[-1][1]

    def call(layer, *args, **kwargs):
        args, kwargs = keras.tree.map_structure(
            lambda value: seen if value is inputs[FEATURES] else value, (args, kwargs)
        )
        return layer(*args, **kwargs)

    seen = inputs[FEATURES]
    if rescaling is not None:
        scale, offset = (np.asarray(part, float).tolist() for part in rescaling)
        seen = keras.layers.Rescaling(
            scale, offset, dtype="float32", name=prefix + FEATURES
        )(seen)
    clone = keras.models.clone_model(
        network,
        input_tensors=keras.tree.map_structure(
            lambda tensor: inputs[tensor.name], network.input
        ),
        clone_function=renamed,
        call_function=call,
    )
    for layer, copy in clones:
        if getattr(layer, "weights", None):
            copy.set_weights(layer.get_weights())
    return clone.outputs[0]


def _take(network, model, prefix):
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(prefix + layer.name).get_weights())
    return network


def _rescaling(model, prefix):
    names = {layer.name for layer in model.layers}
    if prefix + FEATURES not in names:
        return None
    layer = model.get_layer(prefix + FEATURES)
    return layer.scale, layer.offset
