"""Operations that keep float64 on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.contracts import gradients
from vl3d_lite.model.layers import EnvelopeGatedAttention, GroupedVectorAttentionLayer
from vl3d_lite.model.layers.precision import matmul, maximum, minimum

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has no float64 by default"
)


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize(
    ("function", "oracle", "shapes"),
    [
        (matmul, np.matmul, [(2, 3, 4), (4, 5)]),
        (matmul, np.matmul, [(2, 3, 4), (2, 4, 5)]),
        (matmul, np.matmul, [(4,), (4, 5)]),
        (minimum, np.minimum, [(3, 4), (3, 4)]),
        (lambda values: maximum(values, 0.1), lambda v: np.maximum(v, 0.1), [(3, 4)]),
    ],
)
def test_doubles_stay_doubles(function, oracle, shapes):
    values = [numbers(*shape) + number for number, shape in enumerate(shapes)]
    result = ops.convert_to_numpy(function(*map(ops.convert_to_tensor, values)))
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, oracle(*values), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        GroupedVectorAttentionLayer(groups=2, dtype="float64"),
        GroupedVectorAttentionLayer(groups=2, weights="channels", dtype="float64"),
        EnvelopeGatedAttention(2.5, heads=2, dtype="float64"),
    ],
    ids=["groups", "channels", "envelope"],
)
def test_attention_of_doubles_trains(layer):
    rows = np.random.default_rng(1).integers(-1, 9, (2, 9, 4)).astype("int32")
    rows[..., 0] = np.arange(9)
    inputs = [numbers(2, 9, 3), numbers(2, 9, 6), rows]
    output, by_weight, _ = gradients(layer, inputs, training=True)
    assert output.dtype == np.float64
    assert np.isfinite(output).all()
    assert by_weight
    for gradient in by_weight.values():
        assert gradient.dtype == np.float64
        assert np.isfinite(gradient).all()
