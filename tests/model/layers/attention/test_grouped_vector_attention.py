"""Grouped vector attention: both forms, every option, padding."""

import keras
import numpy as np
import pytest

from tests.contracts import (
    MODE_GROUPS,
    MODES,
    assert_finite,
    assert_same,
    check_garbage,
    gradients,
    run,
    slow_but,
)
from tests.oracles_attention import gva_by_loops, slope_by_differences
from tests.oracles_envelope import gate_of_gva
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.attention.grouped_vector_attention import (
    GroupedVectorAttentionLayer,
)
from vl3d_lite.model.layers.attention.torf_gva import TORFGVALayer

ROWS, PADDED, WIDTH, GROUPS = 9, 2, 6, 2
OPTIONS = {
    "ptv2": {},
    "per channel": {"weights": "channels"},
    "multiplier": {"positional_multiplier": True},
    "no bias": {"positional_bias": False},
    "everything": {"weights": "channels", "positional_multiplier": True, "channels": 4},
    "widening": {"channels": 8},
    "envelope": {"softmax": "envelope", "radius": 2.5},
}
DOUBLE = "float64" if keras.backend.backend() == "tensorflow" else "float32"
# Keras adds 1e-7 to the number of points that it divides by in training.
EXACT = {False: 1e-12, True: 2e-8} if DOUBLE == "float64" else {False: 1e-5, True: 1e-5}


@pytest.fixture
def inputs():
    rng = np.random.default_rng(1)
    coordinates = rng.normal(size=(2, ROWS, 3)).astype("float32")
    features = rng.normal(size=(2, ROWS, WIDTH)).astype("float32")
    neighbors = rng.integers(0, ROWS - PADDED, size=(2, ROWS, 4)).astype("int32")
    neighbors[..., 0] = np.arange(ROWS)
    neighbors[rng.random(neighbors.shape) < 0.25] = -1
    neighbors[:, 0] = (0, -1, ROWS, ROWS + 5)
    neighbors[:, 1] = (1, 2, 3, 4)
    neighbors[:, -PADDED:] = (-1, ROWS, ROWS + 5, -7)
    return [coordinates, features, neighbors]


@pytest.fixture
def real(inputs):
    neighbors = inputs[2]
    return ((neighbors >= 0) & (neighbors < ROWS)).any(-1)


@pytest.fixture(params=slow_but(OPTIONS, "everything", "envelope"))
def options(request):
    return {"groups": GROUPS, "scale": 0.7, **OPTIONS[request.param]}


def randomized(options, inputs, **more):
    """Build a layer and give every weight a value of its own."""
    layer = GroupedVectorAttentionLayer(**options, **more)
    layer(inputs)
    rng = np.random.default_rng(2)
    for weight in layer.weights:
        if weight.dtype.startswith("float"):
            values = 0.6 * rng.normal(size=weight.shape)
            variance = "variance" in weight.name
            weight.assign(np.abs(values) + 0.5 if variance else values)
    return layer


def weights_of(layer):
    return {
        weight.name: keras.ops.convert_to_numpy(weight.value).astype("float64")
        for weight in layer.weights
    }


def expected_of(layer, inputs, training=False):
    arrays = weights_of(layer)
    for name, value in zip(("coordinates", "features"), inputs, strict=False):
        arrays[name] = value.astype("float64")
    return loops_of(layer, inputs, arrays, training)


def loops_of(layer, inputs, arrays, training=False):
    """Return the result of the formula for these weights, coordinates and features."""
    softmax = None
    if layer.softmax == "envelope":
        softmax = gate_of_gva(arrays["z_bias_raw"], layer.radius, *inputs[3:])
    return gva_by_loops(
        arrays["coordinates"],
        arrays["features"],
        inputs[2],
        arrays,
        layer.groups,
        layer.scale,
        training,
        softmax,
    )


@pytest.mark.parametrize("training", [False, True])
def test_matches_the_formula(options, inputs, training):
    layer = randomized(options, inputs, dtype=DOUBLE)
    expected, _ = expected_of(layer, inputs, training)
    assert_same(run(layer, inputs, training), expected, EXACT[training])


@pytest.mark.slow
def test_matches_the_formula_in_single_precision(options, inputs):
    layer = randomized(options, inputs)
    assert_same(run(layer, inputs, True), expected_of(layer, inputs, True)[0], 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_gradients_match_the_formula(options, inputs, training):
    layer = randomized(options, inputs, dtype=DOUBLE)
    rng = np.random.default_rng(3)
    output, _ = expected_of(layer, inputs)
    cotangent = rng.normal(size=output.shape)
    _, by_weight, by_input = gradients(layer, inputs, training, cotangents=[cotangent])
    slopes = {path.split("/")[-1]: slope for path, slope in by_weight.items()}
    slopes["features"] = by_input[1]
    positional = layer.positional_bias or layer.positional_multiplier
    if positional or layer.softmax == "envelope":
        slopes["coordinates"] = by_input[0]
    arrays = weights_of(layer)
    arrays.update(
        coordinates=inputs[0].astype("float64"), features=inputs[1].astype("float64")
    )
    assert len(slopes) > len(layer.trainable_weights)

    def function(arrays):
        return loops_of(layer, inputs, arrays, training)[0]

    tolerance = 1e-5 if DOUBLE == "float64" else 1e-3
    for name, slope in slopes.items():
        directions = {other: np.zeros(array.shape) for other, array in arrays.items()}
        directions[name] = rng.normal(size=slope.shape)
        expected = slope_by_differences(function, arrays, directions, cotangent)
        received = float((slope * directions[name]).sum())
        assert received == pytest.approx(expected, rel=tolerance, abs=tolerance), name


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"positional_bias": False}], ids=str)
def test_the_factored_form_is_the_plain_one(options, inputs, monkeypatch):
    layer = randomized({"groups": GROUPS, **options}, inputs)
    assert layer.factored
    factored = gradients(layer, inputs, training=True)
    monkeypatch.setattr(GroupedVectorAttentionLayer, "factored", False)
    plain = gradients(layer, inputs, training=True)
    assert_same(factored[0], plain[0], 1e-6)
    scale = max(np.abs(slope).max() for slope in plain[1].values())
    for path, slope in plain[1].items():
        np.testing.assert_allclose(factored[1][path], slope, rtol=0, atol=1e-5 * scale)


def test_options_without_a_factored_form_use_the_plain_one():
    assert not GroupedVectorAttentionLayer(weights="channels").factored
    assert not GroupedVectorAttentionLayer(positional_multiplier=True).factored


@pytest.mark.slow
def test_attention_weights_match_the_formula_and_its_sums(options, inputs, real):
    layer = randomized(options, inputs)
    alpha = keras.ops.convert_to_numpy(layer.attention_weights(inputs))
    np.testing.assert_allclose(alpha, expected_of(layer, inputs)[1], atol=1e-6)
    sums = alpha.sum(axis=2)[real]
    if layer.softmax == "envelope":
        assert 0 < sums.min() < sums.max() < 1
    else:
        np.testing.assert_allclose(sums, 1, atol=1e-6)
    missing = (inputs[2] < 0) | (inputs[2] >= ROWS)
    np.testing.assert_array_equal(alpha[missing], 0)


@pytest.mark.slow
def test_per_channel_weights_start_at_the_form_without_them(inputs):
    layer = GroupedVectorAttentionLayer(groups=GROUPS, weights="channels")
    layer(inputs)
    layer.weight_kernel.assign(np.zeros(layer.weight_kernel.shape))
    plain = GroupedVectorAttentionLayer(groups=GROUPS)
    plain(inputs)
    weights = {weight.name: weight for weight in layer.weights}
    for weight in plain.weights:
        weight.assign(weights[weight.name])
    assert_same(run(layer, inputs), run(plain, inputs), 1e-6)


def with_garbage(inputs, real):
    """Add missing neighbors in front; put NaN and 1e9 into padding."""
    coordinates, features, neighbors = inputs
    garbage = np.resize(np.float32([np.nan, 1e9]), (ROWS, 1))
    missing = np.tile(np.int32([-1, ROWS, ROWS + 5]), (2, ROWS, 1))
    return [
        np.where(real[..., None], coordinates, garbage),
        np.where(real[..., None], features, garbage[::-1]),
        np.concatenate([missing, neighbors], axis=-1),
    ]


@pytest.mark.parametrize("training", [False, True])
def test_missing_neighbors_and_padded_points_have_no_effect(
    options, inputs, real, training
):
    layer = randomized(options, inputs)
    check_garbage(layer, inputs, with_garbage(inputs, real), real, training, "eager")


@pytest.mark.slow
@pytest.mark.parametrize("modes", MODE_GROUPS[1:])
@pytest.mark.parametrize("name", ["ptv2", "everything"])
def test_they_have_none_in_compiled_training(name, inputs, real, modes):
    layer = randomized({"groups": GROUPS, **OPTIONS[name]}, inputs)
    dirty = with_garbage(inputs, real)
    for mode in modes:
        check_garbage(layer, inputs, dirty, real, True, mode)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("training", "mode"),
    [
        (False, "eager"),
        (True, "eager"),
        pytest.param(True, MODES[-1], marks=pytest.mark.slow),
    ],
)
def test_appended_padded_points_have_no_effect(inputs, training, mode):
    layer = randomized({"groups": GROUPS}, inputs)
    cotangent = np.random.default_rng(5).normal(size=(2, ROWS, WIDTH))
    wider = np.pad(cotangent, ((0, 0), (0, 3), (0, 0)))
    longer = [
        np.concatenate([value, np.full_like(value[:, :3], np.nan)], axis=1)
        for value in inputs[:2]
    ]
    neighbors = np.where(inputs[2] < ROWS, inputs[2], -1)
    missing = np.full_like(neighbors[:, :3], -1)
    longer.append(np.concatenate([neighbors, missing], axis=1))
    short = gradients(layer, inputs, training, mode, cotangents=[cotangent])
    long = gradients(layer, longer, training, mode, cotangents=[wider])
    assert_same(long[0][:, :ROWS], short[0])
    scale = max(np.abs(slope).max() for slope in short[1].values())
    for path, slope in short[1].items():
        np.testing.assert_allclose(long[1][path], slope, rtol=0, atol=1e-5 * scale)
    for slope, other in zip(short[2][:2], long[2][:2], strict=True):
        assert_same(other[:, :ROWS], slope)
        np.testing.assert_array_equal(other[:, ROWS:], 0)


@pytest.mark.slow
def test_a_point_without_neighbors_gets_zeros(options, inputs, real):
    result = run(randomized(options, inputs), inputs)
    np.testing.assert_array_equal(result[~real], 0)
    assert (result[real] != 0).all()


@pytest.mark.slow
def test_a_batch_without_any_neighbor_is_finite(options, inputs):
    coordinates, features, neighbors = inputs
    layer = randomized(options, inputs)
    empty = [coordinates, features, np.full_like(neighbors, -1)]
    output, by_weight, by_input = gradients(layer, empty, training=True)
    np.testing.assert_array_equal(output, 0)
    assert_finite([*by_weight.values(), by_input[1]])


@pytest.mark.slow
def test_permuting_neighbors_changes_nothing(options, inputs):
    coordinates, features, neighbors = inputs
    layer = randomized(options, inputs)
    order = np.random.default_rng(4).permutation(neighbors.shape[-1])
    permuted = run(layer, [coordinates, features, neighbors[..., order]], True)
    assert_same(permuted, run(layer, inputs, True))


@pytest.mark.slow
def test_permuting_points_permutes_the_result(options, inputs):
    coordinates, features, neighbors = inputs
    layer = randomized(options, inputs)
    order = np.random.default_rng(4).permutation(ROWS)
    present = (neighbors >= 0) & (neighbors < ROWS)
    renamed = np.where(present, np.argsort(order)[neighbors % ROWS], neighbors)
    permuted = [coordinates[:, order], features[:, order], renamed[:, order]]
    result = run(layer, [*permuted[:2], permuted[2].astype("int32")], True)
    assert_same(result, run(layer, inputs, True)[:, order])


@pytest.mark.slow
def test_moving_the_whole_field_changes_nothing(options, inputs):
    layer = randomized(options, inputs)
    moved = [inputs[0] + np.float32([1, -2, 3]), *inputs[1:]]
    assert_same(run(layer, moved), run(layer, inputs))


def test_scale_divides_the_coordinates(inputs):
    coarse = randomized({"groups": GROUPS, "scale": 4.0}, inputs)
    fine = randomized({"groups": GROUPS, "scale": 1.0}, inputs)
    shrunk = [inputs[0] / 4, *inputs[1:]]
    assert_same(run(coarse, inputs), run(fine, shrunk), 1e-6)


@pytest.mark.slow
def test_large_logits_stay_finite(options, inputs):
    layer = randomized(options, inputs)
    layer.logits_kernel.assign(np.full(layer.logits_kernel.shape, 1e4))
    output, by_weight, _ = gradients(layer, inputs)
    assert_finite([output, *by_weight.values()])


@pytest.mark.slow
def test_far_coordinates_keep_their_differences_under_half_precision(inputs):
    far = [inputs[0] * 0.01 + np.float32(100), *inputs[1:]]
    single = randomized({"groups": GROUPS, "scale": 0.01}, far)
    half = randomized({"groups": GROUPS, "scale": 0.01}, far, dtype="mixed_float16")
    assert_same(run(half, far), run(single, far), 1e-2)


@pytest.mark.slow
def test_output_is_in_half_precision_when_asked(options, inputs):
    for policy, expected in {"mixed_float16": "float16", "float32": "float32"}.items():
        layer = GroupedVectorAttentionLayer(**options, dtype=policy)
        result = layer(inputs)
        assert keras.backend.standardize_dtype(result.dtype) == expected
        symbolic = layer([keras.Input(v.shape[1:], dtype=str(v.dtype)) for v in inputs])
        assert symbolic.dtype == expected


def test_dropout_acts_in_training_only(inputs):
    options = {"groups": GROUPS, "dropout": 0.5, "seed": 7, "positional_bias": False}
    layer = randomized(options, inputs)
    undropped = randomized({**options, "dropout": 0.0}, inputs)
    assert_same(run(layer, inputs), run(undropped, inputs), 0)
    assert np.abs(run(layer, inputs, True) - run(undropped, inputs, True)).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but(["ptv2", "everything"], "everything"))
def test_dropout_keeps_the_mean(name, inputs):
    options = {"groups": GROUPS, "dropout": 0.3, "seed": 7, **OPTIONS[name]}
    layer = randomized(options, inputs)
    layer.norm.trainable = False
    many = [np.concatenate([value] * 80) for value in inputs]
    draws = keras.ops.convert_to_numpy(layer(many, training=True))
    draws = draws.reshape(80, *inputs[1].shape[:2], -1)
    spread = np.std(draws, axis=0) / np.sqrt(len(draws))
    error = np.abs(np.mean(draws, axis=0) - run(layer, inputs))
    assert (error <= 5 * spread + 1e-5).all()


def test_matrices_of_one_shape_start_different(inputs):
    layer = GroupedVectorAttentionLayer(groups=GROUPS)
    layer(inputs)
    weights = weights_of(layer)
    assert np.abs(weights["query_kernel"] - weights["key_kernel"]).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"channels": 0}, "channels"),
        ({"groups": 0}, "groups"),
        ({"weights": "heads"}, "weights"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"scale": 0.0}, "scale"),
        ({"momentum": 1.1}, "momentum"),
        ({"softmax": "gated"}, "softmax"),
        ({"softmax": "envelope"}, "radius"),
        ({"softmax": "envelope", "radius": 0.0}, "radius"),
        ({"radius": 1.0}, "radius"),
    ],
    ids=str,
)
def test_refuses_arguments_out_of_range(arguments, named):
    with pytest.raises(DeepLearningException, match=f"`{named}` must be"):
        GroupedVectorAttentionLayer(**arguments)


@pytest.mark.parametrize("channels", [None, 10])
def test_refuses_groups_that_do_not_divide_the_channels(inputs, channels):
    layer = GroupedVectorAttentionLayer(channels=channels, groups=4)
    with pytest.raises(DeepLearningException, match="must divide the channels"):
        layer(inputs)


def test_refuses_other_ranks(inputs):
    with pytest.raises(DeepLearningException, match="expected a list of coordinates"):
        GroupedVectorAttentionLayer(groups=GROUPS)([inputs[0], inputs[1]])
    with pytest.raises(DeepLearningException, match="expected a list of coordinates"):
        GroupedVectorAttentionLayer(groups=GROUPS)([*inputs[:2], inputs[2][0]])


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["groups", "channels"])
def test_contracts_by_the_layer_of_the_contract(inputs, weights, monkeypatch):
    layer = randomized({"groups": GROUPS, "weights": weights}, inputs)
    expected = run(layer, inputs)
    assert type(layer.contraction) is TORFGVALayer
    called = []
    contract = TORFGVALayer.call

    def call(self, parts, *arguments, **options):
        called.append([tuple(part.shape) for part in parts])
        return contract(self, parts, *arguments, **options)

    monkeypatch.setattr(TORFGVALayer, "call", call)
    np.testing.assert_array_equal(run(layer, inputs), expected)
    depth = WIDTH // GROUPS
    samples = [(2 * ROWS, 4, GROUPS), (2 * ROWS, 4, GROUPS, depth)]
    assert called == [samples if weights == "groups" else [*samples, samples[1]]]
