"""Grouped-query attention: the formula, every mask, masked values."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.contracts import (
    MODES,
    assert_finite,
    assert_same,
    gradients,
    model_of,
    run,
    slow_but,
)
from tests.oracles_attention import gqa_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import GroupedQueryAttentionLayer

BACKEND = keras.backend.backend()
DOUBLE = "float64" if BACKEND == "tensorflow" else "float32"
EXACT = 1e-12 if DOUBLE == "float64" else 1e-5
QUERIES, KEYS, WIDTH = 5, 7, 6
HEADS = {"grouped": (4, 2), "multi-head": (4, 4), "multi-query": (4, 1), "one": (1, 1)}
MASKS = [
    (),
    ("query_mask",),
    ("value_mask",),
    ("key_mask",),
    ("attention_mask",),
    ("use_causal_mask",),
    ("query_mask", "value_mask", "key_mask", "attention_mask", "use_causal_mask"),
]


def make(heads=(4, 2), build=True, **options):
    """Make a layer of head size 4 with random weights and biases.

    Keras rounds ``1 / sqrt(head_dim)`` to float32; that of 4 is exact.
    """
    layer = GroupedQueryAttentionLayer(4, *heads, **options)
    if build:
        layer.build((None, QUERIES, WIDTH), (None, KEYS, WIDTH))
        rng = np.random.default_rng(0)
        for weight in layer.trainable_weights:
            weight.assign(rng.normal(size=weight.shape))
    return layer


@pytest.fixture
def tokens():
    rng = np.random.default_rng(1)
    return {
        "query": rng.normal(size=(2, QUERIES, WIDTH)).astype("float32"),
        "value": rng.normal(size=(2, KEYS, WIDTH)).astype("float32"),
        "key": rng.normal(size=(2, KEYS, WIDTH)).astype("float32"),
    }


@pytest.fixture
def masks():
    rng = np.random.default_rng(2)
    attention = rng.random((2, QUERIES, KEYS)) < 0.6
    attention[0, 1] = False
    return {
        "query_mask": np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]], bool),
        "value_mask": np.array([[0, 1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1]], bool),
        "key_mask": np.array([[1, 1, 0, 1, 1, 1, 1], [0] * 7], bool),
        "attention_mask": attention,
        "use_causal_mask": True,
    }


def attends_of(given):
    result = np.ones((2, QUERIES, KEYS), bool)
    for b, i, j in np.ndindex(*result.shape):
        result[b, i, j] = (
            given.get("query_mask", np.ones((2, QUERIES)))[b, i]
            and given.get("value_mask", np.ones((2, KEYS)))[b, j]
            and given.get("key_mask", np.ones((2, KEYS)))[b, j]
            and given.get("attention_mask", result)[b, i, j]
            and (j <= i or not given.get("use_causal_mask"))
        )
    return result


def weights_of(layer):
    found = {}
    for weight in layer.trainable_weights:
        *_, projection, name = weight.path.split("/")
        value = ops.convert_to_numpy(weight.value).astype("float64")
        found.setdefault(projection, {})[name] = value
    return found


def expected_of(layer, tokens, attends):
    query, value, key = (tokens[n].astype("float64") for n in ("query", "value", "key"))
    return gqa_by_loops(query, key, value, attends, weights_of(layer))


def numpy_of(result):
    return [ops.convert_to_numpy(value) for value in result]


@pytest.mark.slow
@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("use_bias", [True, False])
def test_matches_the_formula_with_every_number_of_heads(tokens, heads, use_bias):
    layer = make(heads=heads, use_bias=use_bias, dtype=DOUBLE)
    output, scores = layer(**tokens, return_attention_scores=True)
    expected = expected_of(layer, tokens, np.ones((2, QUERIES, KEYS), bool))
    assert_same(numpy_of([output, scores]), expected, EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("names", MASKS, ids=lambda names: "+".join(names) or "none")
@pytest.mark.parametrize("asked", slow_but([True, False], True))
def test_matches_the_formula_under_every_mask(tokens, masks, names, asked):
    given = {name: masks[name] for name in names}
    attends = attends_of(given)
    assert attends.all() == (not names)
    for dtype, tolerance in ((DOUBLE, EXACT), ("float32", 1e-5)):
        layer = make(dtype=dtype)
        result = layer(**tokens, **given, return_attention_scores=asked)
        result = numpy_of(result if asked else [result])
        expected = expected_of(layer, tokens, attends)[: len(result)]
        assert_same(result, expected, tolerance)
        if asked:
            cut = np.broadcast_to(~attends[:, None], result[1].shape)
            assert not result[1][cut].any()


def test_values_are_the_keys_where_none_are_given(tokens):
    layer = make(dtype=DOUBLE)
    result = run(layer, (tokens["query"], tokens["value"]))
    tokens["key"] = tokens["value"]
    attends = np.ones((2, QUERIES, KEYS), bool)
    assert_same(result, expected_of(layer, tokens, attends)[0], EXACT)


def test_a_query_with_nothing_to_attend_to_has_a_zero_context(tokens, masks):
    attention_mask = masks["attention_mask"]
    layer = make()
    plain = layer(**tokens, attention_mask=attention_mask)
    output, scores = layer(
        **tokens, attention_mask=attention_mask, return_attention_scores=True
    )
    plain, output, scores = numpy_of([plain, output, scores])
    assert not attention_mask[0, 1].any()
    np.testing.assert_array_equal(scores[0, :, 1], 0)
    bias = weights_of(layer)["attention_output"]["bias"]
    np.testing.assert_allclose(plain[0, 1], bias, rtol=1e-6)
    assert_same(plain, output, 1e-6)
    without = make(use_bias=False)(**tokens, attention_mask=attention_mask)
    np.testing.assert_array_equal(ops.convert_to_numpy(without)[0, 1], 0)


@pytest.mark.parametrize("heads", [4, 1])
def test_equals_multi_head_attention_with_repeated_keys(tokens, masks, heads):
    layer = make(heads=(4, heads))
    twin = keras.layers.MultiHeadAttention(num_heads=4, key_dim=4)
    twin.build((None, QUERIES, WIDTH), (None, KEYS, WIDTH))
    weights = weights_of(layer)
    for weight in twin.trainable_weights:
        *_, projection, name = weight.path.split("/")
        value = weights[projection][name]
        if projection in ("key", "value"):
            value = np.repeat(value, 4 // heads, axis=-2)
        weight.assign(value)
    mask = masks["attention_mask"]
    mask[0, 1] = True
    expected = twin(**tokens, attention_mask=mask, return_attention_scores=True)
    received = layer(**tokens, attention_mask=mask, return_attention_scores=True)
    assert_same(numpy_of(received), numpy_of(expected), 1e-5)


@pytest.mark.parametrize(
    ("garbage", "mode"),
    [
        *((garbage, "eager") for garbage in (np.nan, np.inf, -1e30)),
        *(pytest.param(np.nan, mode, marks=pytest.mark.slow) for mode in MODES[1:]),
    ],
)
def test_what_a_mask_cuts_has_no_effect(tokens, masks, garbage, mode):
    present = {n: masks[n] for n in ("query_mask", "value_mask", "key_mask")}
    present["key_mask"] = present["value_mask"]
    cotangent = np.random.default_rng(4).normal(size=(2, QUERIES, WIDTH))
    cotangent *= present["query_mask"][..., None]
    layer = make()
    clean = gradients(layer, {**tokens, **present}, mode=mode, cotangents=[cotangent])
    dirty = {name: value.copy() for name, value in tokens.items()}
    for name, values in dirty.items():
        values[~present[f"{name}_mask"]] = garbage
    assert not np.array_equal(dirty["value"], tokens["value"])
    found = gradients(layer, {**dirty, **present}, mode=mode, cotangents=[cotangent])
    assert_same(found[0], clean[0], 1e-6)
    for path, slope in clean[1].items():
        assert_same(found[1][path], slope, 1e-5)
    for slope, other in zip(found[2][:3], clean[2][:3], strict=True):
        assert_same(slope, other, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("garbage", [np.nan, np.inf])
@pytest.mark.parametrize("asked", [True, False], ids=["scores", "no scores"])
def test_the_future_has_no_effect_even_if_it_is_not_finite(tokens, garbage, asked):
    def outputs(tokens):
        result = layer(**tokens, use_causal_mask=True, return_attention_scores=asked)
        return ops.convert_to_numpy(result[0] if asked else result)

    layer = make()
    before = outputs(tokens)
    for name in ("value", "key"):
        dirty = {**tokens, name: tokens[name].copy()}
        dirty[name][:, 3] = garbage
        after = outputs(dirty)
        np.testing.assert_allclose(after[:, :3], before[:, :3], rtol=1e-6, atol=1e-6)
        assert np.isnan(after[:, 3:]).all()


def test_a_real_key_does_reach_the_queries(tokens, masks):
    layer = make()
    given = {"attention_mask": masks["attention_mask"]}
    before = run(layer, {**tokens, **given})
    tokens["value"][:, 2] += 1
    moved = np.abs(run(layer, {**tokens, **given}) - before).max(axis=-1) > 1e-4
    np.testing.assert_array_equal(moved, given["attention_mask"][:, :, 2])


def test_masks_may_lack_the_batch_axis(tokens, masks):
    mask = masks["attention_mask"][1]
    layer = make()
    expected = run(layer, {**tokens, "attention_mask": np.stack([mask, mask])})
    for shorter in (mask, mask[None]):
        result = layer(**tokens, attention_mask=shorter)
        np.testing.assert_array_equal(ops.convert_to_numpy(result), expected)


def test_takes_the_masks_that_keras_tensors_carry(tokens, masks):
    layer = make()
    queries, values = tokens["query"].copy(), tokens["value"].copy()
    queries[~masks["query_mask"]] = 0
    values[~masks["value_mask"]] = 0
    masking = keras.layers.Masking()
    carried = layer(masking(queries), masking(values))
    given = layer(
        queries,
        values,
        query_mask=masks["query_mask"],
        value_mask=masks["value_mask"],
    )
    assert_same(*numpy_of([carried, given]), 1e-6)
    blind = ops.convert_to_numpy(layer(queries, values))
    assert np.abs(blind - ops.convert_to_numpy(given)).max() > 1e-2


def test_every_argument_survives_a_saved_model(tokens, tmp_path):
    given = {
        "dropout": 0.25,
        "use_bias": True,
        "flash_attention": False,
        "kernel_initializer": "he_normal",
        "bias_initializer": "ones",
        "kernel_regularizer": keras.regularizers.L2(0.5),
        "bias_regularizer": keras.regularizers.L1(0.25),
        "activity_regularizer": keras.regularizers.L2(0.125),
        "kernel_constraint": keras.constraints.MaxNorm(1.5),
        "bias_constraint": keras.constraints.NonNeg(),
        "seed": 9,
    }
    layer = make(build=False, **given)
    inputs = {name: tokens[name] for name in ("query", "value")}
    model = model_of(layer, inputs)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    found = next(
        layer for layer in loaded.layers if isinstance(layer, type(make(build=False)))
    )
    assert found.get_config() == layer.get_config()
    assert found.flash_attention is False
    assert found.attention.kernel_constraint.max_value == 1.5
    for name, value in given.items():
        kept = layer.get_config()[name]
        if isinstance(value, float | int | bool):
            assert kept == value, name
        else:
            assert kept is not None, name
    bias = weights_of(found)["key"]["bias"]
    np.testing.assert_array_equal(bias, 1)


def test_regularizers_and_constraints_act(tokens):
    layer = make(
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_regularizer=keras.regularizers.L1(0.25),
    )
    layer(tokens["query"], tokens["value"])
    weights = weights_of(layer).values()
    expected = sum(
        0.5 * (w["kernel"] ** 2).sum() + 0.25 * np.abs(w["bias"]).sum() for w in weights
    )
    loss = float(ops.convert_to_numpy(sum(layer.losses)))
    assert loss == pytest.approx(expected, rel=1e-5)
    bound = make(kernel_constraint="non_neg", bias_constraint="non_neg")
    for weight in bound.trainable_weights:
        assert isinstance(weight.constraint, keras.constraints.NonNeg)


def test_drops_scores_in_training_only(tokens):
    layer = make(dropout=0.5, seed=3)
    inputs = (tokens["query"], tokens["value"])
    still = run(layer, inputs)
    assert_same(run(make(), inputs), still, 1e-6)
    assert np.abs(run(layer, inputs, training=True) - still).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_near_single_precision(tokens, masks, policy):
    mixed, layer = make(dtype=policy), make()
    for given in ({}, {"attention_mask": masks["attention_mask"]}):
        expected = numpy_of(layer(**tokens, **given, return_attention_scores=True))
        plain = mixed(**tokens, **given)
        result = mixed(**tokens, **given, return_attention_scores=True)
        assert plain.dtype == result[0].dtype
        assert keras.backend.standardize_dtype(plain.dtype) != "float32"
        for value in (plain, result[0]):
            value = ops.convert_to_numpy(ops.cast(value, "float32"))
            assert_finite(value)
            assert_same(value, expected[0], 0.05)


def test_a_model_may_give_the_scores(tokens):
    layer = make()
    query = keras.Input((QUERIES, WIDTH))
    value = keras.Input((KEYS, WIDTH))
    outputs = layer(query, value, return_attention_scores=True)
    assert outputs[0].shape == (None, QUERIES, WIDTH)
    assert outputs[1].shape == (None, 4, QUERIES, KEYS)
    model = keras.Model([query, value], outputs)
    given = [tokens["query"], tokens["value"]]
    expected = layer(*given, return_attention_scores=True)
    assert_same(numpy_of(model(given)), numpy_of(expected), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "float16", "int32"])
@pytest.mark.parametrize(
    "name", ["attention_mask", "query_mask", "value_mask", "key_mask"]
)
def test_refuses_masks_that_are_not_boolean(tokens, masks, name, kind):
    layer = make()
    mask = masks[name].astype(kind)
    with pytest.raises(DeepLearningException, match=rf"`{name}` must be boolean.*True"):
        layer(**tokens, **{name: mask})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 0}, r"`head_dim` must be a whole number of at least 1.*=0"),
        ({"head_dim": 2.5}, r"`head_dim` must be a whole number"),
        ({"num_query_heads": -4}, r"`num_query_heads` must be .*=-4"),
        ({"num_key_value_heads": 0}, r"`num_key_value_heads` must be .*=0"),
        ({"num_key_value_heads": True}, r"`num_key_value_heads` must be .*=True"),
        ({"num_query_heads": 3}, r"multiple of `num_key_value_heads`.*=3.*=2"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
    ],
)
def test_refuses_arguments_out_of_range(changes, message):
    arguments = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
    with pytest.raises(DeepLearningException, match=message):
        GroupedQueryAttentionLayer(**{**arguments, **changes})


def test_refuses_flash_attention_where_there_is_none(monkeypatch):
    message = r"no dropout" if BACKEND != "tensorflow" else r"has no flash attention"
    with pytest.raises(DeepLearningException, match=message):
        GroupedQueryAttentionLayer(3, 4, 2, flash_attention=True, dropout=0.1)
    monkeypatch.setattr(keras.config, "is_flash_attention_enabled", lambda: True)
    with pytest.raises(DeepLearningException, match=message):
        GroupedQueryAttentionLayer(3, 4, 2, dropout=0.1)
    GroupedQueryAttentionLayer(3, 4, 2, flash_attention=False, dropout=0.1)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="has no flash attention")
def test_keeps_flash_attention_and_does_without_it_for_scores(tokens):
    layer = make(flash_attention=True)
    twin = GroupedQueryAttentionLayer.from_config(layer.get_config())
    assert twin.flash_attention is True
    expected = make()(**tokens, return_attention_scores=True)
    found = layer(**tokens, return_attention_scores=True)
    assert_same(numpy_of(found), numpy_of(expected), 1e-6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3, 4, 6), (2, 7, 6)], r"expected query \(B, T, C\).*\(2, 3, 4, 6\)"),
        ([(2, 6), (2, 7, 6)], r"expected query"),
        ([(2, 5, 6), (2, 7, 4)], r"as many channels"),
        ([(2, 5, 6), (2, 7, 6), (2, 8, 6)], r"the same length"),
    ],
)
def test_refuses_tokens_of_other_shapes(shapes, message):
    layer = make(build=False)
    tokens = [np.zeros(shape, "float32") for shape in shapes]
    with pytest.raises(DeepLearningException, match=message):
        layer(*tokens)


def test_refuses_a_mask_for_each_head(tokens):
    layer = make()
    mask = np.ones((2, 4, QUERIES, KEYS), bool)
    with pytest.raises(DeepLearningException, match=r"`attention_mask` must have the"):
        layer(**tokens, attention_mask=mask)


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("attention_mask", (2, QUERIES, KEYS - 1), "5 x 7"),
        ("query_mask", (2, KEYS), "5"),
        ("value_mask", (2, QUERIES), "7"),
        ("key_mask", (2, QUERIES), "7"),
    ],
)
def test_refuses_masks_of_another_length(tokens, name, shape, wanted):
    layer = make()
    with pytest.raises(DeepLearningException, match=rf"`{name}` must end in {wanted}"):
        layer(**tokens, **{name: np.ones(shape, bool)})
