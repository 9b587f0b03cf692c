"""The operator and its hand-written gradient, against loops."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.contracts import MODE_GROUPS, MODES, assert_same, gradients, slow_but
from tests.oracles import operator_by_loops, slope_along
from vl3d_lite.model.layers.convolution.kpconvx_operator import CHUNK, kpconvx_operator

BATCH, ROWS, CHANNELS, POINTS, WIDTH = 2, 6, 4, 5, 2
# Eager JAX compiles every operation again for every shape.
JAX = keras.backend.backend() == "jax"
OWN_MODES = [(MODES[-1],)] if JAX else MODE_GROUPS
COUNTS = [CHUNK + 1] if JAX else [1, CHUNK, CHUNK + 1, 2 * CHUNK + 1]
NAMES = ("features", "influence", "weights", "modulations")


class Operator(keras.layers.Layer):
    """Features, influence, weights and optionally modulations are inputs."""

    def __init__(self, neighbors, nearest, finite=False, **kwargs):
        super().__init__(**kwargs)
        self.neighbors, self.nearest, self.finite = neighbors, nearest, finite

    def call(self, inputs):
        features, influence, weights, *modulations = inputs
        return kpconvx_operator(
            features,
            ops.convert_to_tensor(self.neighbors),
            ops.convert_to_tensor(self.nearest),
            influence,
            weights,
            *modulations,
            finite=self.finite,
        )


def make_case(count, modulated):
    rng = np.random.default_rng(count)
    neighbors = rng.integers(-1, ROWS + 2, (BATCH, ROWS, count)).astype("int32")
    present = (neighbors >= 0) & (neighbors < ROWS)
    values = [
        rng.normal(size=(BATCH, ROWS, CHANNELS)),
        np.where(present, rng.random(neighbors.shape), 0),
        rng.normal(size=(POINTS, CHANNELS)),
    ]
    if modulated:
        values.append(rng.random((BATCH, ROWS, POINTS * WIDTH)))
    nearest = rng.integers(0, POINTS, neighbors.shape).astype("int32")
    return neighbors, nearest, [value.astype("float32") for value in values]


def by_loops(neighbors, nearest, features, influence, *tables):
    return operator_by_loops(features, neighbors, nearest, influence, *tables)


@pytest.mark.parametrize("modes", OWN_MODES)
@pytest.mark.parametrize("finite", [False, True], ids=["any features", "finite"])
@pytest.mark.parametrize("modulated", [False, True], ids=["depthwise", "modulated"])
@pytest.mark.parametrize("count", slow_but(COUNTS, 9))
def test_output_and_gradients_are_the_formula_and_its_slopes(
    count, modulated, finite, modes
):
    neighbors, nearest, values = make_case(count, modulated)
    expected = by_loops(neighbors, nearest, *values)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=expected.shape).astype("float32")
    layer = Operator(neighbors, nearest, finite)
    found = []
    for mode in modes:
        output, _, slopes = gradients(layer, values, mode=mode, cotangents=[cotangent])
        assert_same(output, expected)
        found.append(slopes)
    for index, name in enumerate(NAMES[: len(values)]):
        direction = rng.normal(size=values[index].shape)
        if name == "influence":  # that of a missing neighbor is a constant 0
            direction[(neighbors < 0) | (neighbors >= ROWS)] = 0

        def total(moved, index=index):
            changed = [*values[:index], moved, *values[index + 1 :]]
            return np.sum(by_loops(neighbors, nearest, *changed) * cotangent)

        wanted = slope_along(total, values[index].astype("float64"), direction)
        for slopes in found:
            slope = np.sum(slopes[index] * direction)
            assert slope == pytest.approx(wanted, rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("modes", OWN_MODES)
def test_values_of_unlisted_rows_have_no_effect(modes):
    neighbors, nearest, values = make_case(9, modulated=True)
    neighbors[neighbors == ROWS - 1] = -1
    values[1][neighbors < 0] = 0
    dirty = [values[0].copy(), *values[1:]]
    dirty[0][:, -1] = np.nan
    layer = Operator(neighbors, nearest)
    for mode in modes:
        clean = gradients(layer, values, mode=mode)
        other = gradients(layer, dirty, mode=mode)
        assert_same(other[0], clean[0])
        for found, wanted in zip(other[2], clean[2], strict=True):
            assert_same(found, wanted)
        assert (other[2][0][:, -1] == 0).all()


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 2e-2), ("float16", 3e-3)])
def test_half_precision_adds_thousands_of_neighbors_up(dtype, bound):
    rng = np.random.default_rng(0)
    rows, count, points, channels = 512, 16, 3, 8
    features = rng.normal(0.5, 1, (1, rows, channels)).astype("float32")
    neighbors = rng.integers(0, rows, (1, rows, count)).astype("int32")
    nearest = rng.integers(0, points, neighbors.shape).astype("int32")
    influence = rng.random(neighbors.shape).astype("float32")
    weights = rng.normal(size=(points, channels)).astype("float32")
    cotangent = rng.normal(0.3, 1, features.shape).astype("float32")
    expected = np.zeros((points, channels))
    for i, j in np.ndindex(rows, count):
        gained = influence[0, i, j] * features[0, neighbors[0, i, j]]
        expected[nearest[0, i, j]] += gained * cotangent[0, i]

    class Half(Operator):
        def call(self, inputs):
            half = [ops.cast(value, dtype) for value in inputs]
            return ops.cast(super().call(half), "float32")

    layer = Half(neighbors, nearest, finite=True)
    _, _, slopes = gradients(
        layer, [features, influence, weights], cotangents=[cotangent]
    )
    assert_same(slopes[2], expected, bound)
