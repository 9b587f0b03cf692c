"""Prediction by workers: local processes on the loopback interface, some killed."""

import logging
import os
import signal
import threading
import time

import pytest

from tests.pipeline.commands import copies
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.pipeline import worker_pool as pool
from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.prediction.record_files import Starts
from vl3d_lite.runs.options import Options
from vl3d_lite.runs.workers import Workers

psutil = pytest.importorskip("psutil")
pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

ONE_THREAD = Options(threads=1, quiet=True)


def with_workers(**changes):
    settings = {"workers": Workers(2), "worker_threads": 1, **changes}
    return Options(threads=1, quiet=True, **settings)


def worker_processes(others):
    """The new processes of this one that hold a network, by their memory."""
    children = set(psutil.Process().children(recursive=True)) - others
    return [child for child in children if child.memory_info().rss > 300 << 20]


def kill_one_when(happened, killed):
    """Kill a worker once something has happened; in a thread."""
    others = set(psutil.Process().children(recursive=True))  # of other tests

    def kill():
        for _ in range(6000):
            if happened() and (found := worker_processes(others)):
                os.kill(found[0].pid, signal.SIGKILL)
                killed.append(found[0].pid)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_killed_worker_changes_no_output(trained, place, tmp_path, caplog):
    clouds = copies(place, tmp_path, *(f"{name}.laz" for name in "abcdef"))
    clouds.append(tmp_path / "bad.laz")
    clouds[-1].write_text("not a cloud")
    killed: list[int] = []
    out = tmp_path / "out"
    thread = kill_one_when(lambda: any(out.glob("*.laz")), killed)
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(DataError, match=r"1 of 7 clouds were not predicted.*bad\.laz"),
    ):
        pipeline.predict(trained, clouds, out, with_workers())
    thread.join()
    assert killed
    assert "dashboard of the workers: http://127.0.0.1" in caplog.text
    plain = tmp_path / "plain"
    pipeline.predict(trained, clouds[:-1], plain, ONE_THREAD)
    for cloud in clouds[:-1]:
        expected = (plain / cloud.name).read_bytes()
        assert (out / cloud.name).read_bytes() == expected
    names = [cloud.name for cloud in clouds[:-1]]
    assert [record.output for record in read_outcomes(out)] == names
    left = sorted(path.name for path in (out / ".records").iterdir())
    assert left == [f"{name}.json" for name in names]
    assert not list(out.glob(".*.part-*"))


@pytest.mark.slow
def test_workers_unlike_the_command_and_what_they_cannot_finish_are_errors(
    trained, place, tmp_path, monkeypatch
):
    from distributed import LocalCluster

    clouds = copies(place, tmp_path, "a.laz", "b.laz")
    module = "vl3d_lite.pipeline.on_workers"
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        host="127.0.0.1",
        dashboard_address=None,
        protocol="tcp",
    ) as cluster:
        options = with_workers(workers=Workers(None, cluster.scheduler_address))
        with monkeypatch.context() as patch:
            versions = {"versions": {"vl3d_lite": "9.0", "keras": "9.1"}}
            patch.setattr(f"{module}.worker_facts", lambda: versions)
            with pytest.raises(ResourceError) as raised:
                pipeline.predict(trained, clouds, tmp_path / "out", options)
        text = str(raised.value)
        assert text.count("worker tcp://127.0.0.1:") == 1
        assert "instead of 9.0, keras" in text
        assert "instead of 9.1; install the same versions there" in text
        with monkeypatch.context() as patch:
            folder = tmp_path / "out/.records"
            patch.setattr(
                pipeline.on_workers._Campaign,
                "predict",
                with_starts(folder.parent, pipeline.on_workers._Campaign.predict),
            )
            with pytest.raises(ResourceError, match=r"1 of 2 .*a\.laz: ended its work"):
                pipeline.predict(trained, clouds, tmp_path / "out", options)
    assert [record.output for record in read_outcomes(tmp_path / "out")] == ["b.laz"]
    assert not list(folder.glob("*.starts"))


def with_starts(folder, predict):
    """As if three workers had ended while they predicted a.laz."""

    def changed(campaign, dispatcher):
        for _ in range(3):
            Starts(folder, "a.laz", campaign.job.campaign).add()
        predict(campaign, dispatcher)

    return changed


def test_an_address_without_a_scheduler_is_an_error(monkeypatch):
    monkeypatch.setattr(pool, "_PATIENCE", 0.5)
    unused = Workers(None, "tcp://127.0.0.1:9")
    with (
        pytest.raises(ResourceError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler"),
        pool.worker_pool(unused),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "must be a mapping with `system`, one of slurm, pbs"),
        ("system: cron", "must be a mapping with `system`"),
        ("system: [", "is not valid YAML"),
        ("system: slurm\nworkers: many", "`workers` must be at least 1. Received: man"),
    ],
)
def test_a_batch_file_that_is_not_valid_is_an_error(tmp_path, text, message):
    (tmp_path / "slurm.yaml").write_text(text)
    with pytest.raises(SpecError, match=rf"slurm\.yaml: {message}"):
        pool.read_batch_file(tmp_path / "slurm.yaml")


@pytest.mark.parametrize("system", pool.SYSTEMS)
def test_each_batch_system_is_one_of_dask_jobqueue(system):
    jobqueue = pytest.importorskip("dask_jobqueue")
    kind = pool.batch_class(system)
    assert issubclass(kind, jobqueue.JobQueueCluster)
    assert kind is not jobqueue.JobQueueCluster


def test_a_machine_that_submits_no_jobs_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "slurm.yaml"
    path.write_text("system: slurm\ncores: 1\nmemory: 1GB\n")
    with (
        pytest.raises(ResourceError, match=r"slurm\.yaml: `sbatch` is not found; run"),
        pool.worker_pool(Workers(None, str(path))),
    ):
        pass


def test_the_processors_of_a_job_are_those_of_its_workers(tmp_path):
    path = tmp_path / "slurm.yaml"
    path.write_text("system: slurm\ncores: 8\nprocesses: 2\n")
    assert pool.batch_threads(Workers(None, str(path))) == 4
    assert pool.batch_threads(Workers(2)) is None


def test_each_local_worker_has_a_gpu_of_its_own(monkeypatch, caplog):
    monkeypatch.setattr(pool, "has_gpu", lambda: True)
    monkeypatch.setattr(pool, "gpu_names", lambda: ["H100"] * 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in pool.local_devices(2)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    found = [one["CUDA_VISIBLE_DEVICES"] for one in pool.local_devices(3)]
    assert found == ["3", "GPU-5"]
    assert "3 workers: uses 2, one for each GPU" in caplog.text
    monkeypatch.setattr(pool, "has_gpu", lambda: False)
    assert pool.local_devices(2) == [{}, {}]
