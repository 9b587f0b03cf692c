"""Warnings that follow from facts about training and validation clouds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SPEC
from vl3d_lite.dataset.cloud_facts import LabeledFacts, labeled_facts
from vl3d_lite.dataset.data_warnings import labeled_warnings
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.spec.reader import read_spec


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"
    path.write_text(SPEC)
    return read_spec(path, check_files=False).spec


def facts(group="train", **changes):
    usual = {
        "path": Path(f"{group}.laz"),
        "group": group,
        "cells": 1000,
        "density": 4.0,
        "nearest": 0.5,
        "means": np.array([1.0, 0.5, 100.0]),
        "deviations": np.array([1.0, 0.2, 30.0]),
        "wide": False,
        "class_points": np.array([3000, 2000, 1000]),
        "class_cells": np.array([500, 300, 200]),
    }
    return LabeledFacts(**{**usual, **changes})


def warned(spec, *clouds):
    return labeled_warnings(spec, clouds)


def test_usual_clouds_cause_no_warning(spec):
    assert warned(spec, facts(), facts("validation")) == []


def test_classes_that_validation_lacks_are_named(spec):
    lacks = facts("validation", class_points=np.array([10, 20, 0]))
    (text,) = warned(spec, facts(), lacks)
    assert text.startswith("class `building` has no validation points")


def test_a_single_class_in_validation_selects_no_epoch(spec):
    flat = facts("validation", class_points=np.array([6000, 0, 0]))
    *missing, single = warned(spec, facts(), flat)
    assert len(missing) == 2
    assert "hold a single class" in single
    assert "the training loss selects the best epoch" in single


@pytest.mark.parametrize(
    "clouds",
    [
        [facts()],
        [facts(), facts("validation", class_points=np.zeros(3, int))],
    ],
    ids=["none", "unlabeled"],
)
def test_without_validation_labels_the_loss_selects(spec, clouds):
    (text,) = warned(spec, *clouds)
    assert "the training loss selects the best epoch" in text


def test_differing_densities_are_named(spec):
    texts = warned(spec, facts(), facts(density=17.0), facts("validation"))
    assert "densities from 4 to 17 points/m2" in texts[0]
    (text,) = warned(spec, facts(), facts("validation", density=0.5))
    assert "0.12 times as dense" in text


def test_constant_features_are_named(spec):
    flat = {"deviations": np.array([1.0, 0.2, 0.0])}
    (text,) = warned(spec, facts(**flat), facts("validation"))
    assert "feature `relative_intensity` is 100 in all training clouds" in text
    other = facts(**flat, means=np.array([1.0, 0.5, 101.0]))
    assert warned(spec, facts(**flat), other, facts("validation")) == []


@pytest.mark.parametrize(
    ("spread", "apart", "constant"),
    [(30.0, 0.0, False), (0.01, 0.0, False), (0.0, 5.0, False), (0.0, 0.0, True)],
)
def test_only_a_constant_gps_time_is_named(spread, apart, constant, spec):
    deviations = np.array([1.0, 0.2, spread])
    first, last = (
        facts(means=np.array([1.0, 0.5, time]), deviations=deviations, wide=True)
        for time in (3e8, 3e8 + apart)
    )
    texts = warned(spec, first, last, facts("validation"))
    expected = "feature `relative_intensity` is 3e+08 in all training clouds"
    assert [text.startswith(expected) for text in texts] == [True] * constant


def test_gps_time_of_a_short_flight_is_not_constant(place, spec):
    path = place / "train.laz"
    cloud = prepare_file(path, spec, 1)
    times = 3e8 + np.random.default_rng(0).normal(0, 30, len(cloud.xyz))
    for time, constant in ((times, False), (3e8, True)):
        features = cloud.features.astype(np.float64)
        features[:, 2] = time
        varied = dataclasses.replace(cloud, features=features)
        texts = warned(spec, labeled_facts(path, "train", varied, spec))
        assert any("carries no information" in text for text in texts) == constant


def test_features_that_are_missing_everywhere_are_named(spec):
    gone = {"means": np.array([1, np.nan, 2]), "deviations": np.array([1, np.nan, 2])}
    (text,) = warned(spec, facts(**gone), facts("validation"))
    assert "feature `return_ratio` is missing in all training clouds" in text
    assert warned(spec, facts(**gone), facts(), facts("validation")) == []


def test_facts_are_those_of_the_points(place, spec):
    path = place / "train.laz"
    cloud = prepare_file(path, spec, 1)
    found = labeled_facts(path, "train", cloud, spec)
    assert found.class_points.sum() == 6000
    assert found.class_cells.sum() == found.cells == len(cloud.xyz)
    assert found.density == pytest.approx(6000 / 40**2, rel=0.15)
    np.testing.assert_allclose(found.means, cloud.features.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.deviations, cloud.features.std(axis=0), rtol=1e-3)
