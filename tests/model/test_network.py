"""Networks of every spec: they build, ignore padding, and are saved and loaded."""

import importlib.util
import os
import subprocess
import sys
from typing import get_args

import keras
import numpy as np
import pytest

from tests.conftest import SPEC
from tests.contracts import slow_but
from vl3d_lite.dataset.batches import batch_spec, empty_batch
from vl3d_lite.model.layers import (
    GroupedVectorAttentionLayer,
    KernelGeometryLayer,
    KPConvXLayer,
    NeighborMaxPool,
)
from vl3d_lite.model.network import BLOCKS, DOWNSAMPLING, UPSAMPLING, build_network
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.spec.schema.blocks import GQASpec, Initializer
from vl3d_lite.spec.schema.network import ModelSpec
from vl3d_lite.training.losses import PointCrossEntropy

POINTS = (48, 12)
SHAPES = {
    "features": ((48, 3), "float32"),
    "xyz_0": ((48, 3), "float32"),
    "neighbors_0": ((48, 6), "int32"),
    "down_0": ((12, 5), "int32"),
    "up_0": ((48, 3), "int32"),
    "xyz_1": ((12, 3), "float32"),
    "neighbors_1": ((12, 4), "int32"),
}
LOAD = """
import sys
import keras, numpy as np
import vl3d_lite.model.layers
model = keras.saving.load_model(sys.argv[1])
inputs = dict(np.load(sys.argv[2]))
predict = model.predict_on_batch
if keras.backend.backend() == "jax":  # in one piece: op by op takes half a minute
    import jax
    states = model.trainable_variables, model.non_trainable_variables
    states = [[one.value for one in variables] for variables in states]
    whole = jax.jit(lambda *given: model.stateless_call(*given, training=False)[0])
    predict = lambda inputs: whole(*states, inputs)
np.save(sys.argv[3], predict(inputs))
print(keras.backend.backend())
"""


def make_model(
    blocks=("kpconvx", "gva"),
    precision="float32",
    neighbors=1,
    inputs=None,
    by_stage=None,
    **changes,
):
    """A small network, and the shapes of its inputs.

    `by_stage` names one block for each stage, or one for both, instead of `blocks`.
    """
    own = [[one] for one in by_stage] * (2 // len(by_stage)) if by_stage else None
    stages = [
        {"points": points, "channels": channels, "neighbors": 4, "blocks": list(each)}
        for points, channels, each in zip(
            POINTS, (8, 16), own or [blocks] * 2, strict=True
        )
    ]
    settings = {
        "kpconvx": {"groups": 4, "hidden_ratio": 2, "shell_points": [1, 3, 5]},
        "gva": {"groups": 4},
        "gqa": {"head_dim": 4},
    }
    for name, value in changes.items():
        settings[name] = (
            {**settings.get(name, {}), **value} if name in settings else value
        )
    shapes = {**SHAPES, "up_0": ((48, neighbors), "int32")}
    keras.utils.set_random_seed(5)
    model = build_network(
        ModelSpec.model_validate({"stages": stages, **settings}),
        inputs
        or {name: (shape, np.dtype(kind)) for name, (shape, kind) in shapes.items()},
        n_classes=3,
        spacings=[0.5, 1.0],
        precision=precision,
    )
    return model, shapes


def make_batch(shapes, real=(40, 10)):
    """Two random fields; points after the first `real` ones of a stage are padding."""
    rng = np.random.default_rng(11)
    batch = {}
    for name, (shape, kind) in shapes.items():
        if kind == "float32":
            batch[name] = rng.normal(size=(2, *shape)).astype(kind)
    rows_and_targets = {
        "neighbors_0": (0, 0),
        "neighbors_1": (1, 1),
        "down_0": (1, 0),
        "up_0": (0, 1),
    }
    for name, (level, target) in rows_and_targets.items():
        shape = (2, *shapes[name][0])
        rows = rng.integers(0, real[target], shape).astype("int32")
        rows[rng.random(shape) < 0.25] = -1
        rows[..., 0] = rng.integers(0, real[target], shape[:2])
        if name.startswith("neighbors"):
            rows[..., 0] = np.arange(shape[1])
        rows[:, real[level] :] = -1
        batch[name] = rows
    for name in ("features", "xyz_0"):
        batch[name][:, real[0] :] = 0
    batch["xyz_1"][:, real[1] :] = 0
    return batch


def logits_of(model, batch):
    return keras.ops.convert_to_numpy(model(batch, training=False))


# Tracing a training step takes half a minute: each block and order in one stage, two of
# them compiled. The contract of the layers compares all modes.
LEARNERS = [
    (("kpconvx", "gva"), "vl3d", True),
    (("gqa", "kpconvd"), "vl3d", False),
    (("kpconvd", "kpconvx"), "apple", False),
    (("envelope",), "vl3d", False),
]


def test_every_block_has_its_test():
    assert {block for blocks, _, _ in LEARNERS for block in blocks} == set(BLOCKS)


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "order", "jit"), LEARNERS)
def test_every_block_builds_and_learns(blocks, order, jit):
    model, shapes = make_model(kpconvx={"order": order}, by_stage=blocks)
    batch = make_batch(shapes)
    labels = np.where(batch["neighbors_0"][..., 0] < 0, -1, 1).astype("int32")
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)  # or the step is traced twice
    model.compile(optimizer, loss=PointCrossEntropy(), jit_compile=jit)
    before = logits_of(model, batch)
    assert before.shape == (2, 48, 3)
    weights = [keras.ops.convert_to_numpy(value) for value in model.trainable_weights]
    losses = [float(model.train_on_batch(batch, labels)) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]
    for weight, value in zip(model.trainable_weights, weights, strict=True):
        moved = keras.ops.convert_to_numpy(weight)
        assert np.isfinite(moved).all()
        assert not np.array_equal(moved, value), weight.path


@pytest.mark.slow
@pytest.mark.parametrize("down", DOWNSAMPLING)
@pytest.mark.parametrize("up", slow_but(UPSAMPLING, "nearest"))
@pytest.mark.parametrize("deformable", slow_but([False, True], False))
def test_values_of_padding_do_not_affect_real_points(down, up, deformable):
    model, shapes = make_model(
        downsampling=down,
        upsampling=up,
        neighbors=3 if up == "interpolated" else 1,
        kpconvx={"deformable": deformable},
    )
    clean = make_batch(shapes)
    expected = logits_of(model, clean)
    assert np.abs(expected[:, :40]).max() > 0.1
    dirty = {name: value.copy() for name, value in clean.items()}
    dirty["features"][:, 40:] = np.nan
    dirty["xyz_0"][:, 40:] = 1e9
    dirty["xyz_1"][:, 10:] = np.nan
    bounds = {"neighbors_0": 48, "neighbors_1": 12, "down_0": 48, "up_0": 12}
    for name, bound in bounds.items():
        dirty[name][dirty[name] < 0] = bound + 5
    result = logits_of(model, dirty)
    np.testing.assert_allclose(result[:, :40], expected[:, :40], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_real_neighbor_affects_its_point():
    model, shapes = make_model()
    batch = make_batch(shapes)
    before = logits_of(model, batch)
    batch["features"][:, 0] += 1
    listing = (batch["neighbors_0"] == 0).any(axis=-1)
    listing[:, 0] = False
    assert np.abs(logits_of(model, batch) - before)[listing].max(axis=-1).min() > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_a_field_without_its_padding_gives_the_same_logits(training):
    model, shapes = make_model()
    batch = make_batch(shapes)
    cut = {"down_0": 10, "xyz_1": 10, "neighbors_1": 10}
    dense = {name: value[:, : cut.get(name, 40)] for name, value in batch.items()}
    for name in ("features", "xyz_0"):
        batch[name][:, 40:] = np.nan
    small, _ = make_model(
        inputs={name: (value.shape[1:], value.dtype) for name, value in dense.items()}
    )
    small.set_weights(model.get_weights())
    padded = keras.ops.convert_to_numpy(model(batch, training=training))[:, :40]
    tight = keras.ops.convert_to_numpy(small(dense, training=training))
    np.testing.assert_allclose(padded, tight, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_float32_logits_near_those_of_float32(precision):
    model, shapes = make_model()
    mixed, _ = make_model(precision=precision)
    mixed.set_weights(model.get_weights())
    batch = make_batch(shapes)
    logits = mixed(batch, training=False)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    kinds = {layer.compute_dtype for layer in mixed.layers if "kpconvx" in layer.name}
    assert kinds == {precision.removeprefix("mixed_")}
    logits, expected = keras.ops.convert_to_numpy(logits), logits_of(model, batch)
    assert 0 < np.abs(logits - expected)[:, :40].max() < 0.1 * np.abs(expected).max()
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_global_attention_ignores_padding_and_reaches_across_the_field():
    model, shapes = make_model(["gqa"])
    clean = make_batch(shapes)
    expected = logits_of(model, clean)
    dirty = {name: value.copy() for name, value in clean.items()}
    dirty["features"][:, 40:] = np.nan
    dirty["xyz_0"][:, 40:] = np.inf
    dirty["xyz_1"][:, 10:] = np.nan
    for name, bound in {"neighbors_0": 48, "neighbors_1": 12}.items():
        dirty[name][dirty[name] < 0] = bound + 5
    result = logits_of(model, dirty)
    np.testing.assert_allclose(result[:, :40], expected[:, :40], rtol=0, atol=1e-6)
    clean["features"][:, 0] += 1
    changed = np.abs(logits_of(model, clean) - expected)[:, :40].max(axis=-1)
    assert changed.min() > 1e-6


def test_every_key_of_the_global_attention_reaches_its_layer():
    settings = {
        "head_dim": 3,
        "num_query_heads": 6,
        "num_key_value_heads": 3,
        "position": False,
        "dropout": 0.25,
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": {"name": "l2", "strength": 0.5},
        "bias_regularizer": "l1",
        "activity_regularizer": {"name": "l1_l2", "strength": 0.25},
        "kernel_constraint": {"name": "max_norm", "limit": 1.5},
        "bias_constraint": "non_neg",
        "flash_attention": False,
        "drop_path": 0.125,
    }
    assert set(settings) == set(GQASpec.model_fields)
    model, _ = make_model(["gqa"], gqa=settings)
    layer = model.get_layer("gqa_1_0")
    assert not layer.position
    assert layer.scale == pytest.approx(np.sqrt(12 / np.pi) / 2)
    assert model.get_layer("gqa_1_0_drop_path").rate == 0.125
    config = layer.attention.get_config()
    names = ("head_dim", "num_query_heads", "num_key_value_heads")
    for name in (*names, "dropout", "use_bias", "flash_attention"):
        assert config[name] == settings[name], name
    inner = layer.attention.attention
    kinds = keras.initializers
    assert isinstance(inner.kernel_initializer, kinds.HeNormal)
    assert isinstance(inner.bias_initializer, kinds.Ones)
    penalties = [
        (float(penalty.l1), float(penalty.l2))
        for penalty in (
            inner.kernel_regularizer,
            inner.bias_regularizer,
            inner.activity_regularizer,
        )
    ]
    np.testing.assert_allclose(penalties, [(0, 0.5), (0.01, 0), (0.25, 0.25)])
    assert inner.kernel_constraint.max_value == 1.5
    assert isinstance(inner.bias_constraint, keras.constraints.NonNeg)


@pytest.mark.parametrize("name", get_args(Initializer))
def test_keras_knows_every_initializer_of_the_spec(name):
    initializer = keras.initializers.get(name)
    for shape in ((16, 4, 8), (4, 8), (16,)):
        assert initializer(shape).shape == shape


def test_blocks_of_a_stage_share_one_geometry():
    model, _ = make_model(["kpconvx", "kpconvd", "gva"])
    kinds = [type(layer) for layer in model.layers]
    assert kinds.count(KernelGeometryLayer) == 2
    assert kinds.count(KPConvXLayer) == 4
    assert kinds.count(GroupedVectorAttentionLayer) == 2
    assert kinds.count(NeighborMaxPool) == 1


def test_kernels_grow_with_the_spacing_of_the_stage():
    model, _ = make_model()
    for level, spacing in enumerate([0.5, 1.0]):
        layer = model.get_layer(f"kpconvx_{level}_0")
        assert layer.sigma == pytest.approx(2.1 * spacing)
        assert layer.shell_radii[-1] == pytest.approx(2.1 * spacing)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_one_file_gives_the_same_logits_on_every_backend(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    model, shapes = make_model(
        ["kpconvd", "gva"],
        neighbors=3,
        downsampling="strided",
        upsampling="interpolated",
    )
    batch = make_batch(shapes)
    path, inputs, output = (tmp_path / name for name in ("m.keras", "i.npz", "o.npy"))
    model.save(path)
    np.savez(inputs, **batch)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, path, inputs, output],
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == backend
    expected = logits_of(model, batch)
    np.testing.assert_allclose(np.load(output), expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 0.1


@pytest.mark.slow
def test_groups_of_the_attention_do_not_bind_layers_without_it(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC.replace("channels: 8,", "channels: 12,"))
    settings = [
        "model.kpconvx.groups=8",
        "model.downsampling=strided",
        "model.gva.groups=6",
    ]
    text = (tmp_path / "spec.yaml").read_text()
    text = text.replace("[kpconvx, gva]", "[kpconvd, gva]")
    (tmp_path / "spec.yaml").write_text(text)
    spec = read_spec(tmp_path / "spec.yaml", settings, check_files=False).spec
    model = build_network(
        spec.model, batch_spec(spec, 3), n_classes=3, spacings=spec.spacings
    )
    logits = np.asarray(model(empty_batch(spec, 3, 2), training=False))
    assert logits.shape == (2, 512, 3)
    assert np.isfinite(logits).all()
