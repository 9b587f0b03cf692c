"""Lifting to the regular representation, pooling out of it, and rotated copies."""

import numpy as np
import pytest

from tests.contracts import slow_but
from tests.oracles_equivariant import KINDS, LIMITS, call, matrices, numpy_of, shake
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import (
    InvariantPooling,
    PooledCopies,
    RegularLift,
    RepeatedCopies,
    RotatedCopies,
    StackedCopies,
    get_group,
)

NAMES = ["C1", "C4", "C8", "D4"]


def drawn(*shape, seed=5):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", slow_but(NAMES, "C4", "D4"))
def test_scalars_repeat_and_vectors_rotate(name, kind):
    layer = RegularLift(name, 3, dtype=kind)
    scalars, vectors = drawn(2, 4, 5), drawn(2, 4, 2, 3)
    plain = call(layer, {"scalars": scalars, "vectors": vectors})
    order = layer.group.order
    kernel = numpy_of(layer.vector_kernel).reshape(3, 2, 3)
    for h, matrix in enumerate(matrices(name)):
        seen = vectors.copy()
        seen[..., :2] = vectors[..., :2] @ matrix
        expected = scalars @ numpy_of(layer.kernel)
        expected = expected + np.einsum("brva,avc->brc", seen, kernel)
        np.testing.assert_allclose(plain[..., h::order], expected, atol=LIMITS[kind])
        rotated = vectors @ layer.group.matrices[h].T
        result = call(layer, {"scalars": scalars, "vectors": rotated})
        expected = plain @ layer.out_rep.rho(h).T
        np.testing.assert_allclose(result, expected, atol=LIMITS[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", slow_but(NAMES, "C4", "D4"))
def test_pooled_numbers_do_not_see_the_group(name, kind):
    layer = InvariantPooling((name, 4), 3, dtype=kind)
    x = drawn(2, 5, layer.in_rep.size)
    call(layer, {"inputs": x})
    shake(layer)
    plain = call(layer, {"inputs": x})
    for element in range(layer.in_rep.group.order):
        rotated = call(layer, {"inputs": x @ layer.in_rep.rho(element).T})
        np.testing.assert_allclose(rotated, plain, rtol=0, atol=LIMITS[kind])
    # More than the mean over the group is heard.
    order = layer.in_rep.group.order
    mean = x.reshape(2, 5, 4, order).mean(-1).repeat(order, axis=-1)
    apart = np.abs(call(layer, {"inputs": mean}) - plain).max()
    assert apart > 1e-2 or name == "C1"


@pytest.mark.parametrize("name", slow_but(NAMES, "C4", "D4"))
def test_a_rotation_permutes_the_copies(name):
    group = get_group(name)
    xyz = drawn(2, 6, 3)
    copies = call(RotatedCopies(name), {"inputs": xyz})
    copies = copies.reshape(group.order, 2, 6, 3)
    np.testing.assert_allclose(copies[0], xyz, atol=1e-6)
    for h, matrix in enumerate(matrices(name)):
        np.testing.assert_allclose(copies[h][..., :2], xyz[..., :2] @ matrix, atol=1e-6)
    for g in range(group.order):
        rotated = call(RotatedCopies(name), {"inputs": xyz @ group.matrices[g].T})
        rotated = rotated.reshape(copies.shape)
        for h in range(group.order):
            np.testing.assert_allclose(
                rotated[group.product[g, h]], copies[h], atol=1e-6
            )


def test_quarter_rotations_are_exact():
    group = get_group("D4")
    xyz = (1e3 * drawn(1, 50, 3)).astype("float32")
    copies = call(RotatedCopies("D4"), {"inputs": xyz})
    rotated = (xyz @ group.matrices[3].T).astype("float32")
    again = call(RotatedCopies("D4"), {"inputs": rotated})
    order = [group.product[3, h] for h in range(8)]
    np.testing.assert_array_equal(again[order], copies)


def test_copies_are_pooled_and_stacked_by_element():
    x = drawn(8, 3, 2)
    apart = x.reshape(4, 2, 3, 2)
    pooled = call(PooledCopies("C4"), {"inputs": x})
    np.testing.assert_allclose(pooled, apart.mean(0), atol=1e-6)
    stacked = call(StackedCopies("C4"), {"inputs": x})
    for c in range(2):
        for h in range(4):
            np.testing.assert_allclose(
                stacked[..., 4 * c + h], apart[h, ..., c], atol=1e-6
            )
    rows = np.arange(6, dtype="int32").reshape(2, 3, 1)
    repeated = call(RepeatedCopies("C4"), {"inputs": rows})
    np.testing.assert_array_equal(repeated, np.tile(rows, (4, 1, 1)))


def test_errors_name_the_argument():
    with pytest.raises(DeepLearningException, match=r"`units` must be at least 1"):
        InvariantPooling(("C4", 1), 0)
    with pytest.raises(DeepLearningException, match=r"`vectors` must be"):
        call(
            RegularLift("C4", 2), {"scalars": drawn(1, 2, 3), "vectors": drawn(1, 2, 3)}
        )
