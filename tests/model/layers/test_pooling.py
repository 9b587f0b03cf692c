"""Pooling to the coarse level and interpolation to the fine one."""

import keras
import numpy as np
import pytest

from tests.contracts import (
    MODES,
    assert_finite,
    assert_same,
    check_garbage,
    gradients,
    run,
    slow_but,
)
from tests.oracles_attention import max_pool_by_loops, upsample_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.pooling import NeighborMaxPool, NeighborUpsample

FINE, COARSE = 11, 5


def draw(rows, centers, width, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, rows, 4)).astype("float32")
    neighbors = rng.integers(0, rows - 1, size=(2, centers, width)).astype("int32")
    neighbors[rng.random(neighbors.shape) < 0.3] = -1
    neighbors[:, -1] = (-1, rows, rows + 5)[:width]
    return features, neighbors


@pytest.fixture
def pool_inputs():
    return list(draw(FINE, COARSE, 3, seed=1))


@pytest.fixture
def nearest_inputs():
    return list(draw(COARSE, FINE, 1, seed=2))


@pytest.fixture
def weighted_inputs():
    rng = np.random.default_rng(4)
    fine = rng.normal(size=(2, FINE, 3)).astype("float32")
    coarse = rng.normal(size=(2, COARSE, 3)).astype("float32")
    features, up = draw(COARSE, FINE, 3, seed=3)
    fine[:, 0] = coarse[:, 0]
    up[:, 0] = (0, 1, 2)
    return [features, up, fine, coarse]


def test_pooling_takes_the_largest_present_feature(pool_inputs):
    assert_same(run(NeighborMaxPool(), pool_inputs), max_pool_by_loops(*pool_inputs), 0)


def test_pooling_keeps_features_below_zero(pool_inputs):
    features, down = pool_inputs
    result = run(NeighborMaxPool(), [features - 100, down])
    assert_same(result, max_pool_by_loops(features - 100, down), 0)
    assert result[:, 0].max() < 0


def test_pooling_sends_the_gradient_to_the_largest(pool_inputs):
    features, down = pool_inputs
    cotangent = np.random.default_rng(5).normal(size=(2, COARSE, 4))
    down = down.copy()
    for row in down.reshape(-1, 3):
        row[1:][np.isin(row[1:], row[0])] = -1
        row[2] = -1 if row[2] == row[1] else row[2]
    expected = np.zeros(features.shape)
    for b, m, c in np.ndindex(2, COARSE, 4):
        present = [j for j in down[b, m] if 0 <= j < FINE]
        if present:
            largest = max(present, key=lambda j: features[b, j, c])
            expected[b, largest, c] += cotangent[b, m, c]
    _, _, slopes = gradients(
        NeighborMaxPool(), [features, down], cotangents=[cotangent]
    )
    assert_same(slopes[0], expected, 1e-6)


def test_pooling_nothing_gives_zeros_and_no_gradient(pool_inputs):
    features, down = pool_inputs
    result, _, slopes = gradients(NeighborMaxPool(), [features, np.full_like(down, -1)])
    assert_same(result, np.zeros((2, COARSE, 4)), 0)
    assert_same(slopes[0], np.zeros(features.shape), 0)


@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
@pytest.mark.parametrize("garbage", [np.nan, 1e9, -np.inf])
def test_pooling_ignores_unlisted_rows(pool_inputs, mode, garbage):
    features, down = pool_inputs
    dirty = features.copy()
    dirty[:, -1] = garbage
    real = np.ones((2, COARSE), bool)
    check_garbage(NeighborMaxPool(), [features, down], [dirty, down], real, False, mode)


@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
def test_pooling_ignores_appended_missing_neighbors(pool_inputs, mode):
    features, down = pool_inputs
    missing = np.tile(np.int32([-1, FINE, FINE + 5]), (2, COARSE, 1))
    wide = np.concatenate([down, missing], axis=-1)
    real = np.ones((2, COARSE), bool)
    check_garbage(
        NeighborMaxPool(), [features, down], [features, wide], real, False, mode
    )


def test_pooling_does_not_depend_on_the_order_of_neighbors(pool_inputs):
    features, down = pool_inputs
    reversed_ = run(NeighborMaxPool(), [features, down[..., ::-1].copy()])
    assert_same(reversed_, run(NeighborMaxPool(), pool_inputs), 0)


def test_upsampling_from_one_copies_it(nearest_inputs):
    result = run(NeighborUpsample(), nearest_inputs)
    assert_same(result, upsample_by_loops(*nearest_inputs), 0)


def test_upsampling_from_many_weighs_by_inverse_distance(weighted_inputs):
    result = run(NeighborUpsample(), weighted_inputs)
    assert_same(result, upsample_by_loops(*weighted_inputs), 2e-6)


def test_upsampling_gradient_is_the_transposed_weights(weighted_inputs):
    features, up, fine, coarse = weighted_inputs
    cotangent = np.random.default_rng(6).normal(size=(2, FINE, 4))
    _, _, slopes = gradients(
        NeighborUpsample(), weighted_inputs, cotangents=[cotangent]
    )
    expected = np.zeros(features.shape)
    for j in range(COARSE):
        one_hot = np.zeros(features.shape)
        one_hot[:, j] = 1
        weights = upsample_by_loops(one_hot, up, fine, coarse)
        expected[:, j] = (weights * cotangent).sum(axis=1)
    assert_same(slopes[0], expected)
    assert_finite(slopes[2:])


def test_upsampling_copies_a_coincident_point(weighted_inputs):
    features = weighted_inputs[0]
    result = run(NeighborUpsample(), weighted_inputs)
    assert_same(result[:, 0], features[:, 0], 1e-5)


def test_upsampling_takes_coordinates_with_one_neighbor_too(weighted_inputs):
    features, up, fine, coarse = weighted_inputs
    result = run(NeighborUpsample(), [features, up[..., :1], fine, coarse])
    assert_same(result, upsample_by_loops(features, up[..., :1]), 0)


@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
@pytest.mark.parametrize("garbage", [np.nan, 1e9])
def test_upsampling_ignores_unlisted_rows(weighted_inputs, mode, garbage):
    features, up, fine, coarse = weighted_inputs
    dirty_features, dirty_coarse = features.copy(), coarse.copy()
    dirty_features[:, -1] = garbage
    dirty_coarse[:, -1] = garbage
    dirty_fine = fine.copy()
    dirty_fine[:, -1] = garbage
    real = np.ones((2, FINE), bool)
    check_garbage(
        NeighborUpsample(),
        weighted_inputs,
        [dirty_features, up, dirty_fine, dirty_coarse],
        real,
        False,
        mode,
    )


def test_upsampling_measures_distances_in_float32_under_half_precision():
    features = np.array([[[0.0], [1.0]]], "float32")
    coarse = np.array([[[1000.0, 0, 0], [1000.3, 0, 0]]], "float32")
    fine = np.array([[[1000.1, 0, 0]]], "float32")
    up = np.array([[[0, 1]]], "int32")
    layer = NeighborUpsample(dtype="mixed_float16")
    result = keras.ops.convert_to_numpy(layer([features, up, fine, coarse]))
    assert result.dtype == "float16"
    np.testing.assert_allclose(result, [[[1 / 3]]], atol=2e-3)


def test_upsampling_from_many_needs_coordinates(weighted_inputs):
    with pytest.raises(DeepLearningException, match="needs coordinates"):
        NeighborUpsample()(weighted_inputs[:2])


@pytest.mark.parametrize("count", [1, 3])
def test_upsampling_refuses_another_number_of_inputs(weighted_inputs, count):
    with pytest.raises(DeepLearningException, match="expected a list of features"):
        NeighborUpsample()(weighted_inputs[:count])


def test_pooling_refuses_other_ranks(pool_inputs):
    features, down = pool_inputs
    with pytest.raises(DeepLearningException, match=r"down \(B, M, K\)"):
        NeighborMaxPool()([features, down[0]])
    with pytest.raises(DeepLearningException, match=r"down \(B, M, K\)"):
        NeighborMaxPool()(features)
