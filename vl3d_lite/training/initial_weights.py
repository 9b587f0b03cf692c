"""Starting a training from the weights of another run."""

from collections.abc import Sequence

import keras
import numpy as np

from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import SpecError
from vl3d_lite.model.ensemble import first_member
from vl3d_lite.spec.difference import differing
from vl3d_lite.spec.schema.clouds import feature_columns
from vl3d_lite.spec.schema.spec import Spec

HEAD = "logits"


def require_same_features(spec: Spec, scaling: FeatureScaling) -> None:
    """Check that a spec has the inputs that a run was trained on.

    Raises:
        SpecError: It lacks one, has one more, or has them in another order.
    """
    has, wanted = feature_columns(spec.features), scaling.names
    if has == wanted:
        return
    lacking = [name for name in wanted if name not in has]
    more = [name for name in has if name not in wanted]
    differences = [
        f"{word} {', '.join(names)}"
        for word, names in (("lacks", lacking), ("adds", more))
        if names
    ]
    raise SpecError(
        f"`training.initial_weights`: {spec.training.initial_weights} was trained on "
        f"the features {', '.join(wanted)}; this spec "
        f"{' and '.join(differences) or 'reorders them'}. Give `features` as they were "
        "there"
    )


def take_weights(
    model: keras.Model, start: keras.Model, spec: Spec, start_spec: Spec
) -> str:
    """Give a new network the weights of a trained one, layer by layer.

    Kernel points that are not trained stay those of the new network, whose grid
    size they belong to. In the head a class keeps its weights by its name; a new
    one stays as it was drawn.

    Args:
        model: Of `spec`, with new weights.
        start: Of `start_spec`, trained; of several combined the first is taken,
            whose scaling of features is theirs.
        spec: Of the training that begins.
        start_spec: Of the run it starts from.

    Returns:
        What became of the head.

    Raises:
        SpecError: The networks differ in more than their classes.
    """
    trained = first_member(start)
    new = {layer.name: layer for layer in model.layers if layer.weights}
    fits = trained.keys() == new.keys() and all(
        [variable.shape for variable in layer.weights]
        == [variable.shape for variable in trained[name].weights]
        for name, layer in new.items()
        if name != HEAD
    )
    if not fits or trained[HEAD].kernel.shape[0] != new[HEAD].kernel.shape[0]:
        raise SpecError(
            f"`training.initial_weights`: {spec.training.initial_weights} has another "
            f"network: {_differences(spec, start_spec)}. Give `model` as it was there"
        )
    for name, layer in new.items():
        if name == HEAD:
            continue
        for variable, value in zip(layer.weights, trained[name].weights, strict=True):
            if variable.name != "Q" or variable.trainable:
                variable.assign(value)
    return _take_head(
        new[HEAD], trained[HEAD], spec.class_names, start_spec.class_names
    )


def _take_head(
    head, trained, names: Sequence[str], trained_names: Sequence[str]
) -> str:
    known = [name for name in names if name in trained_names]
    for variable, value in zip(head.weights, trained.weights, strict=True):
        own = np.array(keras.ops.convert_to_numpy(variable))
        theirs = keras.ops.convert_to_numpy(value)
        for name in known:
            own[..., names.index(name)] = theirs[..., trained_names.index(name)]
        variable.assign(own)
    if list(names) == list(trained_names):
        return "the head is kept"
    fresh = [name for name in names if name not in trained_names]
    gone = [name for name in trained_names if name not in names]
    parts = [f"{', '.join(known) or 'no class'} kept"]
    parts += [f"{', '.join(fresh)} new"] if fresh else []
    parts += [f"{', '.join(gone)} left out"] if gone else []
    return f"the head is replaced, since classes differ: {'; '.join(parts)}"


def _differences(spec: Spec, start_spec: Spec) -> str:
    """Which keys of the model differ."""
    found = [
        f"`{key}` is {now}, was {before}"
        for key, now, before in differing(
            spec.model.model_dump(), start_spec.model.model_dump(), "model"
        )
    ]
    return "; ".join(found[:5]) or "its layers were made by another version"
