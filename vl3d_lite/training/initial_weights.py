"""Initial weights of a training from another run."""

from collections.abc import Sequence

import keras
import numpy as np

from vl3d_lite.dataset import FeatureScaling
from vl3d_lite.errors import SpecError
from vl3d_lite.model import first_member
from vl3d_lite.spec import Spec, differing, feature_columns

HEAD = "logits"  # name of the last layer of every network


def require_same_features(spec: Spec, scaling: FeatureScaling) -> None:
    """Check that a spec has the features that a run was trained on.

    Args:
        spec: The spec of the new training.
        scaling: The scaling of the run that `training.initial_weights` names.

    Raises:
        SpecError: The spec lacks a feature, has another one, or has them in another
            order.
    """
    names, expected = feature_columns(spec.features), scaling.names
    if names == expected:
        return
    lacking = [name for name in expected if name not in names]
    more = [name for name in names if name not in expected]
    differences = [
        f"{word} {', '.join(names)}"
        for word, names in (("lacks", lacking), ("adds", more))
        if names
    ]
    raise SpecError(
        f"`training.initial_weights`: {spec.training.initial_weights} was trained on "
        f"the features {', '.join(expected)}; this spec "
        f"{' and '.join(differences) or 'reorders them'}. Give `features` as they were "
        "there"
    )


def transfer_weights(
    model: keras.Model, initial: keras.Model, spec: Spec, initial_spec: Spec
) -> str:
    """Give a new network the weights of a trained one, layer by layer.

    Kernel points that are not trained remain those of the new network, because they
    scale with its grid size. In the head each class takes the weights of the class
    of the same name; a new class keeps its random weights.

    Args:
        model: The new network, built from `spec`; changed in place.
        initial: The trained network. Of an ensemble the first member is used, whose
            scaling of features is that of the ensemble.
        spec: The spec of the new training.
        initial_spec: The spec of the trained network.

    Returns:
        A description of what happened to the head, for the log.

    Raises:
        SpecError: The networks differ in more than their classes.
    """
    trained = first_member(initial)
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
            f"network: {_differences(spec, initial_spec)}. Give `model` as it was there"
        )
    for name, layer in new.items():
        if name == HEAD:
            continue
        for variable, value in zip(layer.weights, trained[name].weights, strict=True):
            # Fixed kernel points ("Q") belong to the grid size of the new spec.
            if variable.name != "Q" or variable.trainable:
                variable.assign(value)
    return _transfer_head(
        new[HEAD], trained[HEAD], spec.class_names, initial_spec.class_names
    )


def _transfer_head(
    head: keras.layers.Layer,
    trained: keras.layers.Layer,
    names: Sequence[str],
    trained_names: Sequence[str],
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
    removed = [name for name in trained_names if name not in names]
    parts = [f"{', '.join(known) or 'no class'} kept"]
    parts += [f"{', '.join(fresh)} new"] if fresh else []
    parts += [f"{', '.join(removed)} left out"] if removed else []
    return f"the head is replaced, since classes differ: {'; '.join(parts)}"


def _differences(spec: Spec, initial_spec: Spec) -> str:
    """The keys of the model that differ, for a message."""
    found = [
        f"`{key}` is {now}, was {before}"
        for key, now, before in differing(
            spec.model.model_dump(), initial_spec.model.model_dump(), "model"
        )
    ]
    return "; ".join(found[:5]) or "another version built its layers"
