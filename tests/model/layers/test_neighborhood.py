"""The gather of neighbors, against loops."""

import keras
import numpy as np
import pytest

from tests.contracts import (
    assert_finite,
    assert_same,
    gradients,
    numpy_of,
    run,
    slow_but,
)
from tests.oracles import gather_by_loops
from vl3d_lite.model.layers import (
    flat_rows,
    gather_neighbors,
    is_present,
    is_real,
    materialize,
)

MISSING = [-1, 7, 12, -100]


@keras.saving.register_keras_serializable(package="tests")
class Gather(keras.layers.Layer):
    """Make a layer of the function, for the modes of the contract."""

    def __init__(self, zero_missing=True, **kwargs):
        super().__init__(**kwargs)
        self.zero_missing = zero_missing

    def call(self, features, neighbors):
        return gather_neighbors(features, neighbors, self.zero_missing)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def features(rng):
    return rng.normal(size=(2, 7, 3)).astype("float32")


@pytest.fixture
def neighbors(rng):
    neighbors = rng.integers(0, 7, (2, 5, 4)).astype("int32")
    neighbors[0, 0, :2] = [-1, 7]
    neighbors[1, 2] = MISSING
    return neighbors


def test_an_index_outside_the_rows_is_missing(features):
    neighbors = np.array([[[0, 6, *MISSING]], [[3, -1, 5, 7, 0, 6]]], "int32")
    present = numpy_of(is_present(neighbors, features))
    expected = [[[1, 1, 0, 0, 0, 0]], [[1, 0, 1, 0, 1, 1]]]
    np.testing.assert_array_equal(present, np.array(expected, bool))


def test_a_point_without_any_neighbor_is_padding(neighbors):
    real = numpy_of(is_real(neighbors, 7))
    expected = np.ones((2, 5), bool)
    expected[1, 2] = False
    np.testing.assert_array_equal(real, expected)
    np.testing.assert_array_equal(numpy_of(is_real(np.array([[[7, 6]]]), 7)), [[True]])


def test_flat_rows_point_into_their_own_field(features, neighbors):
    rows = numpy_of(flat_rows(neighbors, features))
    assert rows[0].max() < 7
    assert rows[1].min() >= 7
    assert rows[1, 2].tolist() == [7, 7, 7, 7]
    assert rows[1, 0].tolist() == [7 + index for index in neighbors[1, 0]]


@pytest.mark.parametrize("mode", slow_but(["eager", "graph", "jit"], "eager"))
def test_gathers_what_the_loop_gathers(features, neighbors, mode):
    gathered = run(Gather(), (features, neighbors), mode=mode)
    np.testing.assert_array_equal(gathered, gather_by_loops(features, neighbors))


def test_missing_slots_are_zero_and_pass_no_gradient(features, neighbors):
    features[:, 0] = np.nan
    neighbors[neighbors == 0] = 1
    gathered, _, (slope, _) = gradients(
        Gather(), (features, neighbors), cotangents=[np.ones((2, 5, 4, 3))]
    )
    present = (neighbors >= 0) & (neighbors < 7)
    assert_finite(gathered)
    assert (gathered[~present] == 0).all()
    expected = np.zeros((2, 7))
    for b, i, j in np.argwhere(present):
        expected[b, neighbors[b, i, j]] += 1
    assert_same(slope, np.repeat(expected[..., None], 3, axis=-1))


def test_the_fast_form_agrees_where_neighbors_are_present(features, neighbors):
    gathered = run(Gather(zero_missing=False), (features, neighbors))
    present = (neighbors >= 0) & (neighbors < 7)
    expected = gather_by_loops(features, neighbors)
    np.testing.assert_array_equal(gathered[present], expected[present])
    assert_finite(gathered)


def test_the_batch_size_may_be_unknown(features, neighbors):
    ports = [keras.Input((7, 3)), keras.Input((5, 4), dtype="int32")]
    model = keras.Model(ports, Gather()(*ports))
    assert model.output_shape == (None, 5, 4, 3)
    gathered = numpy_of(model([features, neighbors]))
    np.testing.assert_array_equal(gathered, gather_by_loops(features, neighbors))


@pytest.mark.parametrize("dtype", ["float16", "int32"])
def test_the_type_of_the_features_stays(neighbors, dtype):
    features = np.arange(2 * 7 * 3).reshape(2, 7, 3).astype(dtype)
    gathered = gather_neighbors(keras.ops.convert_to_tensor(features), neighbors)
    assert keras.backend.standardize_dtype(gathered.dtype) == dtype
    expected = gather_by_loops(features, neighbors)
    np.testing.assert_array_equal(numpy_of(gathered), expected)


@keras.saving.register_keras_serializable(package="tests")
class Settle(keras.layers.Layer):
    """Make a layer of the function, for the modes of the contract."""

    def call(self, values, neighbors):
        return materialize(values, neighbors)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("first", [-(2**31), -1, 0, 1, 7, 2**31 - 1])
def test_settling_leaves_every_bit(rng, dtype, first):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 off")
    values = rng.normal(size=(2, 7, 3)).astype(dtype)
    values[0, 0] = np.nan, np.inf, -0.0
    neighbors = np.full((2, 7, 4), first, "int32")
    result = numpy_of(materialize(values, neighbors))
    assert result.dtype == values.dtype
    assert result.tobytes() == values.tobytes()


@pytest.mark.parametrize("mode", slow_but(["eager", "graph", "jit"], "eager"))
def test_settling_has_a_gradient_of_one(features, mode):
    inputs = features, np.full((2, 7, 4), -1, "int32")
    np.testing.assert_array_equal(run(Settle(), inputs, mode=mode), features)
    cotangent = np.arange(features.size, dtype="float32").reshape(features.shape)
    _, _, of_inputs = gradients(Settle(), inputs, mode=mode, cotangents=[cotangent])
    np.testing.assert_array_equal(of_inputs[0], cotangent)
