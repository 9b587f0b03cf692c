"""KPConvXLayer against loops, padding, orders and the seed's contract."""

import inspect

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
    numpy_of,
    run,
    slow_but,
)
from tests.oracles import kpconvx_by_loops, slope_along
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import KernelGeometryLayer, KPConvXLayer

JAX = keras.backend.backend() == "jax"
DTYPE = "float32" if JAX else "float64"
SHELLS = {"shell_radii": [0, 0.7, 1.4], "shell_points": [1, 3, 5]}
SMALL = {**SHELLS, "DH": 16, "groups": 4, "sigma": 1.1}
BATCH, ROWS, COUNT, CHANNELS, PADDED = 2, 10, 4, 8, 2


def field(n_x=3, count=COUNT, dtype="float32", seed=5):
    """Make a field of 8 real points and 2 padded ones, some neighbors missing."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(BATCH, ROWS, n_x)).astype(dtype)
    F = rng.normal(size=(BATCH, ROWS, CHANNELS)).astype(dtype)
    real = ROWS - PADDED
    N = rng.integers(0, real, (BATCH, ROWS, count)).astype("int32")
    N[:, :, 0] = np.arange(ROWS)
    N[0, 1, 1:] = -1
    N[1, 2:4, 2:] = ROWS
    N[:, real:] = -1
    return [X, F, N]


REAL = np.repeat([[True] * (ROWS - PADDED) + [False] * PADDED], BATCH, axis=0)


def randomized(layer, inputs, seed=7):
    """Build the layer and move every weight off its initial value."""
    run(layer, inputs)
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if weight.name == "Q":
            continue
        values = rng.normal(scale=0.5, size=weight.shape)
        if "variance" in weight.name or "gamma" in weight.name:
            values = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(values)
    return layer


def weights_of(layer):
    """Return the layer's weights under the names of the oracle."""

    def array(weight):
        return numpy_of(weight.value).astype("float64")

    names = ("Q", "W", "Phi", "phi", "Psi", "psi", "Atilde", "btilde")
    names += ("modulation_gain", "modulation_bias")
    found = {name: getattr(layer, name) for name in names}
    weights = {name: array(w) for name, w in found.items() if w is not None}
    for name in ("Ahat", "bhat"):
        stacks = [getattr(layer, name), getattr(layer, f"{name}_out")]
        weights[name] = [s for w in stacks if w is not None for s in array(w)]
    if layer.shortcut is not None:
        weights["shortcut"] = array(layer.shortcut)[0]
    for name in ("bn_phi", "bn_htilde", "bn_hhat", "bn_operator"):
        if getattr(layer, name) is not None:
            weights[name] = [
                {w.name: array(w) for w in bn.weights} for bn in getattr(layer, name)
            ]
    return weights


FORMS = {
    "vl3d": ({}, {}),
    "two blocks": ({"blocks": 2}, {}),
    "gaussian": ({"influence": "gaussian"}, {"influence": "gaussian"}),
    "constant": ({"influence": "constant"}, {"influence": "constant"}),
    "depthwise": ({"attention": False}, {}),
    "slope": ({"activation": 0.1}, {"slope": 0.1}),
    "wider": ({"blocks": 2, "output_channels": 12}, {}),
    "wider at once": ({"output_channels": 6}, {}),
    "apple": (
        {"order": "apple", "blocks": 2, "activation": 0.1, "output_channels": 12},
        {"order": "apple", "slope": 0.1},
    ),
    "apple normalized": (
        {"order": "apple", "modulation_norm": True},
        {"order": "apple", "norm_by_point": True},
    ),
    "deformable": ({"deformable": True}, {}),
    "one group": ({"groups": 8}, {}),
    "full modulation": ({"groups": 1}, {}),
}


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("form", slow_but(FORMS, "vl3d", "apple"))
def test_matches_the_formula(form, training):
    arguments, options = FORMS[form]
    inputs = field(dtype=DTYPE)
    layer = randomized(KPConvXLayer(**{**SMALL, **arguments}, dtype=DTYPE), inputs)
    X, F, N = inputs
    expected = kpconvx_by_loops(
        X, F, N, weights_of(layer), sigma=1.1, training=training, **options
    )
    # Keras' masked mean divides by n + 1e-7.
    tolerance = 2e-5 if JAX else 1e-6
    assert_same(run(layer, inputs, training=training), expected, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("n_x", [2, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_works_in_two_dimensions_and_with_one_neighbor(n_x, count):
    X, F, N = inputs = field(n_x, count, DTYPE)
    layer = randomized(KPConvXLayer(**SMALL, dtype=DTYPE), inputs)
    expected = kpconvx_by_loops(X, F, N, weights_of(layer), sigma=1.1)
    assert layer.Q.shape == (9, n_x)
    # Keras keeps slopes, and on PyTorch more, in float32.
    tolerance = 2e-5 if JAX else 1e-6
    assert_same(run(layer, inputs), expected, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_strided_centers_match_the_formula(training):
    X, F, N = field(dtype=DTYPE)
    centers, N = X[:, ::2] + 0.1, N[:, ::2]
    inputs = [X, F, N, centers]
    layer = KPConvXLayer(**SMALL, strided=True, output_channels=12, dtype=DTYPE)
    randomized(layer, inputs)
    expected = kpconvx_by_loops(
        X, F, N, weights_of(layer), sigma=1.1, training=training, centers=centers
    )
    assert_same(run(layer, inputs, training), expected, 2e-5 if JAX else 1e-6)


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason="JAX has float64 off")
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    "form", slow_but(["vl3d", "wider", "apple", "apple normalized"], "vl3d")
)
def test_gradients_match_differences_of_the_formula(form, training):
    arguments, options = FORMS[form]
    X, F, N = inputs = field(dtype="float64")
    layer = KPConvXLayer(**{**SMALL, **arguments}, deformable=True, dtype="float64")
    randomized(layer, inputs)
    rng = np.random.default_rng(2)
    # Away from the kink where every point sits on the first kernel point.
    layer.Q.assign(numpy_of(layer.Q.value) + rng.normal(scale=0.05, size=(9, 3)))
    weights = weights_of(layer)
    size = kpconvx_by_loops(X, F, N, weights, sigma=1.1, **options).shape
    cotangent = rng.normal(size=size) * REAL[..., None]
    _, by_weight, by_input = gradients(layer, inputs, training, cotangents=[cotangent])
    slopes = {path.split("/", 1)[1]: slope for path, slope in by_weight.items()}

    def total(**changed):
        arrays = {"X": X, "F": F, "weights": weights, **changed}
        out = kpconvx_by_loops(
            arrays["X"],
            arrays["F"],
            N,
            arrays["weights"],
            sigma=1.1,
            training=training,
            **options,
        )
        return np.sum(out * cotangent)

    def agree(received, expected):
        assert received == pytest.approx(expected, rel=1e-4, abs=1e-5)

    checked = 0
    for name, value in weights.items():
        if name.startswith("bn_") or isinstance(value, list):
            continue
        direction = rng.normal(size=value.shape)
        slope = slopes[name][0] if name == "shortcut" else slopes[name]
        agree(
            np.sum(slope * direction),
            slope_along(
                lambda v, name=name: total(weights={**weights, name: v}),
                value,
                direction,
            ),
        )
        checked += 1
    assert checked >= 7
    for index, name in ((0, "X"), (1, "F")):
        direction = rng.normal(size=inputs[index].shape) * REAL[..., None]
        agree(
            np.sum(by_input[index] * direction),
            slope_along(
                lambda v, name=name: total(**{name: v}), inputs[index], direction
            ),
        )


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("modes", MODE_GROUPS)
def test_values_of_padding_have_no_effect(modes, training):
    X, F, N = field()
    layer = randomized(KPConvXLayer(**SMALL, deformable=True), [X, F, N])
    dirty = [X.copy(), F.copy(), N.copy()]
    for garbage, row in ((np.nan, -1), (1e9, -2)):
        dirty[0][:, row] = garbage
        dirty[1][:, row] = garbage
    dirty[2][N == -1] = ROWS + 5
    for mode in modes:
        check_garbage(layer, [X, F, N], dirty, REAL, training, mode)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(
    ("order", "modes"), [("vl3d", MODES), ("apple", ("eager",))], ids=["vl3d", "apple"]
)
def test_appended_missing_neighbors_and_padded_points_have_no_effect(
    order, modes, training
):
    X, F, N = field()
    layer = randomized(KPConvXLayer(**SMALL, order=order), [X, F, N])
    N[N >= ROWS] = -1
    more = [
        np.concatenate([X, np.full((BATCH, 3, 3), np.nan, "float32")], axis=1),
        np.concatenate([F, np.full((BATCH, 3, CHANNELS), 1e9, "float32")], axis=1),
        np.pad(N, ((0, 0), (0, 3), (0, 2)), constant_values=-1),
    ]
    more[2][:, :, COUNT] = ROWS + 3
    cotangent = np.random.default_rng(1).normal(size=F.shape)
    longer = np.pad(cotangent, ((0, 0), (0, 3), (0, 0)))
    for mode in modes:
        one = gradients(layer, [X, F, N], training, mode, [cotangent])
        other = gradients(layer, more, training, mode, [longer])
        assert_same(other[0][:, :ROWS], one[0])
        assert (other[0][:, ROWS:] == 0).all()
        scale = max(np.abs(slope).max() for slope in one[1].values())
        for path, slope in one[1].items():
            np.testing.assert_allclose(other[1][path], slope, rtol=0, atol=1e-5 * scale)
        assert_same(other[2][1][:, :ROWS], one[2][1])
        assert (other[2][1][:, ROWS:] == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_strided_layers_ignore_values_of_unlisted_points(training):
    X, F, N = field()
    layer = KPConvXLayer(**SMALL, strided=True)
    randomized(layer, [X, F, N, X])
    dirty = [X.copy(), F.copy(), N, X]
    dirty[0][:, -PADDED:] = dirty[1][:, -PADDED:] = np.nan
    check_garbage(layer, [X, F, N, X], dirty, REAL, training, "eager")


def test_padded_points_stay_out_of_the_moving_statistics():
    X, F, N = field()
    layer = KPConvXLayer(**SMALL)
    F[:, -PADDED:] = np.nan
    layer([X, F, N], training=True)
    hidden = F[REAL].astype(float) @ numpy_of(layer.Phi.value)[0]
    moved = {weight.name: numpy_of(weight.value) for weight in layer.bn_phi[0].weights}
    assert_same(moved["moving_mean"], 0.1 * hidden.mean(axis=0))
    assert_same(moved["moving_variance"], 0.9 + 0.1 * hidden.var(axis=0))


@pytest.mark.slow
def test_the_order_of_neighbors_does_not_matter():
    X, F, N = field()
    layer = randomized(KPConvXLayer(**SMALL, blocks=2), [X, F, N])
    mixed = np.random.default_rng(0).permuted(N, axis=2)
    assert (mixed != N).any()
    assert_same(run(layer, [X, F, mixed]), run(layer, [X, F, N]), 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_permuting_points_permutes_the_result(training):
    X, F, N = field()
    layer = randomized(KPConvXLayer(**SMALL), [X, F, N])
    order = np.random.default_rng(0).permutation(ROWS)
    new_row = np.argsort(order)
    present = (N >= 0) & (N < ROWS)
    renamed = np.where(present, new_row[np.where(present, N, 0)], -1).astype("int32")
    moved = run(layer, [X[:, order], F[:, order], renamed[:, order]], training)
    assert_same(moved, run(layer, [X, F, N], training)[:, order])


@pytest.mark.slow
@pytest.mark.parametrize("influence", ["linear", "constant", "gaussian"])
def test_geometry_may_be_an_input(influence):
    X, F, N = field()
    layer = randomized(KPConvXLayer(**SMALL, influence=influence), [X, F, N])
    geometry = KernelGeometryLayer(1.1, **SHELLS, influence=influence)
    nearest, weights = run(geometry, [X, N])
    received = run(layer, [X, F, N, nearest, weights])
    np.testing.assert_array_equal(received, run(layer, [X, F, N]))
    halved = run(layer, [X, F, N, nearest, weights / 2])
    assert np.abs(halved - received).max() > 1e-3


@pytest.mark.slow
def test_dropping_every_path_leaves_the_input():
    inputs = field()
    layer = randomized(KPConvXLayer(**SMALL, blocks=2, drop_path=1), inputs)
    received = run(layer, inputs, training=True)
    np.testing.assert_array_equal(received, np.where(REAL[..., None], inputs[1], 0))
    without = KPConvXLayer(**SMALL, blocks=2)
    run(without, inputs)
    without.set_weights(layer.get_weights())
    assert_same(run(layer, inputs), run(without, inputs), 1e-6)


@pytest.mark.slow
def test_half_of_the_paths_are_dropped_a_sample_at_a_time():
    X, F, N = (np.repeat(array[:1], 64, axis=0) for array in field())
    kept = randomized(KPConvXLayer(**SMALL), [X, F, N])
    layer = KPConvXLayer(**SMALL, drop_path=0.5)
    run(layer, [X, F, N])
    layer.set_weights(kept.get_weights())
    residual = np.where(N[..., :1] >= 0, F, 0)
    branch = run(kept, [X, F, N], training=True) - residual
    received = run(layer, [X, F, N], training=True) - residual
    dropped = np.array([(sample == 0).all() for sample in received])
    assert 16 <= dropped.sum() <= 48
    assert_same(received[~dropped], 2 * branch[~dropped], 1e-4)
    assert_same(run(layer, [X, F, N]), run(kept, [X, F, N]), 1e-6)


@pytest.mark.slow
def test_a_deformable_kernel_learns_though_points_sit_on_kernel_points():
    inputs = field()
    layer = KPConvXLayer(**SMALL, deformable=True)
    _, by_weight, _ = gradients(layer, inputs, training=True)
    slope = by_weight[layer.Q.path]
    assert_finite(slope)
    assert np.abs(slope).max() > 0
    rigid = KPConvXLayer(**SMALL)
    run(rigid, inputs)
    assert "Q" not in [weight.name for weight in rigid.trainable_weights]


@pytest.mark.slow
def test_half_precision_does_not_touch_coordinates():
    X, F, N = field()
    exact = randomized(KPConvXLayer(**SMALL), [X, F, N])
    far = X + np.float32(512)
    expected = run(exact, [far, F, N])
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = KPConvXLayer(**SMALL)
        ports = [
            keras.Input((ROWS, 3)),
            keras.Input((ROWS, CHANNELS)),
            keras.Input((ROWS, COUNT), dtype="int32"),
        ]
        model = keras.Model(ports, layer(ports))
        layer.set_weights(exact.get_weights())
        received = numpy_of(model([far, F, N]))
    finally:
        keras.config.set_dtype_policy("float32")
    assert received.dtype == np.float16
    assert_same(received, expected, 1e-2)


def test_the_signature_is_the_seeds():
    parameters = inspect.signature(KPConvXLayer.__init__).parameters
    defaults = {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self"
    }
    activation = defaults.pop("activation")
    assert isinstance(activation, keras.layers.LeakyReLU)
    assert defaults == {
        "blocks": 1,
        "drop_path": 0,
        "sigma": 1.0,
        "shell_radii": [0, 0.5, 1.0],
        "shell_points": [1, 7, 13],
        "DH": 384,
        "groups": 8,
        "deformable": False,
        "initializer": None,
        "regularizer": None,
        "constraint": None,
        "bn_momentum": 0.9,
        "bn_phi": None,
        "bn_htilde": None,
        "bn_hhat": None,
        **{f"built_{name}": False for name in BUILT},
    }


BUILT = ("Q", "W", "Phi", "phi", "Psi", "psi", "Atilde", "btilde", "Ahat", "bhat")


@pytest.mark.slow
def test_weights_have_the_seeds_shapes_and_flags_show_which_exist():
    layer = KPConvXLayer(blocks=3, DH=20, groups=4)
    assert layer.mq == 21
    assert layer.Q_initializer.mq == 21
    assert not any(getattr(layer, f"built_{name}") for name in BUILT)
    run(layer, field())
    assert all(getattr(layer, f"built_{name}") is True for name in BUILT)
    assert {name: tuple(getattr(layer, name).shape) for name in BUILT} == {
        "Q": (21, 3),
        "W": (3, 21, 8),
        "Phi": (3, 8, 8),
        "phi": (3, 8),
        "Psi": (3, 8, 42),
        "psi": (3, 42),
        "Atilde": (3, 8, 20),
        "btilde": (3, 20),
        "Ahat": (3, 20, 8),
        "bhat": (3, 8),
    }
    assert [len(bn) for bn in (layer.bn_phi, layer.bn_htilde, layer.bn_hhat)] == [3] * 3
    assert layer.bn_phi[0].momentum == 0.9
    with pytest.raises(AttributeError):
        layer.built_W = False


@pytest.mark.slow
def test_a_configuration_of_vl3d_loads():
    config = {
        "name": "kpconvx",
        "blocks": 1,
        "drop_path": 0.1,
        "sigma": 1.5,
        "shell_radii": np.array([0, 0.5, 1.0]),
        "shell_points": np.array([1, 7, 13]),
        "DH": 32,
        "groups": 4,
        "deformable": True,
        "initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "regularizer": None,
        "constraint": None,
        "bn_momentum": 0.95,
        "bn_phi": [{"class_name": "BatchNormalization", "config": {"epsilon": 0.01}}],
        "bn_htilde": None,
        "bn_hhat": None,
        "activation": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.3}},
        **{f"built_{name}": True for name in BUILT},
    }
    layer = KPConvXLayer.from_config(config)
    assert not layer.built_W
    assert_finite(run(layer, field(), training=True))
    assert layer.bn_phi[0].epsilon == 0.01
    assert layer.bn_hhat[0].epsilon == 1e-5
    again = KPConvXLayer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.slow
def test_every_block_and_tensor_has_its_own_initial_values():
    initializer = keras.initializers.GlorotUniform(seed=4)
    layer = KPConvXLayer(blocks=2, DH=CHANNELS, initializer=initializer)
    run(layer, field())
    tensors = [layer.Phi, layer.Atilde, layer.Ahat]
    slices = [numpy_of(w.value)[block] for w in tensors for block in range(2)]
    for i, one in enumerate(slices):
        assert np.abs(one).max() <= np.sqrt(6 / (2 * CHANNELS)) + 1e-6
        assert all((one != other).any() for other in slices[:i])
    twin = KPConvXLayer(blocks=2, DH=CHANNELS, initializer=initializer)
    run(twin, field())
    np.testing.assert_array_equal(numpy_of(twin.W.value), numpy_of(layer.W.value))


@pytest.mark.slow
def test_regularizers_and_constraints_reach_every_tensor_but_the_kernel_points():
    layer = KPConvXLayer(**SMALL, regularizer="l2", constraint="non_neg")
    run(layer, field())
    assert layer.Q.regularizer is None
    for name in BUILT[1:]:
        assert isinstance(getattr(layer, name).regularizer, keras.regularizers.L2)
        assert isinstance(getattr(layer, name).constraint, keras.constraints.NonNeg)
    assert len(layer.losses) == 9


def test_a_built_layer_refuses_other_fields():
    X, F, N = field()
    layer = KPConvXLayer(**SMALL)
    run(layer, [X, F, N])
    with pytest.raises(DeepLearningException, match="same number of fields"):
        layer([X, F, N[:1]])


def test_an_initializer_may_be_a_function_that_draws_vectors():
    layer = KPConvXLayer(
        **SMALL, initializer=lambda shape, dtype=None: np.full(shape, 0.25, dtype)
    )
    run(layer, field())
    assert (numpy_of(layer.Psi.value) == 0.25).all()
    with pytest.raises(DeepLearningException, match="must draw vectors"):
        run(KPConvXLayer(**SMALL, initializer="orthogonal"), field())


def test_neighbors_must_be_integers():
    X, F, N = field()
    with pytest.raises(DeepLearningException, match="neighbors must be integers"):
        KPConvXLayer(**SMALL)([X, F, N.astype("float32")])


def test_exporting_before_the_layer_is_built_is_refused(tmp_path):
    with pytest.raises(DeepLearningException, match="before it is built"):
        KPConvXLayer(**SMALL).export_representation(tmp_path)


@pytest.mark.slow
def test_the_representation_is_exported(tmp_path):
    layer = KPConvXLayer(**SMALL, blocks=2, name="stage1")
    run(layer, field())
    past = numpy_of(layer.W.value) - 0.5
    layer.export_representation(str(tmp_path), out_prefix="TRAINED_", Wpast=past)
    (points,) = tmp_path.rglob("*Q.csv")
    np.testing.assert_allclose(np.loadtxt(points), numpy_of(layer.Q.value), atol=1e-6)
    with pytest.raises(DeepLearningException, match="`Wpast` must have the shape"):
        layer.export_representation(tmp_path, Wpast=past[0])


def test_a_mask_by_name_is_no_warning_of_keras():
    layer = KPConvXLayer(1, **SMALL)
    inputs = list(field())
    expected = numpy_of(layer(inputs))
    result = layer(inputs, training=False, mask=False)  # warnings are errors
    assert_same(numpy_of(result), expected, 0)
