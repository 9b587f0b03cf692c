import threading

import numpy as np
import pytest

from tests.field_clouds import CYLINDER, make_cloud, make_spec, prepared
from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.extractor import FieldExtractor, interlevel_widths
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.geometry.neighbors import nearest_along_curve

CENTER = np.array([9.0, 11.0, 2.5])
SHAPES = {
    "cylinder": CYLINDER,
    "sphere": {"shape": "sphere", "radius": 4.0, "grid_size": 0.5},
    "2D box": {"shape": "box", "size": [6, 8], "grid_size": 0.5},
    "3D box": {"shape": "box", "size": [6, 8, 3], "grid_size": 0.5},
    "nearest": {"shape": "nearest", "grid_size": 0.5},
    "nearest within": {"shape": "nearest", "radius": 3.0, "grid_size": 0.5},
}


def measure_by_loops(name, offset):
    """The shape's metric and its bound."""
    dx, dy, dz = offset
    return {
        "cylinder": (np.hypot(dx, dy), 4.0),
        "sphere": (np.sqrt(dx**2 + dy**2 + dz**2), 4.0),
        "2D box": (max(abs(dx) / 3, abs(dy) / 4), 1.0),
        "3D box": (max(abs(dx) / 3, abs(dy) / 4, abs(dz) / 1.5), 1.0),
        "nearest": (np.sqrt(dx**2 + dy**2 + dz**2), np.inf),
        "nearest within": (np.sqrt(dx**2 + dy**2 + dz**2), 3.0),
    }[name]


def rows_by_loops(name, xyz, center, count):
    inside = []
    for row, point in enumerate(xyz):
        measure, bound = measure_by_loops(name, point - center)
        if measure <= bound:
            inside.append((measure, row))
    return sorted(row for _, row in sorted(inside)[:count])


def rows_of_levels(field, cloud, spec):
    """Rows of each level by the definition: parents, the nearest if too many."""
    levels = cloud.hierarchy.levels
    rows = [field.indices.tolist()]
    for number, stage in enumerate(spec.model.stages[1:]):
        parents = sorted({int(levels[number].parent[row]) for row in rows[-1]})
        distances = np.hypot(*(levels[number + 1].xyz[parents] - field.center)[:, :2].T)
        nearest = np.argsort(distances)[: stage.points]
        rows.append(sorted(np.array(parents)[nearest].tolist()))
    return rows


def renumbered(table, rows, own):
    places = {row: place for place, row in enumerate(own)}
    return [[places.get(int(v), -1) for v in table[row]] for row in rows]


@pytest.mark.parametrize("points", [(400, 120, 40), (90, 60, 20)], ids=["all", "crop"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_field_holds_the_points_of_its_shape(name, points):
    spec = make_spec(SHAPES[name], points)
    cloud = prepared(spec)
    rows = FieldExtractor(cloud, spec).select(CENTER)
    expected = rows_by_loops(name, cloud.xyz, CENTER, points[0])
    assert rows.tolist() == expected
    assert len(rows) > 40


@pytest.mark.parametrize("interlevel_neighbors", ["parents", "nearest"])
@pytest.mark.parametrize(
    "points", [(400, 120, 40), (400, 60, 9)], ids=["roomy", "narrow"]
)
@pytest.mark.parametrize("place", ["middle", "first point"])
def test_levels_are_renumbered_as_the_loops_do(interlevel_neighbors, points, place):
    spec = make_spec({**CYLINDER, "interlevel_neighbors": interlevel_neighbors}, points)
    cloud = prepared(spec)
    center = CENTER if place == "middle" else cloud.xyz[0]
    field = FieldExtractor(cloud, spec).extract(center)
    levels = cloud.hierarchy.levels
    rows = rows_of_levels(field, cloud, spec)
    for number, (level, own) in enumerate(zip(levels, rows, strict=True)):
        np.testing.assert_allclose(
            field.xyz[number], level.xyz[own] - field.center, atol=1e-5
        )
        assert field.neighbors[number].tolist() == renumbered(level.neighbors, own, own)
        assert field.neighbors[number][:, 0].tolist() == list(range(len(own)))
    for number in range(2):
        own, coarse = rows[number], rows[number + 1]
        expected = renumbered(levels[number].down, coarse, own)
        assert field.down[number].tolist() == expected
        for row, known in enumerate(renumbered(levels[number].up, own, coarse)):
            present = [place for place in known if place >= 0]
            if present:
                found = field.up[number][row].tolist()
                assert found == present + [-1] * (len(known) - len(present))


@pytest.mark.parametrize("neighbors", [1, 3])
def test_a_coarse_point_without_a_child_takes_its_nearest_fine_point(neighbors):
    fields = {**CYLINDER, "interlevel_neighbors": "nearest"}
    spec = make_spec(fields, (90, 60, 40), neighbors)
    cloud = prepared(spec)
    levels, lost = cloud.hierarchy.levels, 0
    for center in cloud.xyz[::200]:
        field = FieldExtractor(cloud, spec).extract(center)
        rows = rows_of_levels(field, cloud, spec)
        for number in range(2):
            known = renumbered(levels[number].down, rows[number + 1], rows[number])
            for place, children in enumerate(known):
                found = field.down[number][place].tolist()
                if any(child >= 0 for child in children):
                    assert found == children
                    continue
                lost += 1
                point = field.xyz[number + 1][place].astype(np.float64)
                gaps = [
                    np.sqrt(
                        sum(
                            (float(a) - b) ** 2
                            for a, b in zip(fine, point, strict=True)
                        )
                    )
                    for fine in field.xyz[number]
                ]
                assert found[1:] == [-1] * (len(found) - 1)
                assert gaps[found[0]] == pytest.approx(min(gaps), abs=1e-6)
    assert lost > 20


def test_points_whose_parent_had_no_room_take_a_near_one():
    spec = make_spec(points=(400, 60, 9))
    cloud = prepared(spec)
    field = FieldExtractor(cloud, spec).extract(CENTER)
    parents = cloud.hierarchy.levels[0].parent[field.indices]
    kept = set(rows_of_levels(field, cloud, spec)[1])
    lost = np.array([parent not in kept for parent in parents])
    assert lost.sum() > 50
    up = field.up[0][:, 0]
    assert np.all(up >= 0)
    gaps = np.linalg.norm(field.xyz[1] - field.xyz[0][:, None], axis=2)
    chosen = gaps[np.arange(len(up)), up]
    assert np.median(chosen[lost] / gaps.min(axis=1)[lost]) < 1.3


def test_the_nearest_along_a_curve_is_the_nearest_of_those_around():
    xyz = np.arange(20.0)[:, None] * [1, 0, 0]
    found = nearest_along_curve(
        np.array([[6.2, 0, 0], [9, 0, 0]]), np.array([5, 2]), xyz
    )
    assert found.tolist() == [6, 5]  # rows 1 to 8, and 0 to 5


@pytest.mark.parametrize("name", SHAPES)
def test_positions_are_float32_about_the_center(name):
    spec = make_spec(SHAPES[name])
    cloud = prepared(spec)
    field = FieldExtractor(cloud, spec).extract(CENTER)
    expected = CENTER.copy()
    if name in ("cylinder", "2D box"):
        expected[2] = np.median(cloud.xyz[field.indices, 2])
    np.testing.assert_array_equal(field.center, expected)
    assert field.xyz[0].dtype == np.float32
    np.testing.assert_array_equal(
        field.xyz[0], (cloud.xyz[field.indices] - expected).astype(np.float32)
    )


@pytest.mark.parametrize(("upsampling", "up"), [("nearest", 1), ("interpolated", 3)])
def test_farthest_sampling_nests_levels_and_searches_inside_the_field(upsampling, up):
    spec = make_spec(
        {**CYLINDER, "sampling": "farthest"},
        points=(100, 30, 12),
        model={"upsampling": upsampling},
    )
    cloud = prepared(spec)
    field = FieldExtractor(cloud, spec).extract(CENTER)
    assert [len(xyz) for xyz in field.xyz] == [100, 30, 12]
    places = [{tuple(point) for point in xyz.tolist()} for xyz in field.xyz]
    assert places[2] < places[1] < places[0]
    for number in range(3):
        xyz = field.xyz[number].astype(float)
        gaps = np.linalg.norm(xyz - xyz[:, None], axis=2)
        found = np.take_along_axis(gaps, field.neighbors[number].astype(int), axis=1)
        np.testing.assert_allclose(found, np.sort(gaps, axis=1)[:, :8], atol=1e-5)
    for number in range(2):
        fine, coarse = field.xyz[number : number + 2]
        gaps = np.linalg.norm(fine - coarse[:, None], axis=2)
        found = np.take_along_axis(gaps, field.down[number].astype(int), axis=1)
        np.testing.assert_allclose(found, np.sort(gaps, axis=1)[:, :8], atol=1e-5)
        found = np.take_along_axis(gaps.T, field.up[number].astype(int), axis=1)
        np.testing.assert_allclose(found, np.sort(gaps.T, axis=1)[:, :up], atol=1e-5)


def test_a_field_half_full_keeps_the_ratio_of_its_levels():
    spec = make_spec({**CYLINDER, "sampling": "farthest"}, points=(400, 120, 40))
    field = FieldExtractor(prepared(spec, n=1000), spec).extract(CENTER)
    n = len(field.indices)
    assert 50 < n < 200
    expected = [n, np.ceil(n * 0.3), np.ceil(n * 0.1)]
    assert [len(xyz) for xyz in field.xyz] == expected


def test_farthest_sampling_spreads_points_over_the_whole_field():
    spec = make_spec({**CYLINDER, "sampling": "farthest"}, points=(60, 20))
    cloud = prepared(spec)
    extractor = FieldExtractor(cloud, spec)
    inside = cloud.xyz[extractor.inside(CENTER)[0]]
    gaps = np.linalg.norm(inside[:, None] - cloud.xyz[extractor.select(CENTER)], axis=2)
    assert len(inside) > 200
    assert gaps.min(axis=1).max() < 1.7


@pytest.mark.parametrize("sampling", ["grid", "farthest"])
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "local",
    [
        np.full((1, 3), 2.0),
        np.full((9, 3), 2.0),
        np.linspace([0, 0, 0], [5, 0, 0], 40),
        np.linspace([2, 2, 0], [2, 2, 9], 40),
    ],
    ids=["one point", "one place", "a line", "a plumb line"],
)
def test_degenerate_clouds_give_fields(local, name, sampling):
    spec = make_spec({**SHAPES[name], "sampling": sampling}, features=["vertical"])
    cloud = prepare_cloud(PointCloud(local, np.zeros(3)), spec)
    field = FieldExtractor(cloud, spec).extract(cloud.xyz[0])
    count = len(field.indices)
    assert count >= 1
    assert field.neighbors[0][:, 0].tolist() == list(range(count))
    widths, up = interlevel_widths(spec)
    for number in range(2):
        assert field.down[number].shape == (len(field.xyz[number + 1]), widths[number])
        assert field.up[number].shape == (len(field.xyz[number]), up)
        assert np.all((field.up[number] >= 0).any(axis=1))
        assert np.all((field.down[number] >= 0).any(axis=1))


@pytest.mark.parametrize("sampling", ["grid", "farthest"])
def test_a_field_beside_the_cloud_is_empty(sampling):
    spec = make_spec({**CYLINDER, "sampling": sampling})
    field = FieldExtractor(prepared(spec), spec).extract(np.array([900.0, 0, 0]))
    assert len(field.indices) == 0
    assert [len(xyz) for xyz in field.xyz] == [0, 0, 0]
    assert [rows.shape for rows in field.neighbors] == [(0, 8)] * 3


def test_cutting_again_and_in_threads_gives_the_same():
    spec = make_spec()
    extractor = FieldExtractor(prepared(spec), spec)
    centers = make_cloud(n=30, seed=5).local
    expected = [extractor.extract(center) for center in centers]
    results = {}

    def work(number):
        for place in range(number, 30, 3):
            results[place] = extractor.extract(centers[place])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, field in enumerate(expected):
        for name in ("xyz", "neighbors", "down", "up"):
            for a, b in zip(
                getattr(field, name), getattr(results[place], name), strict=True
            ):
                np.testing.assert_array_equal(a, b)
