"""Attention among all points of a field: padding, position, scores."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.contracts import (
    MODES,
    assert_same,
    check_garbage,
    run,
    slow_but,
)
from tests.oracles_attention import gqa_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import FieldAttentionLayer, GroupedQueryAttentionLayer

ROWS, PADDED, WIDTH = 8, 2, 6
DOUBLE = "float64" if keras.backend.backend() == "tensorflow" else "float32"
EXACT = 1e-12 if DOUBLE == "float64" else 1e-5


@pytest.fixture
def inputs():
    rng = np.random.default_rng(1)
    coordinates = (4 * rng.normal(size=(2, ROWS, 3))).astype("float32")
    features = rng.normal(size=(2, ROWS, WIDTH)).astype("float32")
    neighbors = rng.integers(0, ROWS - PADDED, size=(2, ROWS, 4)).astype("int32")
    neighbors[..., 0] = np.arange(ROWS)
    neighbors[:, -PADDED:] = (-1, ROWS, ROWS + 5, -7)
    neighbors[1] = -1  # an empty field
    return [coordinates, features, neighbors]


@pytest.fixture
def real(inputs):
    return ((inputs[2] >= 0) & (inputs[2] < ROWS)).any(-1)


def make(dtype="float32", **options):
    attention = GroupedQueryAttentionLayer(4, 4, 2, dtype=dtype, name="inner")
    return FieldAttentionLayer(attention, dtype=dtype, **options)


def randomized(inputs, **options):
    layer = make(**options)
    layer(inputs)
    rng = np.random.default_rng(2)
    for weight in layer.trainable_weights:
        weight.assign(0.7 * rng.normal(size=weight.shape))
    return layer


def expected_of(layer, inputs, real):
    weights, encoding = {}, {}
    for weight in layer.trainable_weights:
        value = ops.convert_to_numpy(weight.value).astype("float64")
        *_, part, name = weight.path.split("/")
        weights.setdefault(part, {})[name] = encoding[name] = value
    coordinates, features = (value.astype("float64") for value in inputs[:2])
    tokens = features.copy()
    for b, i in np.argwhere(real) if layer.position else ():
        waves = coordinates[b, i] / layer.scale @ encoding["frequencies"]
        waves = np.sin(waves + encoding["phases"])
        tokens[b, i] += waves @ encoding["encoding_kernel"]
    attends = real[:, :, None] & real[:, None, :]
    output, scores = gqa_by_loops(tokens, tokens, features, attends, weights)
    output[~real] = 0
    return output, scores


@pytest.mark.parametrize("position", [True, False])
def test_matches_the_formula(inputs, real, position):
    layer = randomized(inputs, dtype=DOUBLE, position=position, scale=2.5)
    output, scores = expected_of(layer, inputs, real)
    assert_same(run(layer, inputs), output, EXACT)
    found = ops.convert_to_numpy(layer.attention_scores(inputs))
    assert_same(found, scores, EXACT)
    assert not found[1].any()
    np.testing.assert_allclose(found[0].sum(-1)[:, real[0]], 1, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
def test_what_padding_holds_has_no_effect(inputs, real, mode):
    layer = randomized(inputs)
    dirty = [value.copy() for value in inputs]
    dirty[0][~real] = np.nan
    dirty[1][~real] = np.inf
    dirty[2][~real] = ROWS + 3
    check_garbage(layer, inputs, dirty, real, True, mode)
    np.testing.assert_array_equal(run(layer, dirty)[~real], 0)


def test_a_field_without_its_padding_gives_the_same(inputs, real):
    layer = randomized(inputs)
    tight = [value[:1, : ROWS - PADDED] for value in inputs]
    expected = run(layer, tight)[0]
    assert_same(run(layer, inputs)[0, : ROWS - PADDED], expected, 1e-6)


def test_the_order_of_the_points_does_not_matter(inputs):
    layer = randomized(inputs)
    order = np.random.default_rng(3).permutation(ROWS - PADDED)
    order = np.concatenate([order, np.arange(ROWS - PADDED, ROWS)])
    moved = [value[:, order] for value in inputs]
    assert_same(run(layer, moved), run(layer, inputs)[:, order], 1e-6)


@pytest.mark.slow
def test_places_matter_unless_position_is_off(inputs, real):
    moved = [inputs[0] * np.float32(1.3), *inputs[1:]]
    layer = randomized(inputs, position=False)
    np.testing.assert_array_equal(run(layer, moved), run(layer, inputs))
    layer = randomized(inputs)
    change = np.abs(run(layer, moved) - run(layer, inputs)).max(-1)
    assert (change[real] > 1e-4).all()


def test_encodings_of_near_points_are_alike_at_the_start():
    keras.utils.set_random_seed(4)
    layer = FieldAttentionLayer(GroupedQueryAttentionLayer(4, 2, 1), scale=5.0)
    layer.build([(1, 3, 3), (1, 3, 256), (1, 3, 1)])
    layer.encoding_kernel.assign(np.eye(256))
    points = np.array([[[3, 1, 0], [3.5, 1, 0], [30, 1, 0]]], "float32")
    waves = ops.convert_to_numpy(layer._encode(points, np.ones((1, 3), bool)))[0]
    near, far = waves[0] @ waves[1], waves[0] @ waves[2]
    assert near > 0.8 * (waves[0] @ waves[0])
    assert abs(far) < 0.3 * near


@pytest.mark.slow
def test_coordinates_stay_single_precision_in_half_precision(inputs):
    layer = randomized(inputs, dtype="mixed_float16", scale=0.001)
    expected = run(randomized(inputs, scale=0.001), inputs)
    assert_same(run(layer, inputs).astype("float32"), expected, 0.05)


def test_refuses_a_scale_that_is_no_length():
    with pytest.raises(DeepLearningException, match=r"`scale` must be positive"):
        make(scale=0)


def test_refuses_inputs_of_another_rank(inputs):
    layer = make()
    with pytest.raises(DeepLearningException, match=r"expected a list of coordinates"):
        layer([inputs[0], inputs[1][0], inputs[2]])
