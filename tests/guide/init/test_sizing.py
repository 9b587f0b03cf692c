"""Grid size, fields and stages measured on the cells of clouds."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.guide.init.test_split import survey
from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.prepared import prepare_cloud, reduce_cloud
from vl3d_lite.guide.init import sizing
from vl3d_lite.guide.init.sizing import (
    choose_grid_size,
    choose_sizes,
    first_stage,
    is_terrestrial,
    minimal_spec,
    rounded,
    sample_field_sizes,
    sweep_counts,
    widest_footprint,
)

CLASSES = {"ground": [2], "building": [6]}


def seen(density, **changes):
    return replace(survey("a", {2: 9, 6: 9}), density=density, **changes)


def test_the_grid_size_follows_the_density_as_documented():
    page = (Path(__file__).parents[3] / "docs/radii.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) m \|", page, re.M)
    assert len(rows) == 5
    for density, grid_size in rows:
        assert choose_grid_size([seen(float(density))]) == float(grid_size)


def test_the_grid_size_of_a_terrestrial_scan_follows_the_nearest_point():
    scan = seen(3000, levels=3.0, nearest=0.02)
    assert is_terrestrial([scan])
    assert choose_grid_size([scan]) == 0.08


def test_a_dense_flat_scan_is_terrestrial_and_an_airborne_one_is_not():
    assert is_terrestrial([seen(5000)])
    assert is_terrestrial([seen(30, spread=(2.0, 60.0))])
    assert not is_terrestrial([seen(80, levels=1.5)])


@pytest.mark.parametrize(
    ("value", "text"), [(0.087, "0.09"), (0.37, "0.35"), (1.49, "1.5"), (23.7, "24")]
)
def test_sizes_are_rounded_to_two_digits_at_most(value, text):
    assert f"{rounded(value):g}" == text


def plane(n, size, seed=0, name="plane"):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(0, [size, size, 0.1], (n, 3))
    labels = (xyz[:, 0] > 0.7 * size).astype(np.int32)
    return PointCloud(xyz, np.zeros(3), labels=labels, name=name)


@pytest.fixture(scope="module")
def cells():
    return reduce_cloud(plane(90_000, 100.0), 0.5)[0]


@pytest.mark.slow
def test_nearly_all_fields_of_the_chosen_radius_are_full(cells):
    sizes = choose_sizes([cells], CLASSES, 0.5, terrestrial=False)
    assert sizes.points[0] == 4096
    assert sizes.shape == "cylinder"
    fields = {"shape": "cylinder", "radius": sizes.radius, "grid_size": 0.5}
    spec = minimal_spec(CLASSES, fields, sizes.points)
    prepared = prepare_cloud(cells, spec)
    counts = sample_field_sizes(prepared, spec, 200)
    assert (counts[:, 0] == 4096).mean() >= 0.95
    assert (sweep_counts(prepared, spec) == 4096).mean() >= 0.9
    # On a plane a stage has a fourth of the cells of the one before.
    for finer, coarser in zip(sizes.points[1:], sizes.points[2:], strict=False):
        assert finer / 5 < coarser < finer / 2
    smaller = minimal_spec(
        CLASSES, {**fields, "radius": 0.6 * sizes.radius}, sizes.points
    )
    assert (sample_field_sizes(prepared, smaller, 200)[:, 0] == 4096).mean() < 0.9


@pytest.mark.slow
def test_the_fields_that_sweep_the_validation_cloud_are_full_too(cells, monkeypatch):
    def chosen(**options):
        sizes = choose_sizes([cells], CLASSES, 0.5, terrestrial=False, **options)
        fields = {"shape": "cylinder", "radius": sizes.radius, "grid_size": 0.5}
        spec = minimal_spec(CLASSES, fields, sizes.points)
        swept = sweep_counts(prepare_cloud(cells, spec), spec)
        return sizes.radius, (swept == sizes.points[0]).mean()

    monkeypatch.setattr(sizing, "FULL", 0.3)
    narrow, share = chosen()
    assert share < 0.9
    wide, share = chosen(validation=[cells])
    assert share >= 0.95
    assert narrow < wide < 1.6 * narrow
    monkeypatch.setattr(sizing, "SWEPT", 1.1)
    assert chosen(validation=[cells])[0] == narrow


def test_clouds_of_few_cells_get_small_fields():
    assert first_stage([plane(2000, 40.0)]) == 256
    assert first_stage([plane(9000, 40.0)]) == 2048


@pytest.mark.slow
def test_a_terrestrial_scan_has_spheres_or_nearest_points(cells):
    assert choose_sizes([cells], CLASSES, 0.5, terrestrial=True).shape == "sphere"
    rng = np.random.default_rng(5)
    dense = plane(30_000, 15.0).local
    thin = rng.uniform(0, [400, 400, 0.1], (3000, 3))
    xyz = np.vstack([dense, thin])
    uneven = PointCloud(xyz, np.zeros(3), labels=(xyz[:, 0] > 15).astype(np.int32))
    sizes = choose_sizes([uneven], CLASSES, 0.1, terrestrial=True)
    assert (sizes.shape, sizes.radius) == ("nearest", None)


@pytest.mark.parametrize("width", [8.0, 20.0])
def test_the_footprint_is_the_width_of_the_widest_building(width):
    rng = np.random.default_rng(6)
    xyz = rng.uniform(0, [60, 60, 0.1], (40_000, 3))
    roof = (np.abs(xyz[:, 0] - 20) < width / 2) & (np.abs(xyz[:, 1] - 30) < 25)
    cloud = PointCloud(xyz, np.zeros(3), labels=roof.astype(np.int32))
    assert widest_footprint([cloud], CLASSES, 0.4) == pytest.approx(width, abs=2.0)


def test_no_building_has_no_footprint(cells):
    classes = {"ground": [2], "tree": [5]}
    assert widest_footprint([cells], classes, 0.5) == 0
