"""The options that name workers."""

import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.runs import workers as module
from vl3d_lite.runs.workers import Workers, workers_of


def test_without_the_options_this_process_predicts():
    assert workers_of(None, None) is None


def test_a_count_starts_processes_and_an_address_joins_a_scheduler(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    assert workers_of(4, None) == Workers(4)
    assert workers_of(None, "tcp://node1:8786").joins
    assert not workers_of(8, "slurm.yaml").joins


@pytest.mark.parametrize(
    ("count", "cluster", "message"),
    [
        (0, None, "--workers must be from 1 to 10,000. Received: 0"),
        (-2, None, "Received: -2"),
        (2, "tcp://node1:8786", "has its own workers; leave --workers out"),
        (None, "node1", r"--cluster must be the address.*\.yaml file.*Received: node1"),
        (None, "slurm.json", "Received: slurm.json"),
    ],
)
def test_options_that_do_not_fit_are_errors(count, cluster, message):
    with pytest.raises(SpecError, match=message):
        workers_of(count, cluster)


@pytest.mark.parametrize(
    ("cluster", "missing"),
    [
        (None, "need distributed;"),
        ("slurm.yaml", "need distributed and dask_jobqueue;"),
    ],
)
def test_missing_libraries_are_an_error_that_names_the_extra(
    monkeypatch, cluster, missing
):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SpecError, match=rf"{missing} .*vl3d-lite\[cluster\]"):
        workers_of(2, cluster)
