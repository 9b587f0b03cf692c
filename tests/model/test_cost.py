"""Parameters by formula, against the network itself."""

import pytest

from tests.contracts import slow_but
from vl3d_lite.dataset.batches import batch_spec
from vl3d_lite.model.cost import BLOCK_COSTS, count_parameters, network_cost
from vl3d_lite.model.network import BLOCKS, build_network
from vl3d_lite.spec.reader import read_spec

CHANGES = {
    "as it is": [],
    "strided": ["model.downsampling=strided"],
    "apple": ["model.kpconvx.order=apple"],
    "apple, strided": ["model.kpconvx.order=apple", "model.downsampling=strided"],
    "deformable": ["model.kpconvx.deformable=true", "model.kpconvx.drop_path=0.1"],
    "a weight a channel": ["model.gva.weights=channels"],
    "multiplier": [
        "model.gva.positional_multiplier=true",
        "model.gva.positional_bias=false",
    ],
    "interpolated": [
        "model.upsampling=interpolated",
        "model.head_channels=7",
        "model.dropout=0.1",
    ],
    "envelope": [
        "model.gva.softmax=envelope",
        "model.stages.1.blocks=[gva, envelope, kpconvx]",
    ],
    "envelope without positions": [
        "model.stages.1.blocks=[envelope]",
        "model.envelope={heads: 2, positional_bias: false}",
    ],
    "global attention": [
        "model.stages.1.blocks=[kpconvd, gqa]",
        "model.gqa={head_dim: 5, num_query_heads: 6, num_key_value_heads: 3}",
    ],
    "global attention without places": [
        "model.stages.1.blocks=[gqa]",
        "model.gqa={position: false, use_bias: false}",
    ],
    "a fading softmax": ["model.gva.softmax=envelope"],
    "no blocks": ["model.stages.1.blocks=[]", "model.stages.0.blocks=[gva]"],
    "rotated copies": ["model.symmetry=C4"],
    "equivariant head": [
        "model.decoder={type: equivariant_transformer, group: C3, multiplicity: 6, "
        "heads: 2}"
    ],
    "equivariant head with all": [
        "model.decoder={type: equivariant_transformer, group: D3, multiplicity: 4, "
        "heads: 2, "
        "layers: 2, norm: layernorm, self_attention: local, dim_feedforward: 50}",
    ],
    "equivariant head without biases": [
        "model.symmetry=D4",
        "model.decoder={type: equivariant_transformer, group: D4, bias: false, "
        "norm: layernorm, position_units: 0}",
    ],
    "other kernels": [
        "model.kpconvx.shell_points=[1, 9]",
        "model.kpconvx.shell_radii=[0, 1]",
        "model.kpconvx.groups=2",
        "model.kpconvx.hidden_ratio=1.5",
    ],
}


@pytest.mark.parametrize("name", slow_but(CHANGES, *list(CHANGES)[::4]))
def test_parameters_are_those_of_the_network(place, name):
    sets = CHANGES[name]
    spec = read_spec(place / "spec.yaml", sets).spec
    network = build_network(
        spec.model, batch_spec(spec, 5), n_classes=4, spacings=spec.spacings
    )
    assert count_parameters(spec.model, 5, 4) == network.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_counted(place, block):
    spec = read_spec(place / "spec.yaml", [f"model.stages.1.blocks=[{block}]"]).spec
    network = build_network(
        spec.model, batch_spec(spec, 5), n_classes=4, spacings=spec.spacings
    )
    assert count_parameters(spec.model, 5, 4) == network.count_params()
    assert set(BLOCK_COSTS) == set(BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    ["envelope.positional_bias=false", "gqa.use_bias=false", "gqa.position=false"],
)
def test_attention_without_a_part_is_counted(place, change):
    block = change.partition(".")[0]
    sets = [f"model.stages.1.blocks=[{block}]", f"model.{change}"]
    spec = read_spec(place / "spec.yaml", sets).spec
    network = build_network(
        spec.model, batch_spec(spec, 5), n_classes=4, spacings=spec.spacings
    )
    assert count_parameters(spec.model, 5, 4) == network.count_params()


def test_every_layer_belongs_to_a_stage(place):
    spec = read_spec(place / "spec.yaml").spec
    stages = {cost.stage for cost in network_cost(spec.model, 5, 4)}
    assert stages == {0, 1}


def test_rotated_copies_multiply_memory_but_not_parameters(place):
    def kept(symmetry):
        spec = read_spec(place / "spec.yaml", [f"model.symmetry={symmetry}"]).spec
        costs = network_cost(spec.model, 5, 4)[:-1]
        return sum(cost.per_point for cost in costs), count_parameters(spec.model, 5, 4)

    plain, rotated = kept("none"), kept("D4")
    assert rotated == (8 * plain[0], plain[1])
