"""The decoder layer: golden vectors, equivariance, masks, errors."""

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from tests.contracts import restore, snapshot
from tests.oracles_equivariant import (
    GROUPS,
    JAX,
    KINDS,
    LIMITS,
    attention,
    call,
    gelu,
    linear,
    numpy_of,
    shake,
)
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import (
    EquivariantMultiHeadAttention,
    EquivariantTransformerDecoderLayer,
)

SLOW = "no operation that others do not run; eager JAX takes half a minute"
GOLDEN = Path(__file__).parents[3] / "golden"


def make(name="C4", multiplicity=4, **settings):
    given = {"num_heads": 2, "dim_feedforward": 20, "dropout": 0.0, **settings}
    return EquivariantTransformerDecoderLayer((name, multiplicity), **given)


def draw(layer, queries=5, tokens=7, seed=4):
    rng = np.random.default_rng(seed)
    inputs = {
        "tgt": rng.normal(size=(2, queries, layer.in_rep.size)),
        "memory": rng.normal(size=(2, tokens, layer.in_rep.size)),
    }
    if layer.position_units:
        inputs["tgt_positions"] = rng.uniform(-2, 2, (2, queries, 3))
        inputs["memory_positions"] = rng.uniform(-2, 2, (2, tokens, 3))
    if layer._given["self_attn"] == "local":
        rows = rng.integers(-1, queries, (2, queries, 3)).astype("int32")
        inputs["tgt_neighbors"] = rows
    if layer._given["multihead_attn"] == "local":
        rows = rng.integers(-1, tokens, (2, queries, 4)).astype("int32")
        inputs["memory_neighbors"] = rows
    return inputs


def rotate(layer, inputs, element):
    rotated = dict(inputs)
    rho, matrix = layer.in_rep.rho(element), layer.group.matrices[element]
    for name in ("tgt", "memory"):
        rotated[name] = inputs[name] @ rho.T
    for name in ("tgt_positions", "memory_positions"):
        if name in inputs:
            rotated[name] = inputs[name] @ matrix.T
    return rotated


def worst(layer, inputs, **more):
    """Return the largest error of equivariance, relative to the largest output.

    Under a turn and a mirror that generate the group, dropout drawing the same.
    """
    call(layer, inputs)
    state = snapshot(layer)
    expected = call(layer, inputs, **more)
    errors = []
    group = layer.group
    for element in {1 % group.order, group.rotations % group.order}:
        restore(layer, state)
        result = call(layer, rotate(layer, inputs, element), **more)
        errors.append(np.abs(result - expected @ layer.in_rep.rho(element).T).max())
    return max(errors) / np.abs(expected).max()


@pytest.mark.parametrize("form", ["pre", "post"])
def test_reproduces_the_golden_vectors(form):
    golden = np.load(GOLDEN / f"sym_c4_{form}.npz")
    layer = make(
        multiplicity=8, num_heads=4, dim_feedforward=64, norm_first=form == "pre"
    )
    layer.build(golden["tgt"].shape, golden["memory"].shape)
    for part, name in ((layer.self_attn, "sa"), (layer.multihead_attn, "ca")):
        for side in ("in", "out"):
            getattr(part, f"{side}_kernel").assign(golden[f"{name}_{side}_kernel"])
            getattr(part, f"{side}_bias").assign(golden[f"{name}_{side}_bias"])
    for part, name in ((layer.linear1, "l1"), (layer.linear2, "l2")):
        part.kernel.assign(golden[f"{name}_kernel"])
        part.bias.assign(golden[f"{name}_bias"])
    for number in (1, 2, 3):
        scales = golden[f"n{number}_scale_dof"].reshape(8, 3).T
        getattr(layer, f"norm{number}").scale.assign(scales)
    result = call(layer, {name: golden[name] for name in ("tgt", "memory")})
    np.testing.assert_allclose(result, golden["out"], rtol=0, atol=2e-5)
    for element in range(4):
        np.testing.assert_array_equal(layer.in_rep.rho(element), golden["rho"][element])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "norm_first", "kind"),
    [
        *itertools.product(["C4"], ["rmsnorm", "layernorm"], [True, False], KINDS[:1]),
        *((name, "rmsnorm", True, KINDS[-1]) for name in GROUPS),
        *((name, "layernorm", False, KINDS[-1]) for name in GROUPS),
    ],
)
def test_commutes_with_the_group_in_training_too(name, norm, norm_first, kind):
    layer = make(
        name,
        dropout=0.3,
        norm_module=norm,
        norm_first=norm_first,
        seed=3,
        dtype=kind,
    )
    inputs = draw(layer)
    call(layer, inputs)
    shake(layer)
    assert worst(layer, inputs, training=True) <= LIMITS[kind]
    dropped = call(layer, inputs, training=True)
    assert np.abs(dropped - call(layer, inputs)).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attentions"), [("C8", ("local", "full")), ("D4", ("full", "local"))]
)
def test_positions_and_neighbors_rotate_with_the_field(name, attentions):
    kind = KINDS[-1]
    layer = make(
        name,
        self_attn=attentions[0],
        multihead_attn=attentions[1],
        position_units=5,
        dtype=kind,
    )
    inputs = draw(layer)
    assert worst(layer, inputs) <= LIMITS[kind]
    assert layer.check_equivariance(samples=1) < 1e-4
    # Orientation matters: features alone rotated, or positions alone.
    plain, rotated = call(layer, inputs), rotate(layer, inputs, 1)
    for names in (("tgt", "memory"), ("tgt_positions", "memory_positions")):
        mixed = {**inputs, **{one: rotated[one] for one in names}}
        back = call(layer, mixed)
        assert np.abs(back - plain).max() > 1e-2
        assert np.abs(back - plain @ layer.in_rep.rho(1).T).max() > 1e-2


def test_matches_loops_with_neighbors_masks_and_positions():
    name = "D3"
    layer = make(
        name, self_attn="local", position_units=3, position_scale=2.0, norm_first=False
    )
    inputs = draw(layer)
    call(layer, inputs)
    for part in (layer.self_attn, layer.multihead_attn, layer.linear1, layer.linear2):
        shake(part)
    rng = np.random.default_rng(8)
    masks = {
        "tgt_mask": rng.random((5, 5)) < 0.7,
        "memory_mask": rng.random((2, 5, 7)) < 0.6,
        "memory_key_padding_mask": rng.random((2, 7)) < 0.8,
    }
    masks["memory_mask"][0, 2] = False
    result = call(layer, {**inputs, **masks}, tgt_is_causal=True)
    for field in range(2):
        x, memory = inputs["tgt"][field], inputs["memory"][field]
        here = inputs["tgt_positions"][field]
        causal = masks["tgt_mask"] & np.tri(5, dtype=bool)
        listed = inputs["tgt_neighbors"][field]
        change = attention(layer.self_attn, x, x, name, causal, (here, here), listed)
        x = normalized(x + change)
        mask = masks["memory_mask"][field] & masks["memory_key_padding_mask"][field]
        places = here, inputs["memory_positions"][field]
        change = attention(layer.multihead_attn, x, memory, name, mask, places)
        x = normalized(x + change)
        one, two = layer.linear1, layer.linear2
        hidden = gelu(linear(x, numpy_of(one.kernel), numpy_of(one.bias), name))
        change = linear(hidden, numpy_of(two.kernel), numpy_of(two.bias), name)
        expected = normalized(x + change)
        np.testing.assert_allclose(result[field], expected, rtol=0, atol=2e-5)


def normalized(x):
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)


@pytest.mark.slow
def test_stays_equivariant_through_training_and_saving(tmp_path):
    layer = make("D2", dropout=0.1, position_units=4)
    inputs = {key: value.astype("float32") for key, value in draw(layer).items()}
    ports = {
        key: keras.Input(value.shape[1:], name=key) for key, value in inputs.items()
    }
    model = keras.Model(ports, layer(**ports))
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.05)
    optimizer.build(model.trainable_variables)  # or the step is traced twice
    model.compile(optimizer, loss="mse", jit_compile=False)
    target = np.random.default_rng(0).normal(size=inputs["tgt"].shape)
    losses = [float(model.train_on_batch(inputs, target)) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    assert worst(layer, inputs) <= 1e-5
    expected = call(layer, inputs)
    model.save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras", safe_mode=True)
    layer = next(x for x in loaded.layers if type(x) is type(layer))
    assert worst(layer, inputs) <= 1e-5
    np.testing.assert_allclose(call(layer, inputs), expected, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("attended", ["full", "local"])
def test_masked_memory_has_no_effect(attended):
    layer = make(multihead_attn=attended, position_units=3)
    inputs = draw(layer)
    keep = np.ones((2, 7), bool)
    keep[:, 4:] = False
    keep[1] = False
    masks = {"memory_key_padding_mask": keep}
    expected = call(layer, {**inputs, **masks})
    assert np.isfinite(expected).all()
    for garbage in (np.nan, np.inf, 1e30):
        dirty = {**inputs, "memory": inputs["memory"].copy()}
        dirty["memory"][~keep] = garbage
        dirty["memory_positions"] = inputs["memory_positions"].copy()
        dirty["memory_positions"][~keep] = garbage
        np.testing.assert_array_equal(call(layer, {**dirty, **masks}), expected)
    short = {name: value[:1] for name, value in inputs.items()}
    for name in ("memory", "memory_positions"):
        short[name] = short[name][:, :4]
    if attended == "full":
        truncated = call(layer, short)
    else:
        rows = short["memory_neighbors"]
        truncated = call(layer, {**short, "memory_neighbors": np.minimum(rows, 4)})
    np.testing.assert_allclose(truncated, expected[:1], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("attended", ["full"] if JAX else ["full", "local"])
@pytest.mark.parametrize("garbage", [np.nan] if JAX else [np.nan, np.inf])
def test_hidden_tokens_do_not_affect_queries(garbage, attended):
    layer = make(self_attn=attended, multihead_attn=attended, position_units=3)
    inputs = draw(layer)
    if attended == "local":
        listed = np.arange(7, dtype="int32")[None, None].repeat(2, 0).repeat(5, 1)
        inputs.update(tgt_neighbors=listed[..., :5], memory_neighbors=listed)
    mask = np.random.default_rng(0).random((2, 5, 7)) < 0.6
    mask[:, :, 2] = [True, False, True, False, False]
    mask[:, :, 5] = False
    masks = {"memory_mask": mask}
    expected = call(layer, {**inputs, **masks}, tgt_is_causal=True)
    for name, token in (("memory", 2), ("memory_positions", 2), ("memory", 5)):
        dirty = {**inputs, **masks, name: inputs[name].copy()}
        dirty[name][:, token] = garbage
        result = call(layer, dirty, tgt_is_causal=True)
        seen = mask[0, :, token]
        np.testing.assert_allclose(result[:, ~seen], expected[:, ~seen], atol=1e-6)
        assert np.isnan(result[:, seen]).any(axis=-1).all()
    dirty = {**inputs, **masks, "tgt": inputs["tgt"].copy()}
    dirty["tgt"][:, 3] = garbage
    result = call(layer, dirty, tgt_is_causal=True)
    np.testing.assert_allclose(result[:, :3], expected[:, :3], rtol=0, atol=1e-6)
    assert np.isnan(result[:, 3:]).any(axis=-1).all()


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason=SLOW)
def test_the_check_takes_positions_in_the_plane():
    layer = make(position_units=3)
    inputs = draw(layer)
    for name in ("tgt_positions", "memory_positions"):
        inputs[name] = inputs[name][..., :2]
    call(layer, inputs)
    assert 0 < layer.check_equivariance(samples=2) < 1e-4


def test_true_means_attend():
    layer = make(self_attn="none")
    inputs = draw(layer)
    mask = np.zeros((5, 7), bool)
    mask[:, 3] = True
    result = call(layer, {**inputs, "memory_mask": mask})
    lone = {**inputs, "memory": inputs["memory"][:, 3:4]}
    np.testing.assert_allclose(result, call(layer, lone), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("side", ["tgt", "memory"])
def test_causal_hints_are_applied(side):
    layer = make()
    inputs = draw(layer, queries=6, tokens=6)
    hint = {f"{side}_is_causal": True}
    tri = {f"{side}_mask": np.tri(6, dtype=bool)}
    result = call(layer, inputs, **hint)
    assert np.abs(result - call(layer, inputs)).max() > 1e-2
    np.testing.assert_allclose(result, call(layer, {**inputs, **tri}), atol=1e-6)
    later = {**inputs, side: inputs[side].copy()}
    later[side][:, 4:] += 1
    np.testing.assert_allclose(
        call(layer, later, **hint)[:, :4], result[:, :4], rtol=0, atol=1e-6
    )


@pytest.mark.slow
def test_an_invalid_position_takes_the_encoding_away():
    layer = make(self_attn="none", position_units=3)
    inputs = draw(layer)
    mask = np.ones((2, 7), bool)
    mask[:, 2] = False
    given = {**inputs, "memory_position_mask": mask}
    expected = call(layer, given)
    assert np.abs(expected - call(layer, inputs)).max() > 1e-3
    moved = {**given, "memory_positions": inputs["memory_positions"].copy()}
    moved["memory_positions"][:, 2] = np.nan
    np.testing.assert_array_equal(call(layer, moved), expected)


@pytest.mark.slow
def test_other_attention_may_be_given():
    built = make(seed=1)
    own = [EquivariantMultiHeadAttention(("C4", 4), 2, name=name) for name in "ab"]
    given = make(self_attn=own[0], multihead_attn=Plain(own[1]))
    inputs = draw(built)
    call(built, inputs)
    call(given, inputs)
    for name in ("norm1", "norm2", "norm3", "linear1", "linear2"):
        getattr(given, name).set_weights(getattr(built, name).get_weights())
    own[0].set_weights(built.self_attn.get_weights())
    own[1].set_weights(built.multihead_attn.get_weights())
    mask = {"memory_key_padding_mask": np.arange(7)[None].repeat(2, 0) < 4}
    for more in ({}, mask):
        np.testing.assert_allclose(
            call(given, {**inputs, **more}), call(built, {**inputs, **more}), atol=1e-5
        )
    again = EquivariantTransformerDecoderLayer.from_config(given.get_config())
    assert again.get_config() == given.get_config()


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason=SLOW)
@pytest.mark.parametrize("foreign", [True, False])
def test_given_attention_is_trained_and_saved(foreign, tmp_path):
    own = EquivariantMultiHeadAttention(("C4", 4), 2)
    layer = make(self_attn="none", multihead_attn=Plain(own) if foreign else own)
    inputs = {name: value.astype("float32") for name, value in draw(layer).items()}
    ports = [keras.Input(value.shape[1:]) for value in inputs.values()]
    model = keras.Model(ports, layer(*ports))
    given = [ops.convert_to_numpy(weight) for weight in own.weights]
    assert len(given) == 4
    model.compile("adam", loss="mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)  # or the step is traced twice
    model.train_on_batch(list(inputs.values()), inputs["tgt"])
    for weight, before in zip(own.weights, given, strict=True):
        if "in_bias" not in weight.path:
            assert np.abs(ops.convert_to_numpy(weight) - before).max() > 1e-4
    expected = call(layer, inputs)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    again = next(one for one in loaded.layers if type(one) is type(layer))
    np.testing.assert_allclose(call(again, inputs), expected, rtol=0, atol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Plain(keras.layers.Layer):
    """A given attention that is called on fields, not on spectra."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = (
            keras.saving.deserialize_keras_object(inner)
            if isinstance(inner, dict)
            else inner
        )

    def build(self, *shapes):
        pass

    def call(self, query, memory, key_mask=None, training=False):
        return self.inner(query, memory, key_mask=key_mask, training=training)

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}


class Broken(Plain):
    def call(self, query, memory, key_mask=None, training=False):
        return self.inner(query, memory) * ops.arange(16, dtype=query.dtype)


@pytest.mark.slow
def test_the_check_finds_attention_that_does_not_commute():
    inner = EquivariantMultiHeadAttention(("C4", 4), 2)
    layer = make(multihead_attn=Broken(inner))
    with pytest.raises(DeepLearningException, match=r"is not equivariant under"):
        layer.check_equivariance()
    assert 0 <= make().check_equivariance(samples=2) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tgt_mask", (5, 5)),
        ("memory_mask", (5, 7)),
        ("tgt_key_padding_mask", (2, 5)),
        ("memory_key_padding_mask", (2, 7)),
        ("tgt_position_mask", (2, 5)),
        ("memory_position_mask", (2, 7)),
    ],
)
def test_float_masks_are_refused(name, shape):
    layer = make()
    inputs = draw(layer)
    with pytest.raises(DeepLearningException, match=rf"`{name}` must be bool, True"):
        call(layer, {**inputs, name: np.zeros(shape)})


@pytest.mark.parametrize(
    ("match", "settings"),
    [
        (r"`num_heads` must divide the multiplicity 4", {"num_heads": 3}),
        (r"`dim_feedforward` must be a whole number", {"dim_feedforward": 0}),
        (r"`dim_feedforward` must be a whole number", {"dim_feedforward": 2.5}),
        (r"`group` must be trivial", {"name": "K4"}),
        (r"`norm_module` must be one of", {"norm_module": "batchnorm"}),
        (r"`self_attn` must be one of full, local, none", {"self_attn": "global"}),
        (r"`dropout` must be in", {"dropout": 1.0}),
        (r"`layer_norm_eps` must be positive", {"layer_norm_eps": 0.0}),
        (r"`init_scheme` must be one of", {"init_scheme": "lecun"}),
        (r"`position_units` must be a whole number", {"position_units": 1.5}),
        (r"`position_scale` must be positive", {"position_scale": 0}),
    ],
)
def test_errors_name_the_argument(match, settings):
    with pytest.raises(DeepLearningException, match=match):
        make(**settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("match", "settings", "changes"),
    [
        (r"`tgt` must have 16 channels", {}, {"tgt": np.ones((2, 5, 15))}),
        (r"`memory` must have 16 channels", {}, {"memory": np.ones((2, 7, 8))}),
        (
            r"`tgt_neighbors` must be given where `self_attn` is local",
            {},
            {"tgt_neighbors": np.zeros((2, 5, 2), "int32")},
        ),
        (r"positions must not be given", {}, {"tgt_positions": np.ones((2, 5, 3))}),
        (r"`tgt_mask` must have", {}, {"tgt_mask": np.ones(5, bool)}),
        (r"`memory_mask` must end in 5 x 7", {}, {"memory_mask": np.ones((5, 6)) > 0}),
        (
            r"`memory_key_padding_mask` must end in 7",
            {},
            {"memory_key_padding_mask": np.ones((2, 5), bool)},
        ),
    ],
)
def test_errors_of_a_call_name_the_argument(match, settings, changes):
    layer = make(**settings)
    inputs = draw(layer)
    with pytest.raises(DeepLearningException, match=match):
        call(layer, {**inputs, **changes})
    if not layer.built:
        call(layer, inputs)
    with pytest.raises(DeepLearningException, match=match):
        call(layer, {**inputs, **changes})


def test_missing_positions_are_named():
    layer = make(position_units=2)
    inputs = draw(layer)
    del inputs["memory_positions"]
    with pytest.raises(DeepLearningException, match=r"`memory_positions` is missing"):
        call(layer, inputs)


@pytest.mark.slow
def test_masks_by_head_have_the_form_of_pytorch():
    layer = make()
    inputs = draw(layer)
    rng = np.random.default_rng(6)
    masks = {"tgt_mask": rng.random((2, 2, 5, 5)) < 0.7}
    masks["memory_mask"] = rng.random((2, 2, 5, 7)) < 0.7
    flat = {name: mask.reshape(4, *mask.shape[2:]) for name, mask in masks.items()}
    result = call(layer, {**inputs, **flat})
    # One field at a time, and heads that share a mask: the known forms.
    for field in range(2):
        own = {name: value[field : field + 1] for name, value in inputs.items()}
        same = {name: mask[field, :1].repeat(2, 0) for name, mask in masks.items()}
        shared = {name: mask[field, :1] for name, mask in masks.items()}
        np.testing.assert_allclose(
            call(layer, {**own, **same}), call(layer, {**own, **shared}), atol=1e-6
        )
        both = {name: mask[field] for name, mask in masks.items()}
        np.testing.assert_allclose(
            call(layer, {**own, **both}), result[field : field + 1], atol=1e-5
        )
    with pytest.raises(DeepLearningException, match=r"B = 2 and H = 2 heads.*\(3, 5"):
        call(layer, {**inputs, "tgt_mask": np.ones((3, 5, 5), bool)})


@pytest.mark.slow
def test_no_init_scheme_is_the_default():
    first, second = make(init_scheme=None), make()
    for layer in (first, second):
        keras.utils.set_random_seed(1)
        call(layer, draw(layer))
    assert first.get_config()["init_scheme"] is None
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(numpy_of(one), numpy_of(other))
