"""The Lovász-softmax loss against loops in float64."""

import keras
import numpy as np
import pytest

from tests.oracles import lovasz_by_loops
from vl3d_lite.training.lovasz import lovasz_softmax


@pytest.fixture
def points():
    rng = np.random.default_rng(3)
    labels = rng.integers(-1, 3, 40).astype("int32")
    return labels, rng.dirichlet(np.ones(4), 40).astype("float32")


def test_matches_the_formula(points):
    found = keras.ops.convert_to_numpy(lovasz_softmax(*points))
    np.testing.assert_allclose(found, lovasz_by_loops(*points), rtol=1e-5)


def test_a_class_that_the_batch_lacks_does_not_count(points):
    labels, probabilities = points
    assert 3 not in labels
    crowded = np.where(labels == 2, -1, labels)
    np.testing.assert_allclose(
        float(lovasz_softmax(crowded, probabilities)),
        lovasz_by_loops(crowded, probabilities),
        rtol=1e-5,
    )


def test_of_certain_predictions_it_is_one_minus_the_mean_iou():
    rng = np.random.default_rng(5)
    labels, predicted = rng.integers(0, 3, (2, 60)).astype("int32")
    ious = [
        np.sum((labels == c) & (predicted == c))
        / np.sum((labels == c) | (predicted == c))
        for c in range(3)
    ]
    found = float(lovasz_softmax(labels, np.eye(3, dtype="float32")[predicted]))
    assert found == pytest.approx(1 - np.mean(ious), rel=1e-5)
