"""Clouds classified by the shipped model whose domain fits."""

import logging
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import write_place
from vl3d_lite.dataset import domain
from vl3d_lite.dataset.departures import Departure
from vl3d_lite.errors import DataError, InterruptedRunError
from vl3d_lite.pipeline import auto
from vl3d_lite.pipeline.auto import predict_with_fitting_models
from vl3d_lite.pipeline.domain import outside_domain
from vl3d_lite.pipeline.opening import open_run
from vl3d_lite.prediction.outcomes import PredictedCloud
from vl3d_lite.runs.options import Options
from vl3d_lite.runs.shipped import is_auto
from vl3d_lite.system.file_cache import SETTLED_SECONDS

OPTIONS = Options(threads=1, quiet=True)


@pytest.fixture
def scans(tmp_path):
    """A scan of about 12 points/m2 and one of 1.5, both 40 m wide."""
    for name, points in (("dense", 20_000), ("sparse", 2400)):
        write_place(tmp_path / f"{name}.laz", seed=1, n=points)
    return [tmp_path / "dense.laz", tmp_path / "sparse.laz"]


@pytest.fixture
def calls(monkeypatch):
    """The model and the clouds of each prediction, which is not made."""
    made = []

    def predict(run, paths, folder, options, overrides, class_groups):
        made.append((run.root.name, [path.name for path in paths]))
        return [
            PredictedCloud(str(p), p.name, points=1, voted=1, nearest=0, seconds=0)
            for p in paths
        ]

    monkeypatch.setattr(auto, "predict", predict)
    return made


@pytest.fixture
def chosen(monkeypatch):
    """The model of each cloud, without a look at it."""
    monkeypatch.setattr(auto, "choose_model", lambda path, *others: f"als_{path.stem}")


@pytest.mark.slow
def test_each_cloud_is_predicted_with_the_model_of_its_density(
    scans, calls, tmp_path, caplog
):
    with caplog.at_level(logging.INFO):
        records = predict_with_fitting_models(scans, tmp_path / "out", OPTIONS)
    assert calls == [("als_dense", ["dense.laz"]), ("als_sparse", ["sparse.laz"])]
    assert [record.output for record in records] == ["dense.laz", "sparse.laz"]
    fit = "its domain fits but for the place"
    assert f"dense.laz: predicted with als_dense ({fit})" in caplog.text
    assert f"sparse.laz: predicted with als_sparse ({fit})" in caplog.text


@pytest.mark.slow
def test_without_a_domain_that_fits_the_closest_is_taken_and_it_is_reported(
    calls, tmp_path, caplog
):
    write_place(tmp_path / "very_dense.laz", seed=1, n=200_000)
    with caplog.at_level(logging.INFO):
        predict_with_fitting_models(
            [tmp_path / "very_dense.laz"], tmp_path / "out", OPTIONS
        )
    assert calls == [("als_dense", ["very_dense.laz"])]
    assert "no domain fits, this one is the closest" in caplog.text


SCANS = [Path("dense.laz"), Path("sparse.laz")]


def test_an_error_of_one_model_does_not_stop_the_other(
    chosen, calls, tmp_path, monkeypatch
):
    made = auto.predict

    def fail(run, *others):
        if run.root.name == "als_dense":
            raise DataError("dense.laz: is damaged")
        return made(run, *others)

    monkeypatch.setattr(auto, "predict", fail)
    with pytest.raises(DataError, match="is damaged"):
        predict_with_fitting_models(SCANS, tmp_path / "out", OPTIONS)
    assert calls == [("als_sparse", ["sparse.laz"])]


def test_a_signal_stops_at_once(chosen, tmp_path, monkeypatch):
    def stop(*_):
        raise InterruptedRunError("terminated", 143)

    monkeypatch.setattr(auto, "predict", stop)
    with pytest.raises(InterruptedRunError):
        predict_with_fitting_models(SCANS, tmp_path / "out", OPTIONS)


def test_a_cloud_that_no_model_can_use_is_an_error_and_gets_no_model(
    calls, tmp_path, monkeypatch
):
    choose = auto.choose_model
    (tmp_path / "broken.las").write_bytes(b"no cloud")
    monkeypatch.setattr(
        auto,
        "choose_model",
        lambda path, *others: (
            choose(path, *others) if path.name == "broken.las" else "als_dense"
        ),
    )
    paths = [tmp_path / "broken.las", Path("dense.laz")]
    with pytest.raises(DataError, match=r"broken\.las"):
        predict_with_fitting_models(paths, tmp_path / "out", OPTIONS)
    assert calls == [("als_dense", ["dense.laz"])]


def test_the_model_is_chosen_with_the_overrides_of_the_spec(monkeypatch):
    units = []

    def profile(path, spec, threads):
        units.append(spec.clouds.unit)
        raise DataError("in degrees")

    monkeypatch.setattr(auto, "profile_cloud", profile)
    candidates = auto._candidates(["clouds.unit=ft"])
    with pytest.raises(DataError, match="in degrees"):
        auto.choose_model(Path("a.las"), candidates)
    assert units == ["ft", "ft"]


@pytest.mark.slow
def test_the_choice_of_a_model_measures_a_cloud_for_its_prediction(scans, monkeypatch):
    read, read_cloud = [], domain.read_cloud

    def counted(path, spec, **others):
        read.append(spec.fields.grid_size)
        return read_cloud(path, spec, **others)

    time.sleep(1.5 * SETTLED_SECONDS)
    monkeypatch.setattr(domain, "read_cloud", counted)
    candidates = auto._candidates([])
    assert auto.choose_model(scans[1], candidates) == "als_sparse"
    run = next(one.run for one in candidates if one.name == "als_sparse")
    outside = outside_domain(run, open_run(run)[0], scans[1:], threads=1)
    assert outside == {scans[1]: ["place"]}
    assert read == [0.4, 1.5]


def test_the_place_counts_least(monkeypatch):
    candidates = auto._candidates([])
    middle = {
        one.name: np.sqrt(np.prod(one.domain.density_limits())) for one in candidates
    }
    rows = {
        "als_dense": [Departure("place", "", "", "", of_place=True)],
        "als_sparse": [Departure("color", "", "", "")],
    }
    monkeypatch.setattr(
        auto,
        "profile_cloud",
        lambda *_: SimpleNamespace(density=middle["als_sparse"]),
    )
    monkeypatch.setattr(
        auto,
        "find_departures",
        lambda domain, *_: rows[
            next(one.name for one in candidates if one.domain is domain)
        ],
    )
    assert auto.choose_model(Path("a.las"), candidates) == "als_dense"
    rows["als_sparse"] = []
    assert auto.choose_model(Path("a.las"), candidates) == "als_sparse"


def test_a_folder_named_auto_is_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_auto(Path("auto"))
    assert not is_auto(Path("runs/auto"))
    (tmp_path / "auto").mkdir()
    assert not is_auto(Path("auto"))
