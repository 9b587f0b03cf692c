import pytest

from benchmarks.bench_network import CLASSES, FEATURES, STAGES, as_spec
from benchmarks.roofline import Work, forward_work, network_work
from vl3d_lite.model.cost import LayerCost, count_parameters
from vl3d_lite.spec.schema.network import ModelSpec

COSTS = [LayerCost("unary", 10, 3, 2, 0), LayerCost("unary", 7, 5, 0, 1)]


def test_a_forward_is_counted_layer_by_layer():
    work = forward_work(COSTS, points=[100, 20], neighbors=[16, 8], batch=2)
    assert work.operations == 2 * 10 * 200 + 2 * 7 * 40
    assert work.gathered == 4 * 2 * 200 * 16
    assert work.passed == 4 * 3 * 200 + 4 * 5 * 40


def test_a_step_has_three_times_the_products_and_gathers_and_two_passes():
    forward = Work(1.0, 10.0, 100.0)
    parts = network_work(forward, parameters=5)
    step = [parts["forward"], parts["backward"]]
    assert sum(part.operations for part in step) == 3
    assert sum(part.gathered for part in step) == 30
    assert sum(part.passed for part in step) == 200
    assert parts["optimizer"].passed == 5 * 4 * 7


def test_the_floor_adds_what_each_ceiling_allows():
    rates = {"product": 2.0, "gather": 5.0, "copy": 10.0}
    assert Work(4.0, 10.0, 30.0).floor(rates) == pytest.approx(2 + 2 + 3)


def test_the_reference_network_has_its_parameters():
    model = ModelSpec.model_validate({"stages": as_spec(STAGES)})
    assert count_parameters(model, FEATURES, CLASSES) == 1_237_615
