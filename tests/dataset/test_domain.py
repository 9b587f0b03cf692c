"""The domain of a training, and clouds that lie outside of it."""

import time

import laspy
import numpy as np
import pytest

from tests.field_clouds import make_spec
from vl3d_lite.dataset import domain as domain_module
from vl3d_lite.dataset.departures import compare_clouds, find_departures
from vl3d_lite.dataset.domain import (
    Domain,
    Limits,
    measure_domain,
    profile_cloud,
    read_domain,
    try_profile,
)
from vl3d_lite.dataset.files import read_cloud
from vl3d_lite.errors import DataError
from vl3d_lite.system import FileCache
from vl3d_lite.system.file_cache import SETTLED_SECONDS

FEATURES = ["height", "return_ratio", "red", "intensity"]


def write_scene(path, *, density=8.0, slope=0.0, red=256, returns=True, factor=1.0):
    """A square of 40 m with a flat roof of 5 m and some bushes, as LAS 1.4."""
    rng = np.random.default_rng(3)
    n = int(density * 1600)
    x, y = rng.uniform(0, 40, (2, n))
    z = slope * x + rng.normal(0, 0.02, n)
    bush = rng.random(n) < 0.2
    z[bush] += rng.uniform(0.2, 2, bush.sum())
    z[(x > 10) & (x < 20) & (y > 10) & (y < 20)] += 5
    header = laspy.LasHeader(point_format=7, version="1.4")
    header.scales = [0.001] * 3
    las = laspy.LasData(header)
    las.x, las.y, las.z = x * factor, y * factor, z * factor
    las.number_of_returns = np.where(bush & returns, 2, 1)
    las.return_number = np.ones(n, int)
    las.red = rng.integers(20, 250, n) * red
    las.intensity = rng.integers(100, 900, n)
    las.classification = np.where(bush, 5, 2)
    las.write(path)
    return path


@pytest.fixture(scope="module")
def spec():
    return make_spec(features=FEATURES)


@pytest.fixture(scope="module")
def trained(spec, tmp_path_factory):
    return measure_domain([write_scene(tmp_path_factory.mktemp("a") / "a.las")], spec)


def outside(domain, path, spec):
    return [one.quantity for one in compare_clouds(domain, [path], spec)[path]]


def test_a_profile_has_the_figures_of_the_scene(spec, tmp_path):
    profile = profile_cloud(write_scene(tmp_path / "a.las", slope=0.2), spec)
    assert profile.points == 12_800
    assert profile.density == pytest.approx(8, rel=0.15)
    assert profile.returns == pytest.approx(0.2, abs=0.02)
    # Half of the neighbors lie along the slope of 11.3 degrees, half across it.
    assert 3 < profile.slope < 12
    assert profile.color == pytest.approx(249 * 256, rel=1e-3)
    assert profile.features["red"][5] == pytest.approx(135 * 256, rel=0.1)
    assert profile.features["return_ratio"][-1] == 1


def test_a_sample_of_a_large_file_gives_the_same_density(spec, tmp_path, monkeypatch):
    path = write_scene(tmp_path / "a.las")
    whole = profile_cloud(path, spec).density
    monkeypatch.setattr(domain_module, "SAMPLE", 2000)
    assert profile_cloud(path, spec).density == pytest.approx(whole, rel=0.15)


def test_a_cloud_like_those_of_the_training_is_inside(trained, spec, tmp_path):
    path = write_scene(tmp_path / "b.las", density=6.0)
    assert outside(trained, path, spec) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"density": 1.5}, ["density (points/m2)"]),
        ({"red": 1}, ["color"]),
        ({"returns": False}, ["points of several returns (%)"]),
        ({"slope": 0.7}, ["median slope (degrees)"]),
        ({"factor": 3.28}, ["density (points/m2)"]),
    ],
    ids=str,
)
def test_what_lies_outside_is_named(change, expected, trained, spec, tmp_path):
    found = outside(trained, write_scene(tmp_path / "b.las", **change), spec)
    assert found[: len(expected)] == expected
    # The scale of the colors is reported once, not for each color.
    assert "feature red" not in found


def test_a_departure_reports_the_range_the_value_and_what_it_cost(
    trained, spec, tmp_path
):
    path = write_scene(tmp_path / "b.las", red=1)
    (departure,) = compare_clouds(trained, [path], spec)[path]
    assert (departure.training, departure.here) == ("16-bit", "8-bit")
    assert "1.000 became .043" in departure.cost


def test_a_feature_that_is_constant_or_out_of_range_is_named(trained, spec):
    high = [1000.0, *[2000.0] * 9, 3000.0]
    inside = dict(trained.features)
    for name, quantiles, text in (
        ("height", [3.0] * 11, "3 everywhere"),
        ("height", high, "2e+03 (100% outside)"),
    ):
        profile = as_profile(trained, {**inside, name: quantiles})
        (departure,) = find_departures(trained, profile, spec)
        assert (departure.quantity, departure.here) == (f"feature {name}", text)


def as_profile(domain, features):
    return domain_module.Profile(
        points=1,
        density=domain.density[0],
        spacing=0.5,
        returns=domain.returns[0],
        intensity=domain.intensity[0],
        color=domain.color[0],
        slope=0,
        height=1,
        unit=1,
        crs="",
        features=features,
    )


def test_limits_found_by_scoring_replace_those_of_the_training(trained, spec, tmp_path):
    path = write_scene(tmp_path / "b.las", density=1.5)
    wider = trained.model_copy(update={"limits": Limits(density=(1, 40))})
    assert outside(wider, path, spec) == []


def test_augmentation_widens_density_and_slope(trained, spec, tmp_path):
    training = {"augmentation": {"grids": 4, "thinning": 0.75, "slope": 1.0}}
    wide = make_spec(features=FEATURES, training=training)
    profile = profile_cloud(write_scene(tmp_path / "a.las"), wide)
    domain = Domain.of([profile], wide)
    assert domain.density[0] == pytest.approx(profile.density / 4, rel=1e-3)
    assert domain.slope[1] == pytest.approx(45)


def test_the_quantiles_of_several_clouds_are_pooled(trained, spec):
    low, high = (as_profile(trained, {"red": [v] * 11}) for v in (1.0, 9.0))
    pooled = Domain.of([low, high], spec).features["red"]
    assert (pooled[0], pooled[-1]) == (1, 9)
    assert pooled[4] == 1
    assert pooled[6] == 9


def test_the_domain_of_an_ensemble_holds_those_of_its_runs(trained, spec):
    other = trained.model_copy(update={"density": (1.0, 2.0), "color": None})
    union = Domain.union([trained, other])
    assert union.density == (1.0, trained.density[1])
    assert union.color == trained.color
    assert union.clouds == 2
    assert find_departures(union, as_profile(trained, trained.features), spec) == []


def test_the_domain_of_an_ensemble_keeps_the_widest_limits(trained):
    scored = trained.model_copy(update={"limits": Limits(density=(3, 40))})
    wide = trained.model_copy(update={"limits": Limits(density=(0.2, 3))})
    assert Domain.union([scored, wide]).density_limits() == (0.2, 40)
    union = Domain.union([trained.model_copy(update={"density": (1, 60)}), scored])
    assert union.density_limits() == (1, 60)


def test_a_domain_is_read_as_it_was_written(trained, tmp_path):
    path = tmp_path / "domain.json"
    path.write_text(trained.to_json())
    assert read_domain(path) == trained
    assert read_domain(tmp_path / "none.json") is None
    path.write_text(trained.to_json().replace('"clouds": 1', '"clouds": "x"'))
    with pytest.raises(DataError, match=r"domain.json: .*clouds.*restore it"):
        read_domain(path)


def test_a_cloud_that_cannot_be_used_has_no_profile(spec, tmp_path):
    (tmp_path / "a.las").write_bytes(b"no cloud")
    assert try_profile(tmp_path / "a.las", spec) is None


def test_a_cloud_is_measured_once_for_each_grid_size(spec, tmp_path, monkeypatch):
    path, read = write_scene(tmp_path / "a.las"), []

    def counted(path, spec, **others):
        read.append(spec.fields.grid_size)
        return read_cloud(path, spec, **others)

    monkeypatch.setattr(domain_module, "read_cloud", counted)
    monkeypatch.setattr(domain_module, "PROFILES", FileCache(8))
    time.sleep(1.5 * SETTLED_SECONDS)
    fields = spec.fields.model_copy(update={"grid_size": 1.0})
    coarse = spec.model_copy(update={"fields": fields})
    first = [profile_cloud(path, one) for one in (spec, coarse)]
    assert first[0].spacing < first[1].spacing
    assert [profile_cloud(path, one, 2) for one in (spec, coarse)] == first
    assert read == [spec.fields.grid_size, 1.0]
    write_scene(path, slope=0.2)
    assert profile_cloud(path, spec).slope > first[0].slope
    assert len(read) == 3
