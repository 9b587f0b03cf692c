import numpy as np
import pytest

from tests.field_clouds import make_spec, prepared
from vl3d_lite.dataset.augmentation import change_features, drop_neighbors, move_points
from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.spec.schema.training import AugmentationSpec

OFF = {"rotation": False, "flip": False, "scale": 0}


@pytest.fixture(scope="module")
def field():
    spec = make_spec()
    return FieldExtractor(prepared(spec), spec).extract(np.array([9.0, 11.0, 2.5]))


def moved(field, seed=0, **options):
    spec = AugmentationSpec(**{**OFF, **options})
    return move_points(field, spec, 0.5, np.random.default_rng(seed))


def matrix_of(field, result):
    """The linear map from the field to the result, and that it is one."""
    matrix, residual, _, _ = np.linalg.lstsq(
        field.xyz[0].astype(float), result[0].astype(float), rcond=None
    )
    assert residual.max() < 1e-6
    for before, after in zip(field.xyz, result, strict=True):
        np.testing.assert_allclose(before @ matrix, after, atol=1e-5)
    return matrix.T


def test_without_any_change_points_stay(field):
    for before, after in zip(field.xyz, moved(field), strict=True):
        np.testing.assert_array_equal(before, after)
        assert after.dtype == np.float32


def test_a_rotation_turns_all_levels_about_the_vertical(field):
    angles = []
    for seed in range(20):
        matrix = matrix_of(field, moved(field, seed, rotation=True))
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(matrix[2], [0, 0, 1], atol=1e-5)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        angles.append(np.arctan2(matrix[1, 0], matrix[0, 0]))
    assert min(angles) < -1.5
    assert max(angles) > 1.5


def test_a_flip_mirrors_x_half_of_the_time(field):
    signs = [matrix_of(field, moved(field, s, flip=True))[0, 0] for s in range(40)]
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-5)
    assert 10 <= np.sum(np.array(signs) < 0) <= 30


def test_each_axis_is_scaled_by_its_own_factor(field):
    factors = np.array(
        [np.diag(matrix_of(field, moved(field, s, scale=0.2))) for s in range(40)]
    )
    assert 0.8 <= factors.min() < 0.83
    assert 1.17 < factors.max() <= 1.2
    assert np.abs(factors[:, 0] - factors[:, 1]).max() > 0.1


def test_jitter_has_its_standard_deviation_in_grid_sizes(field):
    noise = np.concatenate(
        [a - b for a, b in zip(moved(field, jitter=0.4), field.xyz, strict=True)]
    )
    assert noise.std() == pytest.approx(0.2, rel=0.1)  # 0.4 of 0.5 m
    assert abs(noise.mean()) < 0.03


def test_dropped_neighbors_are_a_share_and_never_the_point_itself():
    shares = []
    for seed in range(30):
        rows = np.tile(np.arange(16, dtype=np.int32), (200, 1))
        drop_neighbors([rows], 0.4, np.random.default_rng(seed))
        assert np.all(rows[:, 0] == 0)
        shares.append(np.mean(rows[:, 1:] < 0))
    assert max(shares) <= 0.45
    assert max(shares) > 0.3
    assert min(shares) < 0.1


def test_intensities_alone_are_shifted_together():
    names = ["intensity", "height", "relative_intensity"]
    shifts = []
    for seed in range(30):
        features = np.ones((5, 3), np.float32)
        spec = AugmentationSpec(intensity_shift=0.5)
        change_features(features, names, spec, np.random.default_rng(seed))
        assert np.all(features[:, 1] == 1)
        assert len(np.unique(features[:, [0, 2]])) == 1
        shifts.append(float(features[0, 0]) - 1)
    assert -0.5 <= min(shifts) < -0.3
    assert 0.3 < max(shifts) <= 0.5


def test_dropped_features_take_their_mean():
    dropped = []
    for seed in range(200):
        features = np.ones((4, 2), np.float32)
        spec = AugmentationSpec(feature_dropout=0.3)
        change_features(features, ["a", "b"], spec, np.random.default_rng(seed))
        assert np.all(features == features[0])
        dropped.append(features[0] == 0)
    share = np.mean(dropped, axis=0)
    assert np.all(np.abs(share - 0.3) < 0.1)
