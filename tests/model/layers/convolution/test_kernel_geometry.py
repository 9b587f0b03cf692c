"""Nearest kernel point and influence, against loops."""

import keras
import numpy as np
import pytest

from tests.contracts import (
    MODES,
    assert_finite,
    gradients,
    numpy_of,
    run,
    slow_but,
)
from tests.oracles import geometry_by_loops, shells_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import KernelGeometryLayer
from vl3d_lite.model.layers.convolution.kernel_geometry import (
    kernel_geometry,
    nearest_kernel_point,
)

SHELLS = {"shell_radii": [0, 0.6, 1.2], "shell_points": [1, 4, 7]}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def field(rng, n_x=3):
    X = rng.normal(size=(2, 9, n_x)).astype("float32")
    N = rng.integers(0, 9, (2, 9, 5)).astype("int32")
    N[:, :, 0] = np.arange(9)
    N[0, 2, 3:] = [-1, 9]
    N[1, 8] = -1
    return X, N


@pytest.mark.parametrize("n_x", [2, 3])
@pytest.mark.parametrize("influence", ["linear", "constant", "gaussian"])
def test_matches_the_formula(rng, n_x, influence):
    X, N = field(rng, n_x)
    layer = KernelGeometryLayer(0.8, **SHELLS, influence=influence)
    nearest, weights = run(layer, [X, N])
    Q = shells_by_loops(*SHELLS.values(), n_x)
    expected = geometry_by_loops(X.astype(float), N, X.astype(float), Q, 0.8, influence)
    assert nearest.dtype == np.int32
    np.testing.assert_array_equal(nearest, expected[0])
    np.testing.assert_allclose(weights, expected[1], rtol=0, atol=1e-6)


def test_centers_may_be_another_set(rng):
    X, N = field(rng)
    centers = rng.normal(size=(2, 4, 3)).astype("float32")
    N = N[:, 1:5]
    layer = KernelGeometryLayer(1.0, **SHELLS)
    nearest, weights = run(layer, [X, N, centers])
    Q = shells_by_loops(*SHELLS.values(), 3)
    expected = geometry_by_loops(X.astype(float), N, centers.astype(float), Q, 1.0)
    np.testing.assert_array_equal(nearest, expected[0])
    np.testing.assert_allclose(weights, expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
def test_a_missing_neighbor_has_influence_zero(rng, mode):
    X, N = field(rng)
    layer = KernelGeometryLayer(1.0, **SHELLS, influence="constant")
    clean = run(layer, [X, N], mode=mode)
    X[1, 8] = np.nan
    N[1, :8][N[1, :8] == 8] = 9
    X[0, 0], N[0, 0], N[0][N[0] == 0] = 1e9, -1, -1
    nearest, weights = run(layer, [X, N], mode=mode)
    missing = (N < 0) | (N >= 9)
    assert (weights[missing] == 0).all()
    assert (nearest[missing] == 0).all()
    assert (weights[~missing] == 1).all()
    np.testing.assert_array_equal(nearest[~missing], clean[0][~missing])


def test_the_first_of_equally_near_kernel_points_wins():
    kernel_points = np.array([[2, 0], [1, 0], [-1, 0], [1, 0]], "float32")
    offsets = np.array([[0, 0], [0.1, 0], [-0.1, 0], [1.5, 0]], "float32")
    nearest = numpy_of(nearest_kernel_point(offsets, kernel_points))
    assert nearest.tolist() == [1, 1, 2, 0]


def test_influence_is_one_at_the_kernel_point_and_zero_from_sigma_on():
    X = np.array([[[0, 0, 0], [0, 0, 1.99], [0, 0, 2.0], [0, 0, 5.0]]], "float32")
    N = np.array([[[0, 1, 2, 3]] * 4], "int32")
    layer = KernelGeometryLayer(2.0, shell_radii=[0], shell_points=[1])
    weights = run(layer, [X, N])[1][0, 0]
    np.testing.assert_allclose(weights, [1, 0.005, 0, 0], atol=1e-6)


@pytest.mark.parametrize("influence", ["linear", "gaussian"])
def test_gradients_are_finite_where_a_neighbor_sits_on_a_kernel_point(rng, influence):
    X, N = field(rng)
    layer = KernelGeometryLayer(1.0, **SHELLS, influence=influence)
    _, _, (slope, _) = gradients(layer, [X, N])
    assert_finite(slope)
    assert np.abs(slope).max() > 0


def test_coordinates_keep_their_precision_in_a_half_precision_model(rng):
    X, N = field(rng)
    X += 1000.0
    exact = run(KernelGeometryLayer(1.0, **SHELLS), [X, N])
    keras.config.set_dtype_policy("mixed_float16")
    try:
        ports = [keras.Input((9, 3)), keras.Input((9, 5), dtype="int32")]
        model = keras.Model(ports, KernelGeometryLayer(1.0, **SHELLS)(ports))
        half = [numpy_of(value) for value in model([X, N])]
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(half[0], exact[0])
    np.testing.assert_array_equal(half[1], exact[1])


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has float64 off")
def test_float64_is_exact_to_thirteen_digits(rng):
    X, N = field(rng)
    X = X.astype("float64")
    weights = run(KernelGeometryLayer(0.9, **SHELLS, dtype="float64"), [X, N])[1]
    Q = shells_by_loops(*SHELLS.values(), 3)
    expected = geometry_by_loops(X, N, X, Q, 0.9)[1]
    np.testing.assert_allclose(weights, expected, rtol=0, atol=2e-12)


def test_moving_the_kernel_points_has_the_slope_of_the_formula(rng):
    X, N = field(rng)
    Q = shells_by_loops(*SHELLS.values(), 3).astype("float32")
    direction = rng.normal(size=Q.shape)

    class Movable(keras.layers.Layer):
        def call(self, Q):
            return kernel_geometry(X, N, X, Q, 1.0)[1]

    cotangent = rng.normal(size=N.shape)
    _, _, (slope,) = gradients(Movable(), (Q,), cotangents=[cotangent])

    def total(step):
        moved = Q.astype(float) + step * direction
        weights = geometry_by_loops(X.astype(float), N, X.astype(float), moved, 1.0)[1]
        # The origin's own kernel point has a kink where its neighbor sits.
        own = np.arange(9)[None, :, None] == N
        return np.sum(np.where(own, 0.0, weights) * cotangent)

    expected = (total(1e-6) - total(-1e-6)) / 2e-6
    assert np.sum(slope * direction) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0}, "`sigma` must be positive"),
        ({"sigma": float("nan")}, "`sigma` must be positive"),
        ({"influence": "cubic"}, "one of linear, constant, gaussian"),
        ({"shell_points": [1, 2]}, "one entry for each shell"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(DeepLearningException, match=message):
        KernelGeometryLayer(**{"sigma": 1.0, **SHELLS, **arguments})


@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 9, 3)],
        [(2, 9, 4), (2, 9, 5)],
        [(2, 9, 3), (2, 9)],
        [(2, 9, 3), (2, 4, 5), (2, 4, 2)],
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(DeepLearningException, match="Received"):
        KernelGeometryLayer(1.0, **SHELLS).compute_output_shape(shapes)
