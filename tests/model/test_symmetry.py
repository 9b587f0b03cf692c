"""Networks that see rotated copies, and heads that attend from every direction."""

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from tests.field_clouds import make_spec
from tests.model.test_network import SHAPES, logits_of, make_batch, make_model
from vl3d_lite.model.layers import (
    CoarseNeighbors,
    EquivariantTransformerDecoderLayer,
    get_group,
)
from vl3d_lite.model.network import build_network
from vl3d_lite.spec.schema.network import ModelSpec
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.training.losses import PointCrossEntropy

HEAD = {
    "type": "equivariant_transformer",
    "multiplicity": 4,
    "heads": 2,
    "dim_feedforward": 24,
    "position_units": 4,
}
BACKBONES = {
    "convolution": {"blocks": ["kpconvx", "kpconvd"], "downsampling": "strided"},
    "attention": {"blocks": ["gva", "gqa"], "upsampling": "interpolated"},
    "head": {"blocks": ["kpconvx"], "decoder": HEAD},
}


def make(backbone, symmetry="none", **changes):
    settings = dict(BACKBONES[backbone])
    if "decoder" in settings and symmetry != "none":
        settings["decoder"] = {**settings["decoder"], "group": symmetry}
    wide = 3 if settings.get("upsampling") else 1
    return make_model(neighbors=wide, symmetry=symmetry, **settings, **changes)


def rotated(batch, matrix):
    """Rotate the fields about their axis; neighbors stay."""
    result = dict(batch)
    for name in ("xyz_0", "xyz_1"):
        result[name] = (batch[name].astype("float64") @ matrix.T).astype("float32")
    return result


def settled(model):
    """Draw batch statistics that change the result."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "moving" in weight.path or "bias" in weight.path:
            shape = weight.shape
            weight.assign(rng.uniform(0.5, 1.5, shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "symmetry"),
    [
        pytest.param("convolution", "C8", marks=pytest.mark.slow),
        ("attention", "D4"),
        pytest.param("head", "C4", marks=pytest.mark.slow),
    ],
)
def test_logits_do_not_change_when_the_cloud_rotates(backbone, symmetry):
    model, shapes = make(backbone, symmetry)
    settled(model)
    batch = near(make_batch(shapes))
    expected = logits_of(model, batch)[:, :40]
    plain = make(backbone)[0]
    settled(plain)
    before = logits_of(plain, batch)[:, :40]
    scale, spread = (np.ptp(x, axis=(0, 1)).max() for x in (expected, before))
    group = get_group(symmetry)
    for element in {1, group.rotations % group.order} - {0}:
        matrix = group.matrices[element]
        result = logits_of(model, rotated(batch, matrix))[:, :40]
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4 * scale)
        assert (result.argmax(-1) == expected.argmax(-1)).mean() >= 0.9999
        moved = logits_of(plain, rotated(batch, matrix))[:, :40]
        assert np.abs(moved - before).max() > 1e-3 * spread


def near(batch):
    """Normal coordinates, close enough for kernels of 2.1 spacings."""
    return {**batch, "xyz_0": 0.5 * batch["xyz_0"], "xyz_1": 0.5 * batch["xyz_1"]}


@pytest.mark.slow
def test_rotations_outside_the_group_change_the_logits():
    model, shapes = make("convolution", "C4")
    batch = near(make_batch(shapes))
    angle = np.deg2rad(30)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    before = logits_of(model, batch)
    moved = np.abs(logits_of(model, rotated(batch, matrix)) - before).max()
    assert moved > 1e-3 * np.abs(before).max()


@pytest.mark.slow
def test_symmetry_holds_in_training_and_after_it(tmp_path):
    model, shapes = make("head", "C4", kpconvx={"groups": 4, "hidden_ratio": 2})
    batch = make_batch(shapes)
    labels = np.where(batch["neighbors_0"][..., 0] < 0, -1, 1).astype("int32")
    labels[:, :20] = 2
    optimizer = keras.optimizers.AdamW(0.01)
    optimizer.build(model.trainable_variables)  # or the step is traced twice
    model.compile(optimizer, loss=PointCrossEntropy(), jit_compile=True)
    losses = [float(model.train_on_batch(batch, labels)) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    expected = logits_of(model, batch)
    again = logits_of(loaded, rotated(batch, get_group("C4").matrices[1]))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(again, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "full", "self_attention": "local", "layers": 2, "dropout": 0.1},
        {"norm": "layernorm", "norm_first": False, "position_units": 0, "group": "D2"},
    ],
    ids=["full", "post-norm"],
)
def test_the_head_learns_and_ignores_padding(changes):
    model, shapes = make_model(["kpconvx"], decoder={**HEAD, **changes})
    batch = make_batch(shapes)
    labels = np.where(batch["neighbors_0"][..., 0] < 0, -1, 1).astype("int32")
    expected = logits_of(model, batch)[:, :40]
    dirty = {name: value.copy() for name, value in batch.items()}
    for name, real in (("features", 40), ("xyz_0", 40), ("xyz_1", 10)):
        dirty[name][:, real:] = np.nan
    for name, bound in (("neighbors_0", 48), ("neighbors_1", 12), ("up_0", 12)):
        dirty[name][dirty[name] < 0] = bound + 5
    result = logits_of(model, dirty)[:, :40]
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)  # or the step is traced twice
    model.compile(optimizer, loss=PointCrossEntropy(), jit_compile=False)
    losses = [float(model.train_on_batch(dirty, labels)) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    for weight in model.trainable_weights:
        assert np.isfinite(keras.ops.convert_to_numpy(weight)).all(), weight.path


@pytest.mark.slow
def test_coarse_tokens_and_their_positions_affect_fine_points():
    model, shapes = make_model(["kpconvx"], decoder=HEAD)
    assert any(
        isinstance(layer, EquivariantTransformerDecoderLayer) for layer in model.layers
    )
    batch = make_batch(shapes)
    before = logits_of(model, batch)
    moved = {**batch, "xyz_1": batch["xyz_1"] * 1.5}
    assert np.abs(logits_of(model, moved) - before).max() > 1e-4


def test_tokens_are_the_neighbors_of_the_parent_of_the_parent():
    rng = np.random.default_rng(0)
    first = rng.integers(-1, 6, (2, 9, 1)).astype("int32")
    second = rng.integers(-1, 4, (2, 6, 3)).astype("int32")
    neighbors = rng.integers(-1, 4, (2, 4, 5)).astype("int32")
    result = np.asarray(CoarseNeighbors()([first, second, neighbors]))
    for field in range(2):
        for point in range(9):
            parent = first[field, point, 0]
            parent = second[field, parent, 0] if parent >= 0 else -1
            expected = neighbors[field, parent] if parent >= 0 else np.full(5, -1)
            np.testing.assert_array_equal(result[field, point], expected)


def test_a_single_stage_attends_to_its_own_points():
    inputs = {
        name: (SHAPES[name][0], np.dtype(SHAPES[name][1]))
        for name in ("features", "xyz_0", "neighbors_0")
    }
    stage = {"points": 48, "channels": 8, "neighbors": 6, "blocks": ["kpconvd"]}
    model = build_network(
        ModelSpec.model_validate({"stages": [stage], "decoder": HEAD}),
        inputs,
        n_classes=3,
        spacings=[0.5],
    )
    full = make_batch({name: SHAPES[name] for name in SHAPES})
    batch = {name: full[name] for name in inputs}
    assert np.isfinite(logits_of(model, batch)).all()


@pytest.mark.slow
def test_mixed_precision_stays_finite():
    model, shapes = make("head", "C4", precision="mixed_float16")
    logits = logits_of(model, make_batch(shapes))
    assert logits.dtype == "float32"
    assert np.isfinite(logits).all()


def validate(changes, **more):
    spec = make_spec().model_dump()
    spec["model"].update(changes)
    return Spec.model_validate({**spec, **more})


@pytest.mark.parametrize(
    ("match", "changes", "more"),
    [
        (
            r"must divide `multiplicity` = 16",
            {"decoder": {**HEAD, "multiplicity": 16, "heads": 3}},
            {},
        ),
        (r"must equal `model.symmetry`", {"decoder": HEAD, "symmetry": "C8"}, {}),
        (
            r"depends on the orientation",
            {"symmetry": "C4"},
            {"features": [{"name": "normal_x"}]},
        ),
    ],
)
def test_incompatible_settings_are_errors(match, changes, more):
    with pytest.raises(ValidationError, match=match):
        validate(changes, **more)


def test_a_field_too_large_for_full_attention_is_an_error():
    stages = [
        {"points": 8192, "channels": 8, "blocks": ["kpconvd"]},
        {"points": 2048, "channels": 8, "blocks": ["kpconvd"]},
    ]
    head = {**HEAD, "attention": "full"}
    with pytest.raises(ValidationError, match=r"full attention takes"):
        ModelSpec.model_validate({"stages": stages, "decoder": head})
