"""The domain of a run: stored in training, held against clouds to predict."""

import logging

import pytest

from tests.conftest import write_place
from tests.pipeline.commands import copy_of
from vl3d_lite import pipeline
from vl3d_lite.dataset.departures import RANKING
from vl3d_lite.dataset.domain import read_domain
from vl3d_lite.errors import DataError
from vl3d_lite.pipeline.domain import log_departures, outside_domain
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.system import file_hash

OPTIONS = Options(threads=2, quiet=True)

pytestmark = pytest.mark.usefixtures("nothing_twice")


@pytest.mark.slow
def test_a_run_stores_what_its_training_looked_like(trained):
    domain = read_domain(trained.domain)
    assert domain.clouds == 1
    assert domain.density[1] == pytest.approx(6000 / 1600, rel=0.2)
    assert list(domain.features) == ["height", "return_ratio", "relative_intensity"]


@pytest.mark.slow
def test_outside_the_domain_the_record_and_the_report_call_it_a_ranking(
    trained, tmp_path, caplog
):
    write_place(tmp_path / "sparse.laz", seed=2, n=1000)
    with caplog.at_level(logging.WARNING):
        (record,) = pipeline.predict(
            trained, [tmp_path / "sparse.laz"], tmp_path / "out", OPTIONS
        )
    assert "density (points/m2)" in record.outside_domain
    assert f"1 of 1 clouds are outside the domain of place. {RANKING}" in caplog.text
    assert ".727 at 1.5 points/m2" in caplog.text
    pipeline.evaluate(trained, tmp_path / "out")
    assert "a ranking, not a probability" in trained.report.read_text()


def test_a_run_of_an_earlier_version_warns_that_it_compares_nothing(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert outside_domain(RunFolder(tmp_path), None, [], threads=1) == {}
    assert "has no domain.json" in caplog.text


def test_a_domain_that_is_not_the_recorded_one_is_refused(trained, tmp_path):
    run = copy_of(trained, tmp_path / "copy")
    files = run.read_provenance()["files"]
    assert files["domain.json"] == file_hash(run.domain)
    run.domain.write_text(run.domain.read_text() + " ")
    with pytest.raises(DataError, match=r"domain\.json: is not the file of this run"):
        outside_domain(run, None, [], threads=1)
    del files["domain.json"]  # as earlier versions recorded
    run.update_provenance(files=files)
    assert outside_domain(run, None, [], threads=1) == {}


def test_clouds_inside_the_domain_are_reported_in_a_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        log_departures({tmp_path / "a.las": []}, "town")
    assert caplog.messages == ["the clouds are inside the domain of town"]
