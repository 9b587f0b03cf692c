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


PARTIAL = [[0, 2], [1, 2, 3]]  # labels 4 and 5 of four classes


def partial_lovasz_by_loops(labels, probabilities):
    """Each label of the batch as a class, of the points that are surely in or out."""
    members = [{0}, {1}, {2}, {3}, *map(set, PARTIAL)]
    losses = []
    for label in sorted({*labels} - {-1}):
        decided = [
            (sum(float(p[c]) for c in members[label]), members[y] <= members[label])
            for y, p in zip(labels, probabilities, strict=True)
            if y >= 0
            and (members[y] <= members[label] or not members[y] & members[label])
        ]
        p, own = np.array(decided).T
        pairs = np.stack([1 - p, p], axis=1)
        found = lovasz_by_loops(np.where(own, 1, 0), pairs, only=1)
        losses.append(found)
    return np.mean(losses)


def test_partial_labels_count_as_classes_of_summed_probability():
    rng = np.random.default_rng(4)
    labels = rng.integers(-1, 6, 60).astype("int32")
    probabilities = rng.dirichlet(np.ones(4), 60).astype("float32")
    found = float(lovasz_softmax(labels, probabilities, PARTIAL))
    expected = partial_lovasz_by_loops(labels, probabilities)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_partial_label_is_satisfied_by_each_of_its_classes():
    labels = np.array([4, 4, 4, 1], "int32")
    sure = np.eye(4, dtype="float32")
    assert float(lovasz_softmax(labels, sure[[0, 2, 0, 1]], PARTIAL)) < 1e-6
    assert float(lovasz_softmax(labels, sure[[0, 2, 1, 1]], PARTIAL)) > 0.3
