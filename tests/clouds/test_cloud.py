import numpy as np
import pytest

from vl3d_lite.clouds.cloud import PointCloud


@pytest.fixture
def cloud():
    rng = np.random.default_rng(3)
    return PointCloud(
        local=rng.uniform(0, 50, (20, 3)),
        origin=np.array([700_000.0, 6_600_000.0, 30.0]),
        attributes={"intensity": rng.integers(0, 900, 20).astype(np.uint16)},
        labels=rng.integers(-1, 3, 20).astype(np.int32),
        name="town.laz",
    )


def test_world_coordinates_are_local_plus_origin(cloud):
    assert cloud.xyz.dtype == np.float64
    for i in range(20):
        for axis in range(3):
            assert cloud.xyz[i, axis] == cloud.local[i, axis] + cloud.origin[axis]


@pytest.mark.parametrize(
    "index",
    [np.array([5, 2, 2, 19]), np.arange(20) % 3 == 0, slice(4, 9)],
    ids=["integers", "booleans", "slice"],
)
def test_a_selection_takes_every_part_in_the_same_order(cloud, index):
    part = cloud.select(index)
    for row, i in enumerate(np.arange(20)[index]):
        np.testing.assert_array_equal(part.xyz[row], cloud.xyz[i])
        assert part.attributes["intensity"][row] == cloud.attributes["intensity"][i]
        assert part.labels[row] == cloud.labels[i]
    assert len(part) == len(np.arange(20)[index])
    assert part.name == "town.laz"


def test_points_without_labels_are_unlabeled():
    cloud = PointCloud(local=np.zeros((4, 3)), origin=np.zeros(3))
    assert cloud.labels.dtype == np.int32
    assert cloud.labels.tolist() == [-1] * 4


def test_an_attribute_of_another_length_is_refused():
    with pytest.raises(ValueError, match="`red` must have one value for each of the 4"):
        PointCloud(np.zeros((4, 3)), np.zeros(3), {"red": np.zeros(3)})


def test_coordinates_of_two_columns_are_refused():
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        PointCloud(np.zeros((4, 2)), np.zeros(3))
