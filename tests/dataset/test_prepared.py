import numpy as np
import pytest

from tests.field_clouds import CYLINDER, make_cloud, make_spec
from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.augmentation import thin, tilt
from vl3d_lite.dataset.prepared import grid_shift, prepare_cloud, reduce_cloud
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import DataError


def groups_by_loops(local, grid_size):
    groups = {}
    for i, point in enumerate(local):
        corner = tuple(int(np.floor(v / grid_size + 1e-9)) for v in point)
        groups.setdefault(corner, []).append(i)
    return groups


def majority_by_loops(labels):
    counts = {}
    for label in labels:
        if label >= 0:
            counts[label] = counts.get(label, 0) + 1
    best = max(counts.values(), default=0)
    return min((label for label in counts if counts[label] == best), default=-1)


def test_a_cell_holds_the_mean_and_the_majority_of_its_points():
    cloud = make_cloud(n=900, extent=6)
    cloud.labels[:] = np.random.default_rng(1).integers(-1, 3, 900)
    cells, cell_of_point = reduce_cloud(cloud, 1.0)
    groups = groups_by_loops(cloud.local, 1.0)
    assert len(cells) == len(groups)
    assert cell_of_point.dtype == np.int32
    assert cells.attributes["intensity"].dtype == np.float64
    assert cells.labels.dtype == np.int32
    for points in groups.values():
        row = cell_of_point[points[0]]
        assert np.all(cell_of_point[points] == row)
        np.testing.assert_allclose(
            cells.local[row], cloud.local[points].mean(axis=0), atol=1e-12
        )
        np.testing.assert_allclose(
            cells.attributes["intensity"][row],
            cloud.attributes["intensity"][points].mean(),
            rtol=1e-6,
        )
        assert cells.labels[row] == majority_by_loops(cloud.labels[points].tolist())


def test_ties_go_to_the_lowest_class_and_unlabeled_points_have_no_vote():
    cloud = PointCloud(
        local=np.full((6, 3), 0.1) + np.array([[0], [0], [0], [0], [0], [5]]),
        origin=np.zeros(3),
        labels=np.array([2, -1, -1, -1, 1, -1], np.int32),
    )
    assert reduce_cloud(cloud, 1.0)[0].labels.tolist() == [1, -1]


def test_cells_of_a_shifted_cloud_are_the_same():
    near = make_cloud()
    far = make_cloud(origin=(700_000.0, 6_600_000.0, 0.0))
    one, two = reduce_cloud(near, 0.5), reduce_cloud(far, 0.5)
    np.testing.assert_array_equal(one[0].local, two[0].local)
    np.testing.assert_array_equal(one[1], two[1])
    assert two[0].origin.tolist() == [700_000.0, 6_600_000.0, 0.0]


def test_a_prepared_cloud_holds_one_row_a_cell():
    cloud = make_cloud()
    spec = make_spec()
    result = prepare_cloud(cloud, spec)
    cells, cell_of_point = reduce_cloud(cloud, 0.5)
    n = len(cells)
    assert result.feature_names == ["intensity", "vertical"]
    assert result.features.dtype == np.float32
    intensity = cells.attributes["intensity"].astype(np.float32)
    np.testing.assert_array_equal(result.features[:, 0], intensity)
    np.testing.assert_array_equal(result.labels, cells.labels)
    np.testing.assert_array_equal(result.cell_of_point, cell_of_point)
    np.testing.assert_array_equal(
        result.point_counts, [np.sum(cell_of_point == row) for row in range(n)]
    )
    assert len(result.hierarchy.levels) == 3
    assert result.xyz is result.hierarchy.levels[0].xyz
    np.testing.assert_array_equal(result.xyz, cells.local)


@pytest.mark.slow
def test_another_grid_groups_the_same_points_differently():
    cloud, spec = make_cloud(), make_spec()
    shift = grid_shift(spec, 3)
    result = prepare_cloud(cloud, spec, grid=3)
    groups = groups_by_loops(cloud.local + shift, 0.5)
    assert len(result.xyz) == len(groups) != len(prepare_cloud(cloud, spec).xyz)
    for points in groups.values():
        row = result.cell_of_point[points[0]]
        assert np.all(result.cell_of_point[points] == row)
        np.testing.assert_allclose(
            result.xyz[row], cloud.local[points].mean(axis=0), atol=1e-9
        )


def test_grids_move_by_up_to_the_edge_of_the_coarsest_cells():
    spec = make_spec()
    shifts = np.array([grid_shift(spec, grid) for grid in range(60)])
    np.testing.assert_array_equal(shifts[0], 0)
    np.testing.assert_array_equal(shifts[7], grid_shift(spec, 7))
    assert shifts.min() >= 0
    assert 1.9 < shifts.max() < 2.0  # three levels: 0.5, 1 and 2 m
    assert len(np.unique(shifts[1:])) == 59 * 3


def test_thinning_leaves_up_to_its_share_out_and_the_rest_alone():
    cloud = make_cloud()
    stays = [
        len(thin(cloud, 0.5, np.random.default_rng(seed))) / len(cloud)
        for seed in range(40)
    ]
    assert 0.48 < min(stays) < 0.6 < 0.9 < max(stays) <= 1
    thinned = thin(cloud, 0.5, np.random.default_rng(1))
    rows = {tuple(xyz): row for row, xyz in enumerate(cloud.local)}
    kept = [rows[tuple(xyz)] for xyz in thinned.local]
    assert kept == sorted(kept)
    np.testing.assert_array_equal(thinned.labels, cloud.labels[kept])
    lonely = cloud.select(slice(0, 1))
    assert len(thin(lonely, 0.999, np.random.default_rng(0))) == 1


def test_tilting_moves_points_up_along_a_plane_of_up_to_its_slope():
    cloud = make_cloud()
    slopes, directions = [], []
    for seed in range(40):
        tilted = tilt(cloud, 0.5, np.random.default_rng(seed))
        np.testing.assert_array_equal(tilted.local[:, :2], cloud.local[:, :2])
        rise = tilted.local[:, 2] - cloud.local[:, 2]
        plane = np.c_[cloud.local[:, :2], np.ones(len(cloud))]
        (*gradient, _), *_ = np.linalg.lstsq(plane, rise)
        assert np.ptp(rise - plane[:, :2] @ gradient) < 1e-9
        assert tilted.local[:, 2].min() >= 0
        slopes.append(np.hypot(*gradient))
        directions.append(np.arctan2(*gradient))
    assert min(slopes) < 0.05 < 0.45 < max(slopes) <= 0.5
    assert np.histogram(directions, 4, (-np.pi, np.pi))[0].min() > 3
    assert tilted.labels is cloud.labels


def test_vertical_stands_for_height_within_blocks():
    result = prepare_cloud(make_cloud(), make_spec())
    heights = result.features[:, 1]
    block = np.floor(result.xyz[:, :2] / 8.0)  # twice the radius
    for corner in np.unique(block, axis=0):
        rows = np.all(block == corner, axis=1)
        expected = result.xyz[rows, 2] - result.xyz[rows, 2].mean()
        np.testing.assert_allclose(heights[rows], expected, atol=1e-5)


def test_a_feature_that_is_not_finite_names_file_point_and_value():
    cloud = make_cloud()
    cloud.attributes["intensity"] = cloud.attributes["intensity"].astype(np.float64)
    cloud.attributes["intensity"][[4321, 5000]] = np.nan
    with pytest.raises(DataError, match=r"town.laz: .*`intensity`.*nan at point 4321"):
        prepare_cloud(cloud, make_spec())


def test_a_dimension_no_feature_needs_may_be_anything():
    cloud = make_cloud()
    cloud.attributes["gps_time"] = np.full(len(cloud), 1e300)
    assert np.isfinite(prepare_cloud(cloud, make_spec()).features).all()


def test_missing_values_have_no_part_in_the_mean_of_a_cell():
    cloud = make_cloud(n=900, extent=6)
    values = np.random.default_rng(3).normal(40, 9, 900)
    values[np.random.default_rng(4).random(900) < 0.4] = np.nan
    cloud.attributes["reflectance"] = values
    features = [{"name": "reflectance", "nan": "missing"}, "vertical"]
    spec = make_spec(features=features, fields=CYLINDER | {"grid_size": 1.0})
    result = prepare_cloud(cloud, spec)
    groups = groups_by_loops(cloud.local, 1.0)
    empty = 0
    for points in groups.values():
        present = [values[i] for i in points if not np.isnan(values[i])]
        found = result.features[result.cell_of_point[points[0]], 0]
        empty += not present
        expected = sum(present) / len(present) if present else np.nan
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0 < empty < len(groups) / 2
    cloud.missing = frozenset(["reflectance"])  # declared by the file
    spec = make_spec(features=["reflectance", "vertical"], fields=spec.fields)
    again = prepare_cloud(cloud, spec).features
    np.testing.assert_array_equal(again, result.features)


def test_infinity_is_no_missing_value():
    cloud = make_cloud()
    cloud.attributes["intensity"] = np.full(len(cloud), np.inf)
    spec = make_spec(features=[{"name": "intensity", "nan": "missing"}])
    with pytest.raises(DataError, match=r"must be finite. Received: inf at point 0"):
        prepare_cloud(cloud, spec)


def test_thirty_seconds_of_gps_time_stay_thirty_seconds():
    cloud = make_cloud()
    seconds = np.linspace(0, 30, len(cloud))
    cloud.attributes["gps_time"] = 3.1e8 + seconds
    result = prepare_cloud(cloud, make_spec(features=["gps_time", "vertical"]))
    expected = np.bincount(result.cell_of_point, seconds) / result.point_counts
    np.testing.assert_allclose(result.features[:, 0] - 3.1e8, expected, atol=1e-6)
    scaling = FeatureScaling.fit([result])
    np.testing.assert_allclose(scaling.std[0], expected.std(), rtol=1e-6)
    scaled = scaling.apply(result.features)
    assert scaled.dtype == np.float32
    standard = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(scaled[:, 0], standard, atol=1e-6)
    assert scaling.constants(result) == {}


def test_features_are_float64_only_where_float32_loses_digits():
    cloud = make_cloud()
    assert prepare_cloud(cloud, make_spec()).features.dtype == np.float32
    cloud.attributes["intensity"] = np.full(len(cloud), 65_535, np.uint16)
    assert prepare_cloud(cloud, make_spec()).features.dtype == np.float32


def with_noise(cloud, k=30, depth=-15.0):
    """The cloud with `k` points far below among its own, marked as excluded."""
    n, rng = len(cloud), np.random.default_rng(0)
    below = np.column_stack([rng.uniform(8, 11, (k, 2)), depth + rng.random(k)])
    order = rng.permutation(n + k)
    noise = np.full(k, -1, np.int32)
    return order, PointCloud(
        local=np.vstack([cloud.local, below])[order],
        origin=cloud.origin,
        attributes={
            name: np.concatenate([a, np.full(k, 60_000, a.dtype)])[order]
            for name, a in cloud.attributes.items()
        },
        labels=np.concatenate([cloud.labels, noise])[order],
        name=cloud.name,
        excluded=order >= n,
    )


def test_excluded_points_change_no_feature_and_no_cell():
    names = ["intensity", "height", "height_above_ground", "relative_intensity"]
    spec = make_spec(features=[*names, {"name": "planarity", "radius": 1.5}])
    cloud = make_cloud()
    order, noisy = with_noise(cloud)
    clean, result = prepare_cloud(cloud, spec), prepare_cloud(noisy, spec)
    np.testing.assert_allclose(result.features, clean.features, atol=1e-4)
    np.testing.assert_allclose(result.xyz, clean.xyz, atol=1e-9)
    np.testing.assert_array_equal(result.labels, clean.labels)
    np.testing.assert_array_equal(result.point_counts, clean.point_counts)
    kept = ~noisy.excluded
    cells = clean.cell_of_point[order[kept]]
    np.testing.assert_array_equal(result.cell_of_point[kept], cells)
    np.testing.assert_array_equal(result.excluded, noisy.excluded)


def test_an_excluded_point_has_the_nearest_cell():
    _, noisy = with_noise(make_cloud(n=2000))
    result = prepare_cloud(noisy, make_spec())
    for point in np.flatnonzero(noisy.excluded):
        distances = np.linalg.norm(result.xyz - noisy.local[point], axis=1)
        chosen = distances[result.cell_of_point[point]]
        np.testing.assert_allclose(chosen, distances.min(), rtol=1e-12)


def test_a_cloud_of_excluded_points_alone_is_refused():
    cloud = make_cloud(n=50)
    cloud.excluded = np.ones(50, bool)
    with pytest.raises(DataError, match=r"all 50 points are excluded by `excluded_po"):
        prepare_cloud(cloud, make_spec())


def test_an_empty_cloud_is_refused():
    cloud = PointCloud(np.zeros((0, 3)), np.zeros(3), name="empty.las")
    with pytest.raises(DataError, match=r"empty.las: the cloud has no points"):
        reduce_cloud(cloud, 1.0)


def test_a_coordinate_that_is_not_finite_names_the_file():
    cloud = make_cloud()
    cloud.local[17, 1] = np.nan
    with pytest.raises(DataError, match=r"town.laz: .* y of point 17"):
        reduce_cloud(cloud, 1.0)


def test_threads_change_nothing_and_progress_is_reported():
    reports = []
    one = prepare_cloud(make_cloud(), make_spec())
    two = prepare_cloud(
        make_cloud(), make_spec(), threads=2, progress=lambda *r: reports.append(r)
    )
    for a, b in zip(one.hierarchy.levels, two.hierarchy.levels, strict=True):
        np.testing.assert_array_equal(a.neighbors, b.neighbors)
    assert reports[-1][0] == reports[-1][1]
