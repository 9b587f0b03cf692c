"""Clouds of a spec that do not look like those it trains on."""

import pytest

from tests.conftest import SPEC, write_place
from vl3d_lite.dataset import domain
from vl3d_lite.guide.domain import domain_warning
from vl3d_lite.guide.models import describe_models
from vl3d_lite.spec.reader import read_spec


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("train", "val", "test")):
        write_place(tmp_path / f"{name}.laz", seed)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


@pytest.mark.slow
def test_clouds_like_those_of_the_training_give_no_warning(folder):
    assert domain_warning(read_spec(folder / "spec.yaml"), threads=1) == ""


@pytest.mark.slow
def test_a_sparser_cloud_to_predict_is_reported_in_a_table(folder):
    write_place(folder / "test.laz", 2, n=1200)
    text = domain_warning(read_spec(folder / "spec.yaml"), threads=1)
    header, row = text.splitlines()[1:]
    assert header.split()[0] == "cloud"
    assert row.startswith("test.laz")
    assert "density (points/m2)" in row
    assert ".727 at 1.5 points/m2" in row


@pytest.mark.slow
def test_training_clouds_are_held_against_the_run_that_gives_the_weights(folder):
    changes = ["training.initial_weights=als_sparse", "features.0=height_above_ground"]
    text = domain_warning(read_spec(folder / "spec.yaml", changes), threads=1)
    assert "train.laz" in text
    # The domain of als_sparse was found by scoring.
    assert "0.2 to 3" in text


@pytest.mark.slow
def test_each_cloud_is_profiled_once(folder, monkeypatch):
    measured = []
    profile = domain.profile_cloud

    def counted(path, *own):
        measured.append(path.name)
        return profile(path, *own)

    monkeypatch.setattr(domain, "profile_cloud", counted)
    changes = ["training.initial_weights=als_sparse", "features.0=height_above_ground"]
    domain_warning(read_spec(folder / "spec.yaml", changes), threads=1)
    assert sorted(measured) == ["test.laz", "train.laz", "val.laz"]


def test_the_shipped_models_are_described():
    text = describe_models()
    for words in (
        "als_dense: ground, vegetation",
        "ground 2, vegetation 5, building 6, other 1 (LAS codes written)",
        "3 to 40 points/m2",
        "0.2 to 3 points/m2",
        "Licence Ouverte",
        "test: Montpellier f",
    ):
        assert words in text
