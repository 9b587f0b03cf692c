"""Networks with envelope-gated attention: radii, source weights, precision."""

import numpy as np
import pytest

from tests.field_clouds import make_cloud, make_spec
from tests.model.test_network import SHAPES, logits_of, make_batch, make_model
from vl3d_lite.dataset.batches import FieldSource, batch_spec, empty_batch
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.model.layers import EnvelopeGatedAttention, GroupedVectorAttentionLayer
from vl3d_lite.model.network import build_network
from vl3d_lite.spec.schema.network import ModelSpec

SHAPES_OF_WEIGHTED = {
    **SHAPES,
    "up_0": ((48, 1), "int32"),
    "source_weights": ((48, 1), "float32"),
}
BLOCKS = ("envelope", "gva")


def make_gated(weighted=True, **changes):
    """A network of both kinds of gated attention."""
    inputs = None
    if weighted:
        changes["source_weights"] = "trust"
        inputs = {
            name: (shape, np.dtype(kind))
            for name, (shape, kind) in SHAPES_OF_WEIGHTED.items()
        }
    gated = {"softmax": "envelope", "groups": 4}
    return make_model(BLOCKS, gva=gated, inputs=inputs, **changes)[0]


@pytest.fixture
def batch():
    result = make_batch(SHAPES_OF_WEIGHTED)
    # Few of the normal coordinates are within 2.1 spacings else.
    result["xyz_0"] *= 0.5
    result["source_weights"] = np.ones_like(result["source_weights"])
    return result


@pytest.mark.slow
def test_source_weights_of_one_equal_no_source_weights(batch):
    model, bare = make_gated(), make_gated(weighted=False)
    bare.set_weights(model.get_weights())
    expected = logits_of(bare, {k: v for k, v in batch.items() if k in SHAPES})
    np.testing.assert_allclose(logits_of(model, batch), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_source_weights_reach_every_attention(batch):
    model = make_gated()
    before = logits_of(model, batch)
    for layer in model.layers:
        if isinstance(layer, EnvelopeGatedAttention | GroupedVectorAttentionLayer):
            assert len(layer.input) == 4, layer.name
    batch["source_weights"][:, ::2] = 0
    assert np.abs(logits_of(model, batch) - before)[:, :40].max() > 1e-3


@pytest.mark.slow
def test_coarse_points_weigh_the_mean_of_their_children(batch):
    model = make_gated()
    layer = model.get_layer("source_weights_1")
    batch["source_weights"] = np.random.default_rng(3).uniform(0, 1, (2, 48, 1))
    batch["source_weights"] = batch["source_weights"].astype("float32")
    pooled = np.asarray(layer([batch["source_weights"], batch["down_0"]]))
    for b, m in np.ndindex(2, 12):
        rows = batch["down_0"][b, m]
        rows = rows[rows >= 0]
        weights = batch["source_weights"][b, rows, 0]
        expected = weights.mean() if len(rows) else 0
        np.testing.assert_allclose(pooled[b, m, 0], expected, rtol=1e-6)


@pytest.mark.slow
def test_what_padding_holds_does_not_reach_real_points(batch):
    model = make_gated()
    expected = logits_of(model, batch)
    for name in ("features", "xyz_0", "source_weights"):
        batch[name][:, 40:] = np.nan
    received = logits_of(model, batch)
    np.testing.assert_allclose(received[:, :40], expected[:, :40], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_the_source_weights_single(batch, precision):
    model, mixed = make_gated(), make_gated(precision=precision)
    mixed.set_weights(model.get_weights())
    # Fine in float32; float16 rounds them to zero.
    batch["source_weights"][:, ::2] = 1e-9
    logits, expected = logits_of(mixed, batch), logits_of(model, batch)
    assert 0 < np.abs(logits - expected)[:, :40].max() < 0.1 * np.abs(expected).max()
    assert mixed.get_layer("source_weights_1").output.dtype == "float32"


def test_attention_ends_at_the_neighbor_radius_or_the_kernel_radius():
    stages = [
        {"points": points, "channels": 8, "neighbors": 4, "blocks": list(BLOCKS)}
        for points in (48, 12)
    ]
    stages[1]["neighbor_radius"] = 1.7
    model = build_network(
        ModelSpec.model_validate(
            {
                "stages": stages,
                "gva": {"softmax": "envelope"},
                "kpconvx": {"kernel_radius": 2.5},
            }
        ),
        {
            name: (shape, np.dtype(kind))
            for name, (shape, kind) in SHAPES_OF_WEIGHTED.items()
            if name in SHAPES
        },
        n_classes=3,
        spacings=[0.5, 1.0],
    )
    for level, radius in enumerate([1.25, 1.7]):
        assert model.get_layer(f"envelope_{level}_0").radius == radius
        assert model.get_layer(f"gva_{level}_1").radius == radius


def test_the_plain_softmax_beside_an_envelope_block_takes_no_source_weights():
    inputs = {
        name: (shape, np.dtype(kind))
        for name, (shape, kind) in SHAPES_OF_WEIGHTED.items()
    }
    model, _ = make_model(BLOCKS, source_weights="trust", inputs=inputs)
    assert len(model.get_layer("envelope_0_0").input) == 4
    assert len(model.get_layer("gva_0_1").input) == 3


def test_batches_carry_the_weights_of_their_points():
    cloud = make_cloud()
    x = cloud.local[:, 0]
    cloud.attributes["trust"] = (x / 20).astype("float32")
    spec = make_spec(model={"source_weights": "trust", "gva": {"softmax": "envelope"}})
    prepared = prepare_cloud(cloud, spec)
    for cell in (0, 50, 700):
        rows = prepared.cell_of_point == cell
        np.testing.assert_allclose(
            prepared.source_weights[cell], x[rows].mean() / 20, rtol=1e-5
        )
    batch = empty_batch(spec, 2, 2)
    assert batch["source_weights"].shape == (2, 400, 1)
    source = FieldSource(prepared, spec, FeatureScaling.fit([prepared]))
    rows = source.write(batch, 1, np.array([10.0, 10, 2]))
    assert 50 < len(rows) <= 400
    weights = batch["source_weights"][1, :, 0]
    np.testing.assert_array_equal(weights[: len(rows)], prepared.source_weights[rows])
    np.testing.assert_array_equal(weights[len(rows) :], 0)
    assert "source_weights" not in batch_spec(make_spec(), 2)
