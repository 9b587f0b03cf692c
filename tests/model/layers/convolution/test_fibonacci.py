"""Kernel points on shells, against loops."""

import keras
import numpy as np
import pytest

from tests.contracts import numpy_of
from tests.oracles import shells_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import FibonacciShellInitializer

SHELLS = [
    ([0, 0.5, 1.0], [1, 7, 13]),
    ([0.0, 0.4, 0.8], [1, 14, 28]),
    ([2.0], [1]),
    ([0.3, 0.7], [2, 5]),
]


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(("radii", "counts"), SHELLS)
def test_points_are_where_the_formula_puts_them(radii, counts, dimension):
    initializer = FibonacciShellInitializer(radii, counts)
    points = numpy_of(initializer((sum(counts), dimension)))
    expected = shells_by_loops(radii, counts, dimension)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(initializer.points(dimension), expected, atol=1e-14)


@pytest.mark.parametrize("dimension", [2, 3])
def test_every_point_lies_on_its_shell(dimension):
    points = FibonacciShellInitializer([0, 0.5, 1.0], [1, 7, 13]).points(dimension)
    radii = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(radii, [0.0] + [0.5] * 7 + [1.0] * 13, atol=1e-14)
    assert points[0].tolist() == [0.0] * dimension


def test_points_spread_evenly_over_a_shell():
    points = FibonacciShellInitializer([1.0], [200]).points()
    assert np.linalg.norm(points.mean(axis=0)) < 0.02
    second_moment = points.T @ points / len(points)
    np.testing.assert_allclose(second_moment, np.eye(3) / 3, atol=0.02)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(("radii", "counts"), SHELLS)
def test_the_least_distance_is_that_of_the_nearest_pair(radii, counts, dimension):
    points = shells_by_loops(radii, counts, dimension)
    pairs = [
        np.linalg.norm(points[i] - points[j])
        for i in range(len(points))
        for j in range(i)
    ]
    received = FibonacciShellInitializer(radii, counts).min_distance(dimension)
    assert received == pytest.approx(min(pairs, default=np.inf))


def test_default_shells_keep_their_points_apart():
    initializer = FibonacciShellInitializer([0, 0.5, 1.0], [1, 7, 13])
    assert initializer.min_distance(3) > 0.35
    assert initializer.min_distance(2) > 0.35


def test_the_configuration_makes_the_round_trip():
    initializer = FibonacciShellInitializer(np.array([0, 0.5]), np.array([1, 6]))
    stored = keras.saving.serialize_keras_object(initializer)
    again = keras.saving.deserialize_keras_object(stored)
    assert again.get_config() == {"shell_radii": [0.0, 0.5], "shell_points": [1, 6]}
    np.testing.assert_array_equal(
        numpy_of(again((7, 3))), numpy_of(initializer((7, 3)))
    )


def test_the_asked_type_is_given():
    points = FibonacciShellInitializer([1.0], [4])((4, 3), dtype="float16")
    assert keras.backend.standardize_dtype(points.dtype) == "float16"


@pytest.mark.parametrize(
    ("radii", "counts", "message"),
    [
        ([0, 1], [1], "one entry for each shell"),
        ([], [], "one entry for each shell"),
        ([1, 0.5], [3, 3], "must increase"),
        ([0.5, 0.5], [3, 3], "must increase"),
        ([-1, 0.5], [3, 3], "must increase"),
        ([0, np.nan], [1, 3], "must increase"),
        ([0, 1], [2, 3], "exactly 1 point"),
        ([0, 1], [1, 0], "at least 1"),
        ([0, 1], [1, 2.5], "whole numbers"),
    ],
)
def test_shells_that_make_no_sense_are_refused(radii, counts, message):
    with pytest.raises(DeepLearningException, match=message):
        FibonacciShellInitializer(radii, counts)


@pytest.mark.parametrize("shape", [(8, 3), (9, 4), (9,), (9, 3, 1)])
def test_another_shape_is_refused(shape):
    with pytest.raises(DeepLearningException, match=r"\(9, 2\) or \(9, 3\)"):
        FibonacciShellInitializer([0, 1.0], [1, 8])(shape)
