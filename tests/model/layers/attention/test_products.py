"""Products over neighbors and their gradients, against sums in loops."""

import keras
import numpy as np
import pytest

from tests.contracts import MODES, gradients, slow_but
from vl3d_lite.model.layers.attention.products import (
    encode_offsets,
    narrow_matmul,
    pool_by_attention,
)

RNG = np.random.default_rng(3)
B, M, K, C, G = 2, 5, 4, 6, 3
NEIGHBORS = RNG.integers(-1, M, (B, M, K)).astype("int32")


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def encode_by_loops(offsets, kernel, bias):
    out = np.zeros((B, M, K, C))
    for slot in np.ndindex(B, M, K):
        for c in range(C):
            total = bias[c] + sum(offsets[slot][n] * kernel[n, c] for n in range(3))
            out[(*slot, c)] = max(total, 0)
    return out


def multiply_by_loops(hidden, kernel):
    out = np.zeros((B, M, K, G))
    for slot in np.ndindex(B, M, K):
        for g in range(G):
            out[(*slot, g)] = sum(hidden[slot][c] * kernel[c, g] for c in range(C))
    return out


def pool_by_loops(alpha, hidden):
    out = np.zeros((B, M, G, C))
    for b, m, g, c in np.ndindex(B, M, G, C):
        out[b, m, g, c] = sum(alpha[b, m, k, g] * hidden[b, m, k, c] for k in range(K))
    return out


CASES = {
    "encode": (
        encode_offsets,
        encode_by_loops,
        (draw(B, M, K, 3), draw(3, C), draw(C)),
    ),
    "narrow": (
        lambda *values: narrow_matmul(*values, NEIGHBORS),
        multiply_by_loops,
        (draw(B, M, K, C), draw(C, G)),
    ),
    "pool": (
        lambda *values: pool_by_attention(*values, NEIGHBORS),
        pool_by_loops,
        (draw(B, M, K, G), draw(B, M, K, C)),
    ),
}


class Product(keras.layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(*inputs)


@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
@pytest.mark.parametrize("name", CASES)
def test_products_and_gradients_are_the_sums_and_their_slopes(name, mode):
    function, oracle, values = CASES[name]
    expected = oracle(*(value.astype("float64") for value in values))
    cotangent = RNG.normal(size=expected.shape).astype("float32")
    output, _, received = gradients(
        Product(function), list(values), mode=mode, cotangents=[cotangent]
    )
    np.testing.assert_allclose(output, expected, atol=1e-5)
    step = 1e-6
    for index, value in enumerate(values):
        direction = RNG.normal(size=value.shape)
        sides = []
        for sign in (1, -1):
            moved = [v.astype("float64") for v in values]
            moved[index] = moved[index] + sign * step * direction
            sides.append(float(np.sum(oracle(*moved) * cotangent)))
        slope = (sides[0] - sides[1]) / (2 * step)
        found = float(np.sum(received[index] * direction))
        assert found == pytest.approx(slope, rel=1e-4, abs=1e-4)
