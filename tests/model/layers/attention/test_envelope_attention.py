"""EnvelopeGatedAttention, source weights, and continuity at the radius."""

import keras
import numpy as np
import pytest

from tests.contracts import (
    HALF,
    MODES,
    assert_finite,
    assert_same,
    check_garbage,
    check_layer,
    gradients,
    numpy_of,
    run,
    slow_but,
)
from tests.oracles_attention import gva_by_loops, slope_by_differences
from tests.oracles_envelope import envelope_attention_by_loops, gate_of_gva
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import EnvelopeGatedAttention, GroupedVectorAttentionLayer

ROWS, PADDED, WIDTH, HEADS, RADIUS = 9, 2, 6, 2, 2.5
# On PyTorch, matmul and others of Keras make float32 of float64.
DOUBLE = "float64" if keras.backend.backend() == "tensorflow" else "float32"
EXACT = 1e-12 if DOUBLE == "float64" else 1e-5
OPTIONS = {
    "as it comes": {},
    "no positional bias": {"positional_bias": False},
    "widening": {"channels": 8},
}


@pytest.fixture
def inputs():
    """Coordinates, features, neighbors, source weights; two points are padding."""
    rng = np.random.default_rng(1)
    coordinates = rng.normal(size=(2, ROWS, 3)).astype("float32")
    features = rng.normal(size=(2, ROWS, WIDTH)).astype("float32")
    neighbors = rng.integers(0, ROWS - PADDED, size=(2, ROWS, 5)).astype("int32")
    neighbors[..., 0] = np.arange(ROWS)
    neighbors[..., 1:][rng.random((2, ROWS, 4)) < 0.25] = -1
    neighbors[:, 0] = (0, -1, ROWS, ROWS + 5, 3)
    neighbors[:, -PADDED:] = (-1, ROWS, ROWS + 5, -7, -1)
    source = rng.uniform(0.2, 1, size=(2, ROWS)).astype("float32")
    source[:, 3] = 0
    return [coordinates, features, neighbors, source]


@pytest.fixture
def real(inputs):
    return ((inputs[2] >= 0) & (inputs[2] < ROWS)).any(-1)


@pytest.fixture(params=slow_but(OPTIONS, "widening"))
def options(request):
    return OPTIONS[request.param]


def attention(**options):
    return EnvelopeGatedAttention(**{"radius": RADIUS, "heads": HEADS, **options})


def grouped(softmax="envelope", **options):
    radius = RADIUS if softmax == "envelope" else None
    return GroupedVectorAttentionLayer(
        **{"groups": HEADS, "softmax": softmax, "radius": radius, **options}
    )


LAYERS = {"attention": attention, "gva": grouped}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS.keys())
def kind(request):
    return request.param


def randomized(layer, inputs):
    """Build a layer and give every weight a value of its own."""
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
        weight.name: numpy_of(weight.value).astype("float64")
        for weight in layer.weights
    }


def expected_of(layer, inputs, arrays=None):
    """Output and alpha by the formula."""
    arrays = {**weights_of(layer), **(arrays or {})}
    for name, value in zip(("coordinates", "features"), inputs, strict=False):
        arrays.setdefault(name, value.astype("float64"))
    geometry = arrays["coordinates"], arrays["features"], inputs[2], arrays
    source = [arrays.get("source_weights", *inputs[3:])] if inputs[3:] else []
    if isinstance(layer, EnvelopeGatedAttention):
        return envelope_attention_by_loops(*geometry, layer.heads, RADIUS, *source)
    gate = gate_of_gva(arrays["z_bias_raw"], RADIUS, *source)
    return gva_by_loops(*geometry, layer.groups, layer.scale, False, gate)


@pytest.mark.slow
def test_dropout_keeps_the_contract(inputs, tmp_path):
    layer = attention(dropout=0.3, seed=7, positional_bias=False)
    variant = {"modes": (MODES[0], MODES[-1]), "half": HALF[:1]}
    check_layer(layer, inputs[:3], tmp_path, relative=2e-5, random=True, **variant)
    assert np.abs(run(layer, inputs[:3], True) - run(layer, inputs[:3])).max() > 1e-2


@pytest.mark.parametrize("weighted", [False, True])
def test_matches_the_formula(options, inputs, weighted):
    inputs = inputs[: 3 + weighted]
    layer = randomized(attention(**options, dtype=DOUBLE), inputs)
    assert_same(run(layer, inputs), expected_of(layer, inputs)[0], EXACT)


def test_gva_matches_the_formula_with_source_weights(inputs):
    layer = randomized(grouped(weights="channels", dtype=DOUBLE), inputs)
    assert_same(run(layer, inputs), expected_of(layer, inputs)[0], EXACT)


@pytest.mark.slow
def test_attention_weights_match_the_formula(kind, inputs):
    layer = randomized(kind(), inputs)
    alpha = numpy_of(layer.attention_weights(inputs))
    np.testing.assert_allclose(alpha, expected_of(layer, inputs)[1], atol=1e-6)
    missing = (inputs[2] < 0) | (inputs[2] >= ROWS)
    np.testing.assert_array_equal(alpha[missing], 0)
    assert (alpha.sum(axis=2) < 1).all()


@pytest.mark.slow
def test_gradients_match_the_formula(options, inputs):
    layer = randomized(attention(**options, dtype=DOUBLE), inputs)
    rng = np.random.default_rng(3)
    cotangent = rng.normal(size=run(layer, inputs).shape)
    _, by_weight, by_input = gradients(layer, inputs, cotangents=[cotangent])
    slopes = {path.split("/")[-1]: slope for path, slope in by_weight.items()}
    slopes |= dict(
        zip(("coordinates", "features"), by_input[:2], strict=True),
        source_weights=by_input[3],
    )
    assert len(slopes) == len(layer.trainable_weights) + 3
    arrays = weights_of(layer)
    arrays |= {
        name: inputs[place].astype("float64")
        for name, place in (("coordinates", 0), ("features", 1), ("source_weights", 3))
    }
    tolerance = 1e-5 if DOUBLE == "float64" else 1e-3
    for name, slope in slopes.items():
        directions = {other: np.zeros(array.shape) for other, array in arrays.items()}
        directions[name] = rng.normal(size=slope.shape) * (arrays[name] != 0)
        if name == "z_bias_raw" or "bias" in name or "kernel" in name:
            directions[name] = rng.normal(size=slope.shape)
        expected = slope_by_differences(
            lambda arrays: expected_of(layer, inputs, arrays)[0],
            arrays,
            directions,
            cotangent,
        )
        received = float((slope * directions[name]).sum())
        assert received == pytest.approx(expected, rel=tolerance, abs=tolerance), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", slow_but([mode for mode in MODES if mode != "graph"], "eager")
)
def test_missing_neighbors_and_padded_points_have_no_effect(kind, inputs, real, mode):
    layer = randomized(kind(), inputs)
    garbage = np.resize(np.float32([np.nan, 1e9]), (ROWS, 1))
    missing = np.tile(np.int32([-1, ROWS, ROWS + 5]), (2, ROWS, 1))
    dirty = [
        np.where(real[..., None], inputs[0], garbage),
        np.where(real[..., None], inputs[1], garbage[::-1]),
        np.concatenate([missing, inputs[2]], axis=-1),
        np.where(real, inputs[3], garbage[:, 0]),
    ]
    check_garbage(layer, inputs, dirty, real, True, mode)


def test_a_point_without_neighbors_gets_zeros(options, inputs, real):
    result = run(randomized(attention(**options), inputs), inputs)
    np.testing.assert_array_equal(result[~real], 0)
    assert (result[real] != 0).all()


@pytest.mark.slow
def test_a_batch_without_any_neighbor_is_zero_with_finite_slopes(kind, inputs):
    layer = randomized(kind(), inputs)
    empty = [*inputs[:2], np.full_like(inputs[2], -1), inputs[3]]
    output, by_weight, by_input = gradients(layer, empty, training=True)
    np.testing.assert_array_equal(output, 0)
    assert_finite([*by_weight.values(), *(by_input[n] for n in (0, 1, 3))])


@pytest.mark.slow
def test_permuting_neighbors_changes_nothing(kind, inputs):
    layer = randomized(kind(), inputs)
    order = np.random.default_rng(4).permutation(inputs[2].shape[-1])
    permuted = [*inputs[:2], inputs[2][..., order], inputs[3]]
    assert_same(run(layer, permuted), run(layer, inputs))


@pytest.mark.slow
def test_moving_the_whole_field_changes_nothing(kind, inputs):
    layer = randomized(kind(), inputs)
    moved = [inputs[0] + np.float32([1, -2, 3]), *inputs[1:]]
    assert_same(run(layer, moved), run(layer, inputs))


@pytest.mark.slow
def test_a_source_of_weight_zero_equals_an_unlisted_source(kind, inputs):
    layer = randomized(kind(), inputs)
    ones = np.ones_like(inputs[3])
    zeroed = ones.copy()
    zeroed[:, 3] = 0
    unlisted = np.where(inputs[2] == 3, -1, inputs[2])
    one = run(layer, [*inputs[:3], zeroed])
    other = run(layer, [*inputs[:2], unlisted, ones])
    assert_same(one, other, 1e-6)
    assert np.abs(one - run(layer, [*inputs[:3], ones]))[:, 0].max() > 1e-2


@pytest.mark.slow
def test_no_source_weights_are_ones(kind, inputs):
    layer = randomized(kind(), inputs[:3])
    ones = np.ones((2, ROWS, 1), "float32")
    assert_same(run(layer, inputs[:3]), run(layer, [*inputs[:3], ones]), 0)


@pytest.mark.slow
def test_columns_of_source_weights_equal_rows(kind, inputs):
    layer = randomized(kind(), inputs)
    column = [*inputs[:3], inputs[3][..., None]]
    np.testing.assert_array_equal(run(layer, column), run(layer, inputs))


@pytest.mark.slow
def test_far_coordinates_keep_their_differences_under_half_precision(kind, inputs):
    far = [inputs[0] + np.float32(100), *inputs[1:]]
    single = randomized(kind(), far)
    half = randomized(kind(dtype="mixed_float16"), far)
    assert keras.backend.standardize_dtype(half(far).dtype) == "float16"
    assert_same(run(half, far), run(single, far), 2e-2)


def crossing(layer, distances, listed_within):
    """Return outputs of a point while its third neighbor moves away along x.

    The neighbor is listed while its distance is below `listed_within`, as a
    search by radius has it.
    """
    count = len(distances)
    rng = np.random.default_rng(6)
    coordinates = np.tile(rng.normal(size=(1, 4, 3)) / 2, (count, 1, 1))
    coordinates[:, 3] = coordinates[:, 0]
    coordinates[:, 3, 0] += distances
    features = np.tile(rng.normal(size=(1, 4, WIDTH)), (count, 1, 1))
    neighbors = np.tile(np.int32([0, 1, 2, 3]), (count, 4, 1))
    neighbors[distances >= listed_within, 0, 3] = -1
    inputs = [coordinates.astype("float32"), features.astype("float32"), neighbors]
    return run(randomized(layer, inputs), inputs)[:, 0]


@pytest.mark.slow
def test_the_output_does_not_jump_when_a_neighbor_crosses_the_radius(kind):
    distances = RADIUS + np.linspace(-0.05, 0.05, 101)
    outputs = crossing(kind(), distances, listed_within=RADIUS)
    assert np.abs(np.diff(outputs, axis=0)).max() < 1e-6 * np.abs(outputs).max()


@pytest.mark.slow
def test_the_output_depends_on_near_neighbors(kind):
    distances = np.linspace(0.1, 1.0, 50)
    outputs = crossing(kind(), distances * RADIUS, listed_within=RADIUS)
    assert np.abs(outputs[0] - outputs[-1]).max() > 0.05 * np.abs(outputs).max()
    steps = np.abs(np.diff(outputs, axis=0)).max()
    assert steps < 0.2 * np.abs(outputs[0] - outputs[-1]).max()


def test_the_plain_softmax_jumps():
    distances = RADIUS + np.linspace(-0.05, 0.05, 101)
    outputs = crossing(grouped("plain"), distances, listed_within=RADIUS)
    steps = np.abs(np.diff(outputs, axis=0)).max(axis=1)
    assert steps.max() > 0.05 * np.abs(outputs).max()
    assert np.median(steps) < 0.01 * steps.max()
    crossed = np.argmax(steps)
    assert distances[crossed] < RADIUS <= distances[crossed + 1] + 1e-9


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"radius": 0.0}, "radius"),
        ({"channels": 0}, "channels"),
        ({"heads": 0}, "heads"),
        ({"dropout": 1.0}, "dropout"),
    ],
    ids=str,
)
def test_refuses_arguments_out_of_range(arguments, named):
    with pytest.raises(DeepLearningException, match=f"`{named}` must be"):
        attention(**arguments)


@pytest.mark.parametrize("channels", [None, 10])
def test_refuses_heads_that_do_not_divide_the_channels(inputs, channels):
    layer = attention(heads=4, channels=channels)
    with pytest.raises(DeepLearningException, match="must divide the channels"):
        layer(inputs)


def test_refuses_other_ranks_and_weights(kind, inputs):
    coordinates, features, neighbors, source = inputs
    for wrong in (
        [coordinates, features],
        [coordinates, features, neighbors[0]],
        [coordinates, features, neighbors, features],
        [*inputs, source],
    ):
        with pytest.raises(DeepLearningException, match="perhaps source weights"):
            kind()(wrong)


def test_the_plain_softmax_refuses_source_weights(inputs):
    with pytest.raises(DeepLearningException, match="expected a list of coordinates"):
        grouped("plain")(inputs)
