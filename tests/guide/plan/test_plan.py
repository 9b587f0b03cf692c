"""What a plan prints before a run, and which runs it refuses."""

import os
import re
import subprocess
import sys
from pathlib import Path

import laspy
import numpy as np
import pytest

from tests.conftest import write_place
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.sizes import cloud_bytes, size_of
from vl3d_lite.errors import DataError, ResourceError
from vl3d_lite.guide.plan import timing
from vl3d_lite.guide.plan.cloud_facts import read_facts
from vl3d_lite.guide.plan.plan import plan_run
from vl3d_lite.guide.plan.text import plan_text
from vl3d_lite.guide.plan.timing import prediction_batches
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system import file_cache
from vl3d_lite.system.file_cache import FileCache
from vl3d_lite.training import memory, remedies

ENVELOPE = Path(__file__).parents[3] / "configs/envelope.yaml"


def planned(place, *sets, **options):
    return plan_run(read_spec(place / "spec.yaml", sets), **options)


@pytest.fixture(scope="module")
def usual(place):
    return planned(place)


@pytest.fixture
def mine(place, tmp_path):
    """A folder of the place's spec and clouds that may be changed."""
    (tmp_path / "spec.yaml").write_text((place / "spec.yaml").read_text())
    for seed, name in enumerate(("train", "val", "test")):
        write_place(tmp_path / f"{name}.laz", seed)
    return tmp_path


def change(path, edit):
    las = laspy.read(path)
    edit(las)
    las.write(path)


def test_points_and_codes_are_counted(place, usual):
    text = plan_text(usual)
    codes, counts = np.unique(
        laspy.read(place / "train.laz").classification, return_counts=True
    )
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        assert usual.clouds[0].codes[code] == count
        assert f"{count:,}" in text
    assert [cloud.group for cloud in usual.clouds] == ["train", "validation", "predict"]
    assert "All codes belong to a class." in text


@pytest.mark.slow
def test_codes_without_a_class_are_listed(mine):
    def rename(las):
        las.classification[:50] = 17

    change(mine / "train.laz", rename)
    assert "Ignored codes that belong to no class: 17 (50 points)" in plan_text(
        planned(mine)
    )


@pytest.mark.slow
def test_flagged_points_are_counted_and_belong_to_no_class(mine):
    def flag(las):
        las.classification[:50] = 17
        las.classification[50:80] = 7
        las.overlap[::2] = 1

    change(mine / "train.laz", flag)
    found = planned(mine, "ignored_flags=[overlap]")
    las = laspy.read(mine / "train.laz")
    codes, flagged = np.asarray(las.classification), np.asarray(las.overlap) == 1
    flagged &= codes != 7
    count = int(np.count_nonzero(flagged & (codes != 17)))
    assert found.clouds[0].flagged == count
    assert found.clouds[0].codes[17] == 50
    assert 7 not in found.clouds[0].codes
    assert found.clouds[0].codes[6] == np.count_nonzero(~flagged & (codes == 6))
    text = plan_text(found)
    assert f"Ignored points flagged overlap: {count:,}" in text
    assert "Excluded points (code 7, 18 or flagged withheld): 30" in text


def test_the_dimension_of_source_weights_is_read():
    loaded = read_spec(ENVELOPE)
    [path] = loaded.clouds["validation"]
    found = read_facts(path, "validation", loaded.spec, 1)
    las = laspy.read(path)
    codes, counts = np.unique(las.classification, return_counts=True)
    assert found.codes == dict(zip(codes.tolist(), counts.tolist(), strict=True))
    assert (found.points, found.excluded, found.flagged) == (len(las), 0, 0)


def test_a_second_plan_reads_no_points(mine, tmp_path, monkeypatch):
    monkeypatch.setattr(file_cache, "SETTLED_SECONDS", 0)
    monkeypatch.setenv("VL3D_LITE_CACHE", str(tmp_path / "cache"))
    first = plan_text(planned(mine))
    assert "are from the cache" not in first
    for module in ("points", "reading", "sampling"):
        monkeypatch.setattr(f"vl3d_lite.clouds.{module}.read_records", None)
    monkeypatch.setattr("vl3d_lite.dataset.domain.PROFILES", FileCache(8))
    second = plan_text(planned(mine))
    line = "Counts of 2 of 2 training and validation clouds are from the cache"
    assert line in second

    def lines(text):  # free memory changes from one plan to the next
        return [one for one in text.splitlines() if "RAM" not in one]

    assert [one for one in lines(second) if line not in one] == lines(first)


def test_clouds_that_the_cache_holds_take_no_memory(mine, tmp_path, monkeypatch):
    without = planned(mine)
    monkeypatch.setenv("VL3D_LITE_CACHE", str(tmp_path / "cache"))
    held = planned(mine)
    assert without.cached == 0
    assert 0.5 * held.cached < without.memory.clouds - held.memory.clouds < held.cached
    assert re.search(r"^cache +about .* of prepared clouds$", plan_text(held), re.M)
    small = planned(mine, "cache.max_gigabytes=0.000001")
    assert small.memory.clouds == without.memory.clouds


def test_steps_and_parameters_are_those_of_the_run(place, trained, usual):
    assert usual.parameters == trained.read_provenance()["parameters"]
    assert usual.steps == 8


def test_cells_are_those_of_the_prepared_cloud(place, usual):
    spec = read_spec(place / "spec.yaml").spec
    for cloud, name in zip(usual.clouds, ("train", "val"), strict=False):
        prepared = prepare_file(place / f"{name}.laz", spec, 1)
        levels = prepared.hierarchy.levels
        assert cloud.cells == tuple(len(level.xyz) for level in levels)


@pytest.mark.slow
def test_further_grids_cost_memory_and_batches_but_no_steps(place, usual):
    name = "training.augmentation.grids=3"
    more = planned(place, name, "training.steps_per_epoch=null")
    once = planned(place, "training.steps_per_epoch=null")
    assert more.steps == once.steps
    train = cloud_bytes(
        usual.loaded.spec,
        size_of(prepare_file(place / "train.laz", usual.loaded.spec, 1)),
    )
    assert more.memory.clouds - once.memory.clouds == pytest.approx(2 * train, rel=0.05)
    batches = [
        prediction_batches(p.clouds, p.loaded.spec)
        for p in (usual, planned(place, "prediction.grids=3"))
    ]
    assert batches[1] == pytest.approx(3 * batches[0], abs=3)


@pytest.mark.slow
def test_a_plan_is_printed_without_keras(place):
    code = (
        "import sys\n"
        "from vl3d_lite.cli.app import app\n"
        "app(['plan', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit(bool({'keras', 'tensorflow', 'open3d'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, place / "spec.yaml"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "peak RAM" in result.stdout
    assert "3 epochs of 8 steps" in result.stdout


@pytest.mark.slow
def test_a_dry_run_prints_the_plan_and_writes_nothing(place, tmp_path):
    command = [sys.executable, "-m", "vl3d_lite", "run", place / "spec.yaml"]
    result = subprocess.run(
        [*command, "--dry-run", "--run", tmp_path / "run"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "Plan of" in result.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["plan"], pytest.param(["train", "--run", "new"], marks=pytest.mark.slow)],
    ids=lambda command: command[0],
)
def test_a_run_beyond_memory_ends_with_exit_code_4(place, tmp_path, command):
    name, *rest = command
    result = subprocess.run(
        [
            *(sys.executable, "-m", "vl3d_lite", name, place / "spec.yaml"),
            *("--set", "training.batch_size=2000000", *rest),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 4
    assert "GiB of memory" in result.stderr
    assert result.stderr.count(" GiB)") == 3
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "new").exists()


def test_clouds_beyond_memory_are_refused(place, monkeypatch):
    free = memory.estimate(read_spec(place / "spec.yaml").spec).host
    monkeypatch.setattr(remedies, "memory_limit", lambda: free + 1000)
    with pytest.raises(ResourceError, match="of memory"):
        planned(place)


def test_a_damaged_cloud_is_refused(mine):
    (mine / "val.laz").write_text("no cloud")
    with pytest.raises(DataError, match=r"val\.laz"):
        planned(mine)


def warned(plan, *words):
    found = [w for w in plan.warnings if all(word in w for word in words)]
    assert len(found) == 1, plan.warnings
    return found[0]


@pytest.mark.slow
def test_warns_of_a_kernel_smaller_than_the_point_spacing(place, usual):
    assert not any("has no neighbors" in w for w in usual.warnings)
    found = planned(place, "fields.grid_size=0.05")
    warned(found, "has no neighbors")
    warned(found, "finer than")


def test_warns_of_a_grid_size_too_coarse_for_the_density(place):
    warned(planned(place, "fields.grid_size=4"), "too coarse")


@pytest.mark.slow
def test_warns_of_a_class_of_few_points(mine):
    def thin(las):
        rows = np.flatnonzero(las.classification == 6)
        las.classification[rows[150:]] = 2

    change(mine / "train.laz", thin)
    warned(planned(mine), "class `building` has 150 training points")


@pytest.mark.slow
def test_warns_of_a_class_without_validation_points(mine):
    def forget(las):
        las.classification[las.classification == 6] = 2

    change(mine / "val.laz", forget)
    warned(planned(mine), "class `building` has no validation points")


@pytest.mark.slow
def test_warns_of_fields_that_are_mostly_padding(place):
    small = planned(place, "model.stages.0.points=128", "model.stages.1.points=32")
    assert not any("fields are full" in w for w in small.warnings)
    warned(planned(place, "fields.radius=2"), "0% of the training fields are full")


def test_warns_of_fields_narrower_than_a_building(place, usual):
    assert not any("widest building" in w for w in usual.warnings)
    sets = "model.stages.0.points=64", "model.stages.1.points=16"
    warned(planned(place, *sets), "m wide and the widest building")


@pytest.mark.slow
def test_warns_of_a_constant_feature(mine):
    def flatten(las):
        las.intensity[:] = 500

    change(mine / "train.laz", flatten)
    warned(planned(mine), "feature `relative_intensity` is 0 in all")


@pytest.mark.slow
def test_warns_of_a_stage_larger_than_its_fields(place):
    warned(planned(place, "model.stages.1.points=512"), "stage 1 has room for 512")


@pytest.mark.slow
def test_warns_of_a_shared_and_of_no_validation_cloud(place):
    both = planned(place, f"clouds.validation=['{place / 'train.laz'}']")
    warned(both, "this validation cloud is also in `clouds.train`")
    warned(planned(place, "clouds.validation=[]"), "no validation cloud")


@pytest.mark.slow
def test_warns_of_too_short_a_training(place, usual):
    assert not any("cells once" in w for w in usual.warnings)
    sets = "training.epochs=1", "training.steps_per_epoch=1"
    warned(planned(place, *sets), "of its cells once")


@pytest.mark.slow
def test_disk_use_counts_the_dimensions_written(place, usual):
    source = (place / "test.laz").stat().st_size
    probabilities = planned(place, "prediction.write=[prediction]")
    assert usual.disk - probabilities.disk == 6000 * (4 + 4 + 12) / 2
    assert usual.disk > source + 4 * usual.parameters


@pytest.mark.slow
def test_measured_steps_give_the_times_of_the_run(place):
    found = planned(place, measure=True)
    times = found.timing
    assert 0 < times.step < times.training
    assert times.preparation > 0
    assert times.prediction > 0
    assert "s per step" in plan_text(found)


def test_preparation_counts_the_clouds_and_the_network(place, monkeypatch):
    from vl3d_lite.guide.plan import measure

    times = measure.StepTimes(0.001, 3.0, *[0.0] * 5)
    monkeypatch.setattr(measure, "measure", lambda *_: times)
    assert planned(place, measure=True).timing.preparation == pytest.approx(12 + 3)


@pytest.mark.parametrize(
    ("load", "threads", "reported"),
    [(3.5, 2, True), (1.5, 2, False), (3.5, 4, False)],
    ids=["crowded", "idle", "below"],
)
def test_a_load_above_the_processors_used_is_reported(
    monkeypatch, load, threads, reported
):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 9.0, 9.0))
    assert timing.disturbing_load(threads) == (load if reported else None)


def test_the_load_is_ignored_where_processors_are_free(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "getloadavg", lambda: (20.0, 9.0, 9.0))
    assert timing.disturbing_load(4) is None
