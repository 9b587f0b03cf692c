"""The norms: one scale per copy of an irrep, one mean square per point."""

import numpy as np
import pytest

from tests.contracts import slow_but
from tests.oracles_equivariant import GROUPS, KINDS, LIMITS, call, shake
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import EquivariantLayerNorm, EquivariantRMSNorm

NORMS = [EquivariantRMSNorm, EquivariantLayerNorm]


def drawn(*shape):
    return np.random.default_rng(2).normal(size=shape) + 0.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", slow_but([*GROUPS, "D3"], "C4", "D3"))
def test_commutes_with_the_group(name, norm, kind):
    layer = norm((name, 3), dtype=kind)
    x = drawn(2, 4, layer.in_rep.size)
    call(layer, {"inputs": x})
    shake(layer)
    expected = call(layer, {"inputs": x})
    for element in range(layer.group.order):
        rho = layer.in_rep.rho(element)
        rotated = call(layer, {"inputs": x @ rho.T})
        np.testing.assert_allclose(rotated, expected @ rho.T, atol=LIMITS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_divides_by_the_spread_of_all_channels(norm, kind):
    layer = norm(("D3", 2), eps=0.1, dtype=kind)
    x = drawn(2, 4, 12)
    centered = x - x.mean(-1, keepdims=True) if norm is NORMS[1] else x
    expected = centered / np.sqrt(np.square(centered).mean(-1, keepdims=True) + 0.1)
    result = call(layer, {"inputs": x})
    np.testing.assert_allclose(result, expected, rtol=0, atol=LIMITS[kind])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("C1", 1), ("C4", 3), ("C8", 5), ("D4", 6)]
)
def test_scales_every_copy_of_every_irrep(name, count):
    layer = EquivariantRMSNorm((name, 2))
    layer.build((None, layer.in_rep.size))
    assert layer.scale.shape == (count, 2)
    x = drawn(3, layer.in_rep.size)
    before = call(layer, {"inputs": x})
    seen = []
    for row in range(count):
        value = np.ones((count, 2))
        value[row, 1] = 2
        layer.scale.assign(value)
        change = call(layer, {"inputs": x}) - before
        assert np.abs(change[:, : layer.group.order]).max() < 1e-6
        seen.append(change.ravel())
        assert np.abs(change).max() > 1e-2
    overlap = np.array(seen) @ np.array(seen).T
    assert np.abs(overlap - np.diag(np.diag(overlap))).max() < 1e-4


def test_the_layer_norm_goes_without_a_bias():
    layer = EquivariantLayerNorm(("C4", 2), bias=False)
    layer.build((None, 8))
    assert len(layer.weights) == 1


def test_errors_name_the_argument():
    with pytest.raises(DeepLearningException, match=r"`eps` must be positive"):
        EquivariantRMSNorm(("C4", 2), eps=0)
    with pytest.raises(DeepLearningException, match=r"must have 8 channels"):
        EquivariantRMSNorm(("C4", 2))(np.zeros((1, 9), "float32"))
