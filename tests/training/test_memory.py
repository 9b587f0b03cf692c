"""Estimates of memory: what they grow with."""

import numpy as np
import pytest

from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.sizes import CloudSize, cloud_bytes, size_of
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.training.memory import estimate

CLOUD = CloudSize(1_000_000, (300_000, 90_000))


def spec_of(place, *sets):
    return read_spec(place / "spec.yaml", sets).spec


def test_a_step_grows_with_the_batch(place):
    one, four = (
        estimate(spec_of(place, f"training.batch_size={size}")) for size in (2, 8)
    )
    assert four.step == pytest.approx(4 * one.step)
    assert four.weights == one.weights
    assert four.host > one.host


@pytest.mark.parametrize(
    "change",
    [
        "model.stages.0.channels=64",
        "model.stages.0.neighbors=32",
        "model.stages.0.points=2048",
        "model.stages.0.blocks=[kpconvx, kpconvx, gva]",
        "model.gva.weights=channels",
        "model.kpconvx.hidden_ratio=8",
    ],
)
def test_a_step_grows_with_the_network(place, change):
    assert estimate(spec_of(place, change)).step > estimate(spec_of(place)).step


def test_half_precision_takes_half_of_a_step(place):
    whole, half = (
        estimate(spec_of(place, f"training.precision={precision}"))
        for precision in ("float32", "mixed_bfloat16")
    )
    assert half.step == pytest.approx(whole.step / 2)


def test_xla_takes_memory_to_compile(place):
    on, off = (estimate(spec_of(place, f"training.jit={jit}")) for jit in ("on", "off"))
    assert on.graph + on.compiling > 2 * off.graph
    assert off.compiling == 0
    assert on.host > off.host


def test_a_cloud_counts_what_its_arrays_hold(place):
    spec = spec_of(place)
    cloud = prepare_file(place / "train.laz", spec, 1)
    held = cloud.features.nbytes + cloud.labels.nbytes + cloud.point_counts.nbytes
    held += cloud.cell_of_point.nbytes + cloud.hierarchy.keys.nbytes
    held += cloud.xyz.nbytes + 8 * len(cloud.labels)  # the tree's axes, class rows
    for level in cloud.hierarchy.levels:
        arrays = [a for a in vars(level).values() if isinstance(a, np.ndarray)]
        held += sum(array.nbytes for array in arrays)
    assert cloud_bytes(spec, size_of(cloud)) == pytest.approx(held, rel=0.1)


def test_reading_counts_where_it_is_more_than_training(place):
    spec = spec_of(place)
    small = estimate(spec, [CloudSize(1000, (500,))])
    large = estimate(spec, [CloudSize(10**9, (500,))])
    assert small.reading < small.graph < large.reading
    assert large.host > large.reading


def test_validation_and_prediction_come_on_top_of_training(place):
    spec = spec_of(place)
    alone = estimate(spec, [CLOUD]).clouds
    validated = estimate(spec, [CLOUD], [CLOUD]).clouds
    both = estimate(spec, [CLOUD], [CLOUD], [CLOUD, CloudSize(10, (5,))]).clouds
    assert alone < validated < both
    assert both - validated == pytest.approx(validated - alone)


def test_with_a_gpu_step_and_weights_are_not_in_main_memory(place):
    spec = spec_of(place, "training.batch_size=640", "training.jit=on")
    cpu, gpu = (estimate(spec, [CLOUD], accelerator=there) for there in (False, True))
    assert cpu.step > cpu.compiling
    freed = cpu.step - cpu.compiling + cpu.weights
    assert cpu.host - gpu.host == pytest.approx(freed)
    assert gpu.device > gpu.step


def test_without_xla_a_gpu_takes_no_memory_to_compile(place):
    spec = spec_of(place, "training.jit=off")
    assert estimate(spec, [CLOUD], accelerator=True).compiling == 0
