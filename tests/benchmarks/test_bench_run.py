import argparse

import pytest

from benchmarks.bench_network import STAGES
from benchmarks.bench_run import (
    COMPILING,
    alone_of,
    compiling,
    parts_of,
    rate_lines,
    report,
    split_steps,
)
from benchmarks.clocks import NETWORK, STEP, VALIDATION
from benchmarks.run_spec import QUICK, make_spec, stages_of
from vl3d_lite.spec.reader import read_spec

SIZES = argparse.Namespace(tiles=1, epochs=2, steps=3, threads=1, clouds=1)
CALLS = {
    "benchmark's step": 0.9,
    "benchmark's inference": 0.4,
    "forward": 0.2,
    "gradients": 0.7,
    "step": 1.0,
    "inference": 0.5,
}


@pytest.fixture
def training():
    return {
        "wall": 100.0,
        "seconds": {STEP: 40.0, VALIDATION: 12.0, "reading": 8.0},
        "calls": {STEP: [13.0, 9.0, 9.0, 9.0], NETWORK: [7.0, 1.0, 1.0]},
        "batch": 1000,
        "filled": 0.5,
        "beside": {"seconds": 0.05, "slots": 10_000},
    }


@pytest.fixture
def rounds():
    """Two measurements alone; the second is twice as slow."""
    rates = {"product": 1e11, "gather": 3e10, "copy": 3e10}
    return [
        {
            "seconds": {name: [t * times] * 3 for name, t in CALLS.items()},
            "ceilings": {name: rate / times for name, rate in rates.items()},
        }
        for times in (1, 2)
    ]


def test_compilation_is_the_extra_time_of_first_calls(training):
    assert compiling(training) == {STEP: 4.0, NETWORK: 6.0}


def test_the_parts_of_a_run_add_up_to_its_wall_clock(training):
    parts = parts_of(training)
    assert sum(parts.values()) == pytest.approx(100)
    assert parts[STEP] == 36
    assert parts[VALIDATION] == 6  # it contains the compilation of inference
    assert parts[COMPILING[NETWORK]] == 6
    assert parts["everything else"] == 40


def test_split_steps_add_up_to_the_same_total(training):
    alone = {"forward": 2.0, "backward": 4.0, "optimizer": 1.0}
    parts = split_steps(training, alone)
    assert sum(parts.values()) == pytest.approx(100)
    assert parts["steps: backward"] == 16
    assert parts["steps: longer than alone"] == 36 - 28


def test_a_share_is_the_rate_of_the_run_divided_by_that_of_the_network(training):
    without, included = rate_lines("training", training, STEP, 18.0)
    # Four batches of 18 s alone, in 90 s without compilation and 100 s with it.
    assert "| **80%** | target 85% |" in without
    assert "| **72%** | with compiling |" in included
    assert "| 56 | 44 | 22 |" in without  # slots per second; half of them present


def test_a_step_alone_is_split_by_difference(rounds):
    alone = alone_of(rounds)
    assert alone["forward"] == pytest.approx(0.3)
    assert alone["backward"] == pytest.approx(0.75)
    assert alone["optimizer"] == pytest.approx(0.45)


@pytest.mark.slow
@pytest.mark.parametrize("stages", [STAGES, QUICK], ids=["reference", "quick"])
def test_the_spec_of_the_run_has_the_stages(tmp_path, stages):
    path = make_spec(tmp_path, stages, SIZES)
    assert stages_of(path) == stages
    spec = read_spec(path).spec
    assert len(spec.features) == 5
    assert len(spec.classes) == 4


@pytest.mark.slow
def test_a_report_contains_rates_parts_and_rooflines(tmp_path, training, rounds):
    prediction = {
        **training,
        "seconds": {NETWORK: 30.0, "reading": 10.0},
        "calls": {NETWORK: [11.0, 1.0, 1.0]},
    }
    found = {
        "training": training,
        "prediction": prediction,
        "rounds": rounds,
        "parameters": {"run": 11, "benchmark": 12},
        "points": 5000,
    }
    path = make_spec(tmp_path, STAGES, SIZES)
    lines = report(path, found, SIZES)
    text = "\n".join(lines)
    assert "4 steps of 1,000 slots, 50% of them with a point" in text
    assert "50 points of the files per second. 11 parameters" in text
    assert "takes +150.0 ms compared with" in text
    assert "takes 5.0 ms per batch" in text
    assert "| compiling inference | 10.0 | 10.0% |" in lines
    assert "| network | 20.0 | 20.0% |" in lines
    assert lines.count("| all | 100.0 | 100% |") == 2
    roofs = [line for line in lines if line.startswith("| inference |")]
    # The report uses the best ceilings of the rounds and the mean of the times.
    milliseconds, *_, floor, times = roofs[0].split("|")[2:-1]
    assert float(milliseconds) == 750
    assert float(times) == pytest.approx(750 / float(floor), rel=0.02)
    assert "Ceilings: 100 Gflop/s, 30.0 GB/s gathered" in text
