"""Training and validation apart in space."""

from pathlib import Path

import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.guide.init.split import (
    LEFT_OUT,
    TRAIN,
    VALIDATION,
    block_of_points,
    choose_validation,
    points_near_others,
)
from vl3d_lite.guide.init.survey import Survey

INDEX_BY_CODE = {2: 0, 5: 1, 6: 2}


def survey(name, codes, west=0.0):
    corners = np.array([[west, 0, 0], [west + 50.0, 50, 9]])
    return Survey(
        path=Path(name),
        points=sum(codes.values()),
        corners=corners,
        codes=codes,
        density=4.0,
        spread=(3.0, 5.0),
        nearest=0.4,
        levels=1.2,
        varying=(),
        constant=(),
        unusable=(),
        withheld=0,
        overlap=0,
        unclassified_on_ground=None,
    )


def test_the_cloud_with_the_typical_class_distribution_validates():
    clouds = [
        survey("a", {2: 100, 5: 900, 6: 10}, 0),
        survey("b", {2: 500, 5: 500, 6: 100}, 100),
        survey("c", {2: 900, 5: 100, 6: 200}, 200),
    ]
    assert choose_validation(clouds, INDEX_BY_CODE) == 1


def test_the_only_cloud_with_a_class_stays_in_training():
    clouds = [
        survey("a", {2: 500, 5: 500, 6: 100}, 0),
        survey("b", {2: 900, 5: 100}, 100),
    ]
    assert choose_validation(clouds, INDEX_BY_CODE) == 1


def test_a_cloud_apart_from_the_others_is_preferred():
    mix = {2: 500, 5: 500, 6: 100}
    clouds = [survey("a", mix, 0), survey("b", mix, 10), survey("c", {2: 99, 5: 9}, 90)]
    assert choose_validation(clouds, INDEX_BY_CODE) == 2


def test_points_in_or_next_to_another_cloud_are_found():
    xy = np.array([[49.0, 10], [47.6, 10], [47.4, 10], [20, 10], [52, 10], [49, 90]])
    near, gap = points_near_others(
        xy, 0.5, [survey("b", {2: 9}, 50), survey("c", {2: 9}, 500)]
    )
    assert gap == pytest.approx(0.05 * 80)
    assert near.tolist() == [True, True, True, False, True, False]
    near, gap = points_near_others(xy, 0.24, [survey("b", {2: 9}, 50)])
    assert gap == pytest.approx(2.4)
    assert near.tolist() == [True, False, False, False, True, False]


def test_blocks_do_not_touch_and_share_the_points():
    rng = np.random.default_rng(1)
    xy = rng.uniform(0, [200, 100], (20_000, 2))
    labels = rng.integers(-1, 3, len(xy))
    blocks, side = block_of_points(xy, labels, spacing=1.0)
    assert (blocks == VALIDATION).mean() == pytest.approx(0.2, abs=0.05)
    axis = 0 if side in ("west", "east") else 1
    train, held_out = xy[blocks == TRAIN, axis], xy[blocks == VALIDATION, axis]
    gap = max(held_out.min() - train.max(), train.min() - held_out.max())
    assert 4 < gap < 11
    assert 0 < (blocks == LEFT_OUT).mean() < 0.1


def test_no_class_is_lost_to_training():
    rng = np.random.default_rng(2)
    xy = rng.uniform(0, 100, (9000, 2))
    labels = rng.integers(0, 2, len(xy))
    labels[(xy[:, 0] > 82)] = 2  # the east end alone has it
    blocks, side = block_of_points(xy, labels, spacing=1.0)
    assert side != "east"
    assert set(labels[blocks == TRAIN]) == {0, 1, 2}


def test_a_cloud_labeled_in_one_corner_cannot_be_split():
    xy = np.random.default_rng(3).uniform(0, 100, (5000, 2))
    labels = np.where((np.abs(xy - 50) < 5).all(axis=1), 0, -1)
    with pytest.raises(DataError, match="second labeled cloud"):
        block_of_points(xy, labels, spacing=1.0)
