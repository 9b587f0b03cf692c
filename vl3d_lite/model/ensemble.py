"""Ensembles: one network that averages the class probabilities of several."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import as_shapes

FEATURES = "features"
MEAN = "mean_of_members"

# Factor and summand, `(C,)` each, that convert features to the scaling of a member.
Rescaling = tuple[np.ndarray, np.ndarray]


@keras.saving.register_keras_serializable(package="vl3d_lite")
class ProbabilityMean(keras.layers.Layer):
    """Return logits whose softmax is the mean of the members' softmaxes.

    For logits ``z_mc`` of member ``m`` of ``M``::

        y_c = ln(1/M sum_m exp(z_mc) / sum_k exp(z_mk))

    Large logits do not overflow: the sums run in log space.

    Shapes: ``C`` classes, any leading axes.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        logits: A list of ``(..., C)`` float, one of each member.

    Returns:
        ``(..., C)`` float, logarithms of probabilities, which are logits too.

    Raises:
        DeepLearningException: The inputs are not a list of equal shapes.

    Source:
        Lakshminarayanan et al., *Deep Ensembles* (2017), section 2.4.
    """

    def build(self, shapes):
        if len({tuple(shape) for shape in as_shapes(shapes)}) != 1:
            raise DeepLearningException(
                f"{self.name}: logits must be a list of tensors of one shape. "
                f"Received: {list(shapes)}"
            )

    def call(self, logits):
        # In log space, since the exponential of a large logit overflows.
        logs = ops.log_softmax(ops.stack(logits), axis=-1)  # (M, ..., C)
        return ops.logsumexp(logs, axis=0) - math.log(len(logits))

    def compute_output_shape(self, shapes):
        return tuple(shapes[0])


def combine_networks(
    networks: Sequence[keras.Model], rescalings: Sequence[Rescaling | None]
) -> keras.Model:
    """Build one network that averages the probabilities of several.

    The layers of all stand side by side, named ``member_1_<name>`` and so on, so
    that a search for layers of a network finds those of every member.

    Args:
        networks: Networks from the same named inputs to logits; not changed.
        rescalings: Rescaling of ``features`` before each member; None where the
            member was trained on features of the same scaling.

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
    """Return the prefix of the layer names of a member; members count from 1."""
    return f"member_{number}_"


def rebuilt(model: keras.Model, build: Callable[[], keras.Model]) -> keras.Model:
    """Build a network again, with the weights of a given one.

    Args:
        model: A network or an ensemble.
        build: Builds a network whose layers have the names of those of `model`,
            or of one of its members.

    Returns:
        The new network, or an ensemble of one for each member.
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
    """Return layers with weights by name, of a network or an ensemble's first member.

    The names are those of the layers in a single network, without the prefix.
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
        # Layers that read the features read the rescaled ones.
        args, kwargs = keras.tree.map_structure(
            lambda value: rescaled if value is inputs[FEATURES] else value,
            (args, kwargs),
        )
        return layer(*args, **kwargs)

    rescaled = inputs[FEATURES]
    if rescaling is not None:
        scale, offset = (np.asarray(part, float).tolist() for part in rescaling)
        rescaled = keras.layers.Rescaling(
            scale, offset, dtype="float32", name=prefix + FEATURES
        )(rescaled)
    clone = keras.models.clone_model(
        network,
        input_tensors=keras.tree.map_structure(
            lambda tensor: inputs[tensor.name], network.input
        ),
        clone_function=renamed,
        call_function=call,
    )
    # `clone_model` draws new weights.
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
