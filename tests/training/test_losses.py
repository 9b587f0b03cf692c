"""The loss against loops in float64."""

import keras
import numpy as np
import pytest
from scipy.special import softmax

from tests.oracles import lovasz_by_loops
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.training.losses import PointCrossEntropy, loss_weights


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


PARTIAL = [[0, 2], [1, 2]]  # labels 3 and 4 of three classes


def partial_loss_by_loops(labels, logits, weights, smoothing):
    total = mass = 0.0
    for label, row in zip(labels.ravel(), logits.reshape(-1, 3), strict=True):
        if label < 0:
            continue
        p = softmax(row.astype(float))
        members = [label] if label < 3 else PARTIAL[label - 3]
        weight = np.mean([weights[c] for c in members])
        own = -np.log(sum(p[c] for c in members))
        total += weight * ((1 - smoothing) * own - smoothing / 3 * np.log(p).sum())
        mass += weight
    return total / mass


@pytest.mark.parametrize("weights", [None, [0.2, 1.0, 5.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_partial_label_enters_as_the_sum_of_its_probabilities(weights, smoothing):
    rng = np.random.default_rng(2)
    labels = rng.integers(-1, 5, (2, 30)).astype("int32")
    logits = rng.normal(scale=4, size=(2, 30, 3)).astype("float32")
    loss = PointCrossEntropy(weights, smoothing, partial_labels=PARTIAL)
    expected = partial_loss_by_loops(labels, logits, weights or [1, 1, 1], smoothing)
    np.testing.assert_allclose(float(loss(labels, logits)), expected, rtol=1e-5)


def test_partial_labels_that_do_not_occur_change_nothing(batch):
    labels, logits = batch
    plain = PointCrossEntropy([0.2, 1.0, 5.0], 0.1, 0.5)
    loss = PointCrossEntropy([0.2, 1.0, 5.0], 0.1, 0.5, PARTIAL)
    found = float(loss(labels, logits))
    np.testing.assert_allclose(found, float(plain(labels, logits)), rtol=1e-6)


def test_automatic_weights_share_partial_labels_out():
    spec = spec_of("vegetation or other")
    labels = [np.array([0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3, -1])]
    # Of vegetation 1 + 4 / 4, of other 3 + 4 * 3 / 4, of ground 3 points.
    counts = np.array([3, 2, 6])
    expected = 1 / np.sqrt(counts / 11)
    expected /= np.sum(expected * counts / 11)
    np.testing.assert_allclose(loss_weights(spec, labels), expected)


def spec_of(partial):
    return Spec.model_validate(
        {
            "classes": {"ground": 2, "vegetation": 5, "other": 1},
            "clouds": {"train": [{"files": ["/a.laz"], "classes": {partial: 1}}]},
            "features": ["height"],
            "fields": {"radius": 20, "grid_size": 0.5},
            "model": {"stages": [{"points": 64, "channels": 8}]},
        }
    )


def test_the_loss_survives_its_config():
    loss = PointCrossEntropy([1.0, 2.0], 0.1, 0.5, [[0, 1]])
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
