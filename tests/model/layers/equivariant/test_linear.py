"""The linear map: tied and equivariant, equal in both evaluations."""

import numpy as np
import pytest

from tests.contracts import slow_but
from tests.oracles_equivariant import (
    GROUPS,
    KINDS,
    LIMITS,
    call,
    linear,
    numpy_of,
    shake,
)
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import EquivariantLinear


def drawn(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("evaluation", ["dense", "spectral"])
@pytest.mark.parametrize("name", slow_but([*GROUPS, "C3", "D3"], "C4", "D3"))
def test_multiplies_by_the_dense_matrix_of_its_kernel(name, evaluation, kind):
    layer = EquivariantLinear((name, 3), 5, evaluation=evaluation, dtype=kind)
    x = drawn(2, 4, layer.in_rep.size)
    call(layer, {"inputs": x})
    shake(layer)
    expected = linear(x, numpy_of(layer.kernel), numpy_of(layer.bias), name)
    result = call(layer, {"inputs": x})
    np.testing.assert_allclose(result, expected, rtol=0, atol=3 * LIMITS[kind])


@pytest.mark.parametrize("name", GROUPS)
def test_has_a_share_of_the_parameters_of_a_dense_layer(name):
    layer = EquivariantLinear((name, 3), 5)
    layer.build((None, layer.in_rep.size))
    order = layer.group.order
    assert layer.kernel.shape == (5, 3, order)
    assert 15 * order == layer.in_rep.size * layer.out_rep.size // order
    assert layer.count_params() == 15 * order + 5


@pytest.mark.parametrize("scheme", ["xavier_uniform", "kaiming_normal"])
def test_starts_as_wide_as_the_dense_matrix(scheme):
    layer = EquivariantLinear(("C4", 40), 60, init_scheme=scheme)
    layer.build((None, 160))
    expected = 2 / (160 + 240) if scheme[0] == "x" else 2 / 160
    assert np.var(numpy_of(layer.kernel)) == pytest.approx(expected, rel=0.1)


def test_errors_name_the_argument():
    for match, arguments in (
        (r"`init_scheme` must be", {"init_scheme": "he"}),
        (r"`evaluation` must be", {"evaluation": "fast"}),
        (r"`in_rep` must be", {"in_rep": 3}),
    ):
        with pytest.raises(DeepLearningException, match=match):
            EquivariantLinear(**{"in_rep": ("C4", 2), "multiplicity": 2, **arguments})
    with pytest.raises(DeepLearningException, match=r"`inputs` must have 8 channels"):
        EquivariantLinear(("C4", 2), 2)(np.zeros((1, 9), "float32"))
