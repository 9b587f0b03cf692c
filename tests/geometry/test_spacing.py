"""Density and spacing of points on known lattices."""

import numpy as np
import pytest

from vl3d_lite.geometry.spacing import horizontal_density, nearest_distance


def lattice(n, spacing):
    steps = np.arange(n) * spacing
    x, y = np.meshgrid(steps, steps)
    return np.column_stack([x.ravel(), y.ravel(), np.zeros(n * n)])


@pytest.mark.parametrize("spacing", [0.1, 0.5, 2.0])
def test_density_is_that_of_a_lattice(spacing):
    density, (low, high) = horizontal_density(lattice(60, spacing))
    assert density == pytest.approx(1 / spacing**2, rel=0.15)
    assert low <= density <= high


def test_empty_land_does_not_lower_the_density():
    far = np.add(lattice(40, 0.5), [1000, 1000, 0])
    density, _ = horizontal_density(np.vstack([lattice(40, 0.5), far]))
    assert density == pytest.approx(4, rel=0.15)


def test_the_nearest_distance_is_that_of_a_lattice():
    assert nearest_distance(lattice(30, 0.7)) == pytest.approx(0.7)


@pytest.mark.parametrize("cell", [0.5, 1.0, 4.0])
def test_cells_have_the_density_of_their_points(cell):
    points = lattice(160, 0.25)
    cells, inverse, counts = np.unique(
        np.floor(points / cell), axis=0, return_inverse=True, return_counts=True
    )
    assert len(inverse) == len(points)
    density, _ = horizontal_density(cells * cell, counts, cell=cell)
    assert density == pytest.approx(16, rel=0.15)
