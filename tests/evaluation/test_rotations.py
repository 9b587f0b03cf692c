"""Predictions of a rotated cloud."""

import keras
import numpy as np
import pytest

from tests.field_clouds import make_spec, prepared
from vl3d_lite.dataset.batches import SweepBatches, batch_spec
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.evaluation import rotations
from vl3d_lite.evaluation.rotations import (
    RotatedBatches,
    measure_rotations,
    symmetry_of,
    with_symmetry,
)
from vl3d_lite.model.network import build_network

BLOCKS = {"kpconvx": {"groups": 4, "hidden_ratio": 1}, "gva": {"groups": 4}}
HEAD = {"type": "equivariant_transformer", "group": "C2", "multiplicity": 4, "heads": 2}


@pytest.fixture
def place(monkeypatch):
    """A small cloud and an untrained network that gives it several classes."""
    monkeypatch.setattr(rotations, "OTHER_ANGLES", (30.0,))

    def make(**model):
        spec = make_spec(points=(120, 40), model={**BLOCKS, **model})
        cloud = prepared(spec, n=1500, extent=9.0)
        scaling = FeatureScaling.fit([cloud])
        keras.utils.set_random_seed(2)
        network = build_network(
            spec.model, batch_spec(spec, 2), n_classes=3, spacings=spec.spacings
        )
        for weight in network.get_layer("logits").weights:
            weight.assign(20 * keras.random.normal(weight.shape, seed=1))
        network.get_layer("logits").bias.assign([0, 0, 0])
        return network, cloud, spec, scaling

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [{"symmetry": "D2"}, pytest.param({"decoder": HEAD}, marks=pytest.mark.slow)],
)
def test_points_keep_their_class_with_the_symmetry_and_some_change_without(
    place, model
):
    network, cloud, spec, scaling = place(**model)
    result = measure_rotations(network, cloud, spec, scaling)
    group = model.get("symmetry", "C2")
    assert result.group == group
    assert result.points == cloud.point_counts.sum() == 1500
    own = [row for row in result.rows if row[1]]
    assert len(own) == {"D2": 3, "C2": 1}[group]
    assert all(kept >= 0.9999 for _, _, kept, _ in own)
    assert min(plain for *_, plain in result.rows) < 0.9999
    assert result.rows[-1][:2] == ("30 degrees", False)
    assert result.to_dict()["rotations"][0]["with"] == own[0][2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [{"symmetry": "D2"}, {"symmetry": "C2", "decoder": HEAD}]
)
def test_the_network_without_the_symmetry_has_the_same_weights(place, model):
    network, _, spec, scaling = place(**model)
    twin = with_symmetry(network, spec, len(scaling.names), "none")
    assert len(twin.weights) == len(network.weights)
    assert any("rotated" in layer.name for layer in network.layers)
    for layer in twin.layers:
        assert "rotated" not in layer.name
        given = network.get_layer(layer.name).get_weights() if layer.weights else []
        for own, other in zip(layer.get_weights(), given, strict=True):
            np.testing.assert_array_equal(own, other)


@pytest.mark.slow
def test_a_rotation_changes_coordinates_only(place):
    _, cloud, spec, scaling = place()
    batches = SweepBatches(cloud, spec, scaling, votes=1)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rotated = RotatedBatches(batches, quarter)
    assert len(rotated) == len(batches)
    for (inputs, rows), (other, others) in zip(batches, rotated, strict=True):
        np.testing.assert_array_equal(rows, others)
        for name, value in inputs.items():
            if name.startswith("xyz_"):
                value = np.stack([-value[..., 1], value[..., 0], value[..., 2]], -1)
            np.testing.assert_array_equal(other[name], value)


def test_a_run_without_symmetry_is_compared_with_quarter_turns():
    assert symmetry_of(make_spec()) == "C4"
    assert symmetry_of(make_spec(model={"symmetry": "C8"})) == "C8"
    assert symmetry_of(make_spec(model={"decoder": HEAD})) == "C2"
