"""Dense, normalization over the real points, LeakyReLU."""

import keras
import numpy as np
import pytest

from tests.contracts import (
    MODES,
    assert_same,
    check_garbage,
    gradients,
    run,
    slow_but,
)
from tests.oracles_attention import slope_by_differences, unary_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.unary import UnaryBlock

ROWS, PADDED = 9, 2
NORMALIZATIONS = ("batch", "layer", "none")


@pytest.fixture
def inputs():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2, ROWS, 4)).astype("float32")
    neighbors = rng.integers(-1, ROWS - PADDED, size=(2, ROWS, 3)).astype("int32")
    neighbors[..., 0] = np.arange(ROWS)
    neighbors[:, -PADDED:] = (-1, ROWS, ROWS + 5)
    return [features, neighbors]


@pytest.fixture
def real(inputs):
    return np.tile(np.arange(ROWS) < ROWS - PADDED, (2, 1))


def randomized(layer, inputs):
    """Build the layer and give every weight a value of its own."""
    layer(inputs)
    rng = np.random.default_rng(2)
    for weight in layer.weights:
        values = rng.normal(size=weight.shape)
        weight.assign(np.abs(values) + 0.5 if "variance" in weight.name else values)
    return layer


def weights_of(layer):
    return {
        weight.name: keras.ops.convert_to_numpy(weight).astype("float64")
        for weight in layer.weights
    }


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("slope", [0.1, 1.0])
def test_matches_the_formula(inputs, normalization, slope, training):
    layer = UnaryBlock(6, negative_slope=slope, normalization=normalization)
    randomized(layer, inputs)
    expected = unary_by_loops(*inputs, weights_of(layer), slope, training)
    assert_same(run(layer, inputs, training), expected)


def test_layer_normalization_acts_along_the_channels(inputs, real):
    layer = UnaryBlock(6, negative_slope=1.0, normalization="layer")
    result = run(layer, inputs)[real].astype("float64")
    np.testing.assert_allclose(result.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(result.std(-1), 1, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_match_the_formula(inputs, training):
    layer = randomized(UnaryBlock(6), inputs)
    rng = np.random.default_rng(3)
    cotangent = rng.normal(size=(2, ROWS, 6))
    _, by_weight, by_input = gradients(layer, inputs, training, cotangents=[cotangent])
    slopes = {path.split("/")[-1]: slope for path, slope in by_weight.items()}
    slopes["features"] = by_input[0]
    weights = weights_of(layer)
    arrays = {**weights, "features": inputs[0].astype("float64")}

    def function(arrays):
        return unary_by_loops(arrays["features"], inputs[1], arrays, 0.1, training)

    for name, slope in slopes.items():
        directions = {other: np.zeros(array.shape) for other, array in arrays.items()}
        directions[name] = rng.normal(size=slope.shape)
        expected = slope_by_differences(function, arrays, directions, cotangent)
        received = float((slope * directions[name]).sum())
        assert received == pytest.approx(expected, rel=2e-4, abs=2e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e9])
def test_padded_points_have_no_effect(inputs, real, garbage, training, mode):
    features, neighbors = inputs
    dirty = np.where(real[..., None], features, np.float32(garbage))
    layer = randomized(UnaryBlock(6), inputs)
    check_garbage(layer, inputs, [dirty, neighbors], real, training, mode)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_padded_points_get_zeros(inputs, real, normalization):
    features, neighbors = inputs
    dirty = np.where(real[..., None], features, np.float32(np.nan))
    layer = randomized(UnaryBlock(6, normalization=normalization), inputs)
    result = run(layer, [dirty, neighbors])
    np.testing.assert_array_equal(result[~real], 0)
    assert (result[real] != 0).all()


def test_moving_statistics_follow_the_real_points_alone(inputs, real):
    features, neighbors = inputs
    dirty = np.where(real[..., None], features, np.float32(np.nan))
    layer = UnaryBlock(6, momentum=0.75)
    layer([dirty, neighbors], training=True)
    weights = weights_of(layer)
    values = features[real].astype("float64") @ weights["kernel"]
    assert_same(weights["moving_mean"], 0.25 * values.mean(0))
    assert_same(weights["moving_variance"], 0.75 + 0.25 * values.var(0))


def test_one_unit_works_without_batch_normalization(inputs):
    layer = randomized(UnaryBlock(1, normalization="none"), inputs)
    expected = unary_by_loops(*inputs, weights_of(layer), 0.1, True)
    assert_same(run(layer, inputs, training=True), expected)


def test_refuses_to_normalize_one_unit_by_batch():
    with pytest.raises(DeepLearningException, match="at least 2"):
        UnaryBlock(1)


def test_permuting_points_permutes_the_result(inputs):
    features, neighbors = inputs
    layer = randomized(UnaryBlock(6), inputs)
    order = np.random.default_rng(4).permutation(ROWS)
    permuted = run(layer, [features[:, order], neighbors[:, order]], training=True)
    assert_same(permuted, run(layer, inputs, training=True)[:, order])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"units": 0}, "units"),
        ({"units": 4, "negative_slope": -0.1}, "negative_slope"),
        ({"units": 4, "negative_slope": 1.5}, "negative_slope"),
        ({"units": 4, "normalization": "instance"}, "normalization"),
        ({"units": 4, "momentum": 1.5}, "momentum"),
    ],
    ids=str,
)
def test_refuses_arguments_out_of_range(arguments, named):
    with pytest.raises(DeepLearningException, match=f"`{named}` must"):
        UnaryBlock(**arguments)


def test_refuses_other_ranks(inputs):
    with pytest.raises(DeepLearningException, match="expected a list of features"):
        UnaryBlock(4)([inputs[0], inputs[1][0]])
    with pytest.raises(DeepLearningException, match="expected a list of features"):
        UnaryBlock(4)(inputs[0])
