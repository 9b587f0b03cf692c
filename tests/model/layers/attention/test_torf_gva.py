"""The last step of grouped vector attention."""

import keras
import numpy as np
import pytest

from tests.contracts import assert_same, gradients, run
from tests.oracles_attention import torf_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.attention.torf_gva import TORFGVALayer, contract_neighbors


@pytest.fixture
def operands():
    rng = np.random.default_rng(3)
    alpha = rng.random((4, 5, 3), dtype="float32")
    w, values = rng.normal(size=(2, 4, 5, 3, 2)).astype("float32")
    return [alpha, w, values]


def test_matches_the_formula(operands):
    assert_same(run(TORFGVALayer(), operands), torf_by_loops(*operands), 1e-6)


def test_gradients_match_the_formula(operands):
    alpha, w, values = (operand.astype("float64") for operand in operands)
    cotangent = np.random.default_rng(4).normal(size=(4, 3, 2))
    _, _, slopes = gradients(TORFGVALayer(), operands, cotangents=[cotangent])
    spread = cotangent[:, None]
    assert_same(slopes[0], (spread * w * values).sum(-1))
    assert_same(slopes[1], spread * alpha[..., None] * values)
    assert_same(slopes[2], spread * alpha[..., None] * w)


def test_has_no_weights(operands):
    layer = TORFGVALayer()
    run(layer, operands)
    assert layer.weights == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_computes_in_the_float_type_of_its_policy(operands, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 by default")
    result = TORFGVALayer(dtype=dtype)(operands)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    tolerance = {"float16": 5e-3, "bfloat16": 4e-2}.get(dtype, 1e-6)
    result = keras.ops.convert_to_numpy(keras.ops.cast(result, "float32"))
    assert_same(result, torf_by_loops(*operands), tolerance)


def test_a_factor_of_one_may_be_left_out(operands):
    alpha, _, values = operands
    result = keras.ops.convert_to_numpy(contract_neighbors(alpha, values))
    assert_same(result, torf_by_loops(alpha, np.ones_like(values), values), 1e-6)


def test_takes_and_ignores_training_and_mask(operands):
    layer = TORFGVALayer()
    result = layer.call(operands, training=True, mask=False)
    assert_same(keras.ops.convert_to_numpy(result), run(layer, operands), 0)


def test_a_mask_by_name_is_no_warning_of_keras(operands):
    layer = TORFGVALayer()
    expected = keras.ops.convert_to_numpy(layer(operands))
    result = layer(operands, training=False, mask=False)  # warnings are errors
    assert_same(keras.ops.convert_to_numpy(result), expected, 0)


def test_without_weights_the_factor_is_one(operands):
    alpha, _, values = operands
    layer = TORFGVALayer(weighted=False)
    expected = torf_by_loops(alpha, np.ones_like(values), values)
    assert_same(run(layer, [alpha, values]), expected, 1e-6)
    assert layer.compute_output_shape([alpha.shape, values.shape]) == (4, 3, 2)
    with pytest.raises(DeepLearningException, match=r"two inputs of ranks \(3, 4\)"):
        layer(operands)


@pytest.mark.parametrize(
    "shapes",
    [
        [(4, 5, 3), (4, 5, 3, 2)],
        [(4, 5, 3), (4, 5, 3, 2), (4, 5, 3, 2), (4, 5, 3, 2)],
        [(4, 5, 3), (4, 5, 3), (4, 5, 3, 2)],
        [(4, 5, 3, 1), (4, 5, 3, 2), (4, 5, 3, 2)],
        [(4, 5, 3), (4, 5, 3, 2), (4, 15, 2)],
    ],
    ids=str,
)
def test_refuses_ranks_other_than_3_4_4(shapes):
    with pytest.raises(DeepLearningException, match=r"ranks \(3, 4, 4\)"):
        TORFGVALayer()([np.ones(shape, "float32") for shape in shapes])


def test_refuses_a_lone_tensor():
    with pytest.raises(DeepLearningException, match=r"ranks \(3, 4, 4\)"):
        TORFGVALayer()(np.ones((4, 5, 3), "float32"))


@pytest.mark.parametrize(
    ("letter", "shapes"),
    [
        ("B", [(1, 5, 3), (4, 5, 3, 2), (4, 5, 3, 2)]),
        ("K", [(4, 5, 3), (4, 6, 3, 2), (4, 5, 3, 2)]),
        ("G", [(4, 5, 1), (4, 5, 3, 2), (4, 5, 3, 2)]),
        ("d", [(4, 5, 3), (4, 5, 3, 2), (4, 5, 3, 1)]),
    ],
)
def test_refuses_axes_that_differ(letter, shapes):
    with pytest.raises(DeepLearningException, match=f"axis {letter} must agree"):
        TORFGVALayer()([np.ones(shape, "float32") for shape in shapes])


def test_refuses_other_axes_once_it_is_built():
    layer = TORFGVALayer()
    layer([np.ones(shape, "float32") for shape in [(4, 5, 3), *[(4, 5, 3, 2)] * 2]])
    with pytest.raises(DeepLearningException, match="axis G must agree"):
        layer([np.ones(shape, "float32") for shape in [(4, 5, 1), *[(4, 5, 3, 2)] * 2]])


def test_unknown_axes_are_no_error():
    layer = TORFGVALayer()
    layer.build([(None, 5, 3), (None, None, 3, 2), (4, 5, 3, None)])
    assert layer.built
