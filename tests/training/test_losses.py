"""The loss against loops in float64."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from tests.oracles import lovasz_by_loops
from vl3d_lite.training.losses import PointCrossEntropy


def loss_by_loops(labels, logits, weights, smoothing):
    total = mass = 0.0
    n_classes = logits.shape[-1]
    for label, row in zip(labels.ravel(), logits.reshape(-1, n_classes), strict=True):
        if label < 0:
            continue
        row = row.astype(float)
        log_p = row - row.max() - np.log(np.sum(np.exp(row - row.max())))
        target = np.full(n_classes, smoothing / n_classes)
        target[label] += 1 - smoothing
        total -= weights[label] * np.sum(target * log_p)
        mass += weights[label]
    return total / mass


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 3, (2, 9)).astype("int32")
    return labels, rng.normal(scale=4, size=(2, 9, 3)).astype("float32")


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 5.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_matches_the_formula(batch, weights, smoothing):
    loss = PointCrossEntropy(weights, smoothing)
    expected = loss_by_loops(*batch, weights or [1, 1, 1], smoothing)
    np.testing.assert_allclose(float(loss(*batch)), expected, rtol=1e-5)


def test_the_lovasz_loss_is_added_by_its_weight(batch):
    labels, logits = batch
    probabilities = softmax(logits.reshape(-1, 3).astype(float), axis=1)
    expected = loss_by_loops(labels, logits, [1, 1, 1], 0.0)
    expected += 0.7 * lovasz_by_loops(labels.ravel(), probabilities)
    loss = PointCrossEntropy(lovasz=0.7)
    np.testing.assert_allclose(float(loss(labels, logits)), expected, rtol=1e-5)


@pytest.mark.parametrize("lovasz", [0.0, 0.5])
def test_points_without_a_label_do_not_count(batch, lovasz):
    labels, logits = batch
    loss = PointCrossEntropy(lovasz=lovasz)
    before = float(loss(labels, logits))
    logits[labels < 0] = [1e30, 0, 0]
    assert float(loss(labels, logits)) == pytest.approx(before)


@pytest.mark.parametrize("lovasz", [0.0, 0.5])
def test_a_batch_without_labels_has_no_loss(batch, lovasz):
    _, logits = batch
    loss = PointCrossEntropy(lovasz=lovasz)
    assert float(loss(np.full((2, 9), -1), logits)) == 0


def test_the_loss_survives_its_config():
    loss = PointCrossEntropy([1.0, 2.0], 0.1, 0.5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
