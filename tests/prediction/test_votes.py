"""Votes, and the predictions that follow from them."""

import threading
import time

import numpy as np
import pytest

from vl3d_lite.errors import DataError, InterruptedRunError
from vl3d_lite.prediction.votes import (
    CellPrediction,
    Votes,
    mean_over_grids,
    predict_cells,
    softmax,
)
from vl3d_lite.system.background import prefetch


def votes_by_loops(n, classes, batches):
    total, count = np.zeros((n, classes)), np.zeros(n, int)
    for indices, probabilities in batches:
        for field in range(len(indices)):
            for row, cell in enumerate(indices[field]):
                if cell >= 0:
                    total[cell] += probabilities[field, row]
                    count[cell] += 1
    return total, count


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    result = []
    for _ in range(3):
        indices = np.stack([rng.permutation(12)[:5] for _ in range(2)])
        indices[0, -2:] = -1
        result.append((indices, rng.dirichlet(np.ones(3), (2, 5)).astype("f4")))
    return result


def test_probabilities_are_averaged_over_fields(batches):
    votes = Votes(12, 3)
    for batch in batches:
        votes.add(*batch)
    total, count = votes_by_loops(12, 3, batches)
    np.testing.assert_array_equal(votes.count, count)
    np.testing.assert_allclose(votes.sum, total, rtol=1e-6)
    result = votes.result(np.zeros((12, 3)))
    voted = count > 0
    np.testing.assert_array_equal(result.voted, voted)
    np.testing.assert_allclose(
        result.probabilities[voted], total[voted] / count[voted][:, None], rtol=1e-6
    )


def test_votes_of_two_workers_merge(batches):
    one, first, second = Votes(12, 3), Votes(12, 3), Votes(12, 3)
    for batch in batches:
        one.add(*batch)
    first.add(*batches[0])
    for batch in batches[1:]:
        second.add(*batch)
    first.merge(second)
    np.testing.assert_array_equal(first.count, one.count)
    np.testing.assert_allclose(first.sum, one.sum, rtol=1e-6)


def test_a_cell_without_votes_takes_its_nearest_neighbor():
    votes = Votes(4, 2)
    votes.add(np.array([[0, 3]]), np.array([[[0.9, 0.1], [0.2, 0.8]]]))
    result = votes.result(np.array([[0.0, 0, 0], [1, 0, 0], [8, 0, 0], [10, 0, 0]]))
    np.testing.assert_array_equal(result.class_index, [0, 0, 1, 1])
    np.testing.assert_array_equal(result.voted, [True, False, False, True])


def test_confidence_and_entropy_have_their_ranges():
    sure, even = [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]
    result = CellPrediction(np.array([sure, even]), np.ones(2, bool))
    np.testing.assert_allclose(result.confidence, [1, 1 / 3])
    np.testing.assert_allclose(result.entropy, [0, 1], atol=1e-6)
    np.testing.assert_array_equal(result.class_index, [0, 0])


def test_softmax_of_large_logits_is_finite():
    np.testing.assert_allclose(
        softmax(np.array([[1000.0, 1000.0, -1000.0]])), [[0.5, 0.5, 0]], atol=1e-7
    )


def test_an_output_that_is_not_finite_is_an_error():
    class Network:
        output_shape = (None, 2, 3)

        def predict_on_batch(self, logits):
            return logits

    logits = np.zeros((1, 2, 3))
    batches = [(logits, np.array([[0, 1]]))]
    assert predict_cells(Network(), batches, np.zeros((2, 3))).voted.all()
    logits[0, 1, 2] = np.nan
    for at_once in (1, 2):
        with pytest.raises(DataError, match="not finite"):
            predict_cells(Network(), batches, np.zeros((2, 3)), at_once=at_once)


def test_batches_predicted_at_once_vote_in_their_order():
    class Network:
        output_shape = (None, 3, 4)

        def __init__(self):
            self.busy, self.most = 0, 0

        def predict_on_batch(self, logits):
            self.busy += 1
            self.most = max(self.most, self.busy)
            time.sleep(0.01)
            self.busy -= 1
            return logits

    rng = np.random.default_rng(5)
    batches = [
        (rng.normal(size=(1, 3, 4)), rng.choice(5, (1, 3), replace=False))
        for _ in range(9)
    ]
    one, two = Network(), Network()
    alone = predict_cells(one, batches, np.zeros((5, 3)))
    both = predict_cells(two, batches, np.zeros((5, 3)), at_once=2)
    np.testing.assert_array_equal(alone.probabilities, both.probabilities)
    assert (one.most, two.most) == (1, 2)


@pytest.fixture
def grids():
    rng = np.random.default_rng(4)
    parts = []
    for cells in (5, 7, 6):
        prediction = CellPrediction(
            rng.dirichlet(np.ones(3), cells).astype("f4"), rng.random(cells) < 0.5
        )
        parts.append((prediction, rng.integers(0, cells, 30).astype(np.int32)))
    return parts


def test_a_point_takes_the_mean_of_its_cells(grids):
    result, rows = mean_over_grids(iter(grids))
    assert len(rows) == 30
    for point in range(30):
        cells = [(one, cell_of[point]) for one, cell_of in grids]
        expected = np.mean([one.probabilities[c] for one, c in cells], axis=0)
        found = result.probabilities[rows[point]]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert result.voted[rows[point]] == any(one.voted[c] for one, c in cells)


def test_a_single_grid_is_returned_as_it_is(grids):
    prediction, cell_of_point = mean_over_grids(grids[:1])
    assert prediction is grids[0][0]
    assert cell_of_point is grids[0][1]


@pytest.mark.parametrize("at_once", [1, 2])
def test_threads_end_when_voting_stops(at_once):
    class Network:
        output_shape = (None, 1, 2)

        def predict_on_batch(self, inputs):
            return np.zeros((1, 1, 2))

    class Batches:
        def __len__(self):
            return 50

        def __iter__(self):
            return prefetch(lambda number: (number, np.array([[0]])), range(50), 2)

    class Third:
        calls = 0

        def check(self, message):
            self.calls += 1
            if self.calls == 3:
                raise InterruptedRunError(message, 130)

    with pytest.raises(InterruptedRunError) as kept:
        predict_cells(
            Network(),
            Batches(),
            np.zeros((1, 3)),
            at_once=at_once,
            interrupts=Third(),
        )
    assert kept.traceback  # it holds what the call held
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith("prefetch") for name in names)
