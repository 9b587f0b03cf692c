"""Ensembles, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

from tests.model.test_network import logits_of, make_batch
from tests.model.test_symmetry import make
from vl3d_lite.model.ensemble import ProbabilityMean, combine_networks, rebuilt
from vl3d_lite.model.files import load_model, save_model

SCALE, OFFSET = np.array([2.0, 0.5, 1.0]), np.array([0.3, 0.0, -1.0])


def shares(logits):
    """The softmax of `(B, R, C)` logits in float64."""
    return softmax(np.asarray(logits, float), axis=-1)


def other_weights(model, seed):
    """Change the weights of a network, each differently."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape).astype("float32"))
    return model


def test_the_mean_of_logits_is_that_of_probabilities():
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 4, (2, 5, 3)).astype("float32") for _ in range(3)]
    logits[1][0, 0] = [200, 0, -200]  # their exponentials do not fit into float32
    result = ops.convert_to_numpy(ProbabilityMean()(logits)).astype(float)
    expected = sum(map(shares, logits)) / 3
    np.testing.assert_allclose(np.exp(result), expected, atol=1e-6)
    assert np.isfinite(result).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "symmetry"),
    [("convolution", "none"), ("attention", "C2"), ("head", "C2")],
)
def test_networks_of_every_kind_are_combined_saved_and_loaded(
    backbone, symmetry, tmp_path
):
    networks = []
    for seed in (1, 2):
        model, shapes = make(backbone, symmetry)
        save_model(other_weights(model, seed), tmp_path / "one.keras")
        networks.append(load_model(tmp_path / "one.keras"))
    batch = make_batch(shapes)
    scaled = {**batch, "features": (batch["features"] * SCALE + OFFSET).astype("f4")}
    members = [
        shares(logits_of(networks[0], batch)),
        shares(logits_of(networks[1], scaled)),
    ]
    assert np.abs(members[0] - members[1]).max() > 1e-3
    combined = combine_networks(networks, [None, (SCALE, OFFSET)])
    save_model(combined, tmp_path / "both.keras")
    for model in (
        combined,
        load_model(tmp_path / "both.keras"),
        rebuilt(combined, lambda: make(backbone, symmetry)[0]),
    ):
        result = np.exp(logits_of(model, batch).astype(float))
        np.testing.assert_allclose(result, np.mean(members, axis=0), atol=2e-5)


@pytest.mark.slow
def test_half_precision_stays_with_its_layers():
    model, shapes = make("convolution", precision="mixed_bfloat16")
    combined = combine_networks([model, model], [None, None])
    assert keras.backend.standardize_dtype(combined.outputs[0].dtype) == "float32"
    assert combined.get_layer("member_2_head").compute_dtype == "bfloat16"
    batch = make_batch(shapes)
    alone, both = logits_of(model, batch), logits_of(combined, batch)
    np.testing.assert_allclose(shares(both), shares(alone), atol=1e-6)
