"""One update of long vectors does what an update each does."""

import keras
import numpy as np
import pytest
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.training.joined_optimizer import JoinedOptimizer, innermost

SHAPES = {"kernel": (3, 4), "bias": (4,), "W": (2, 3, 2), "gamma": (1,)}
SPARED = ("bias", "gamma")


def optimizers():
    options = {"global_clipnorm": 1.0, "use_ema": True, "ema_momentum": 0.9}
    return {
        "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3, **options),
        "adam": lambda: keras.optimizers.Adam(0.1, **options),
        "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    }


def variables(seed=0, **more):
    rng = np.random.default_rng(seed)
    return [
        keras.Variable(rng.normal(size=shape).astype("float32"), name=name, **more)
        for name, shape in SHAPES.items()
    ]


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return [rng.normal(size=shape).astype("float32") for shape in SHAPES.values()]


def apart(name):
    """The same optimizer on its own."""
    optimizer = optimizers()[name]()
    optimizer.exclude_from_weight_decay(var_names=list(SPARED))
    return optimizer


def after_steps(optimizer, members, steps=4):
    optimizer.build(members)
    for step in range(steps):
        optimizer.apply([ops.convert_to_tensor(one) for one in gradients(step)])
    return [ops.convert_to_numpy(one) for one in members]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_joined_steps_are_the_steps_of_the_optimizer_itself(name):
    expected = after_steps(apart(name), variables())
    joined = JoinedOptimizer(optimizers()[name](), SPARED)
    assert_same(after_steps(joined, variables()), expected)
    assert int(joined.iterations) == 4


def test_moving_averages_come_back_into_their_variables():
    expected, members = variables(), variables()
    optimizer = apart("adamw")
    after_steps(optimizer, expected)
    optimizer.finalize_variable_values(expected)
    joined = JoinedOptimizer(optimizers()["adamw"](), SPARED)
    last = after_steps(joined, members)
    joined.finalize_variable_values(members)
    found = [ops.convert_to_numpy(one) for one in members]
    assert_same(found, [ops.convert_to_numpy(one) for one in expected])
    assert np.abs(found[0] - last[0]).max() > 0.01


def test_a_weight_set_from_outside_is_not_forgotten():
    members = variables()
    joined = JoinedOptimizer(keras.optimizers.SGD(0.5))
    after_steps(joined, members, steps=1)
    members[1].assign(np.full(4, 7.0, "float32"))
    zeros = [ops.zeros(shape) for shape in SHAPES.values()]
    joined.apply(zeros)
    np.testing.assert_array_equal(ops.convert_to_numpy(members[1]), 7.0)


FAMILY = {
    "nadam": lambda: keras.optimizers.Nadam(0.1, clipvalue=0.5),
    "lion": lambda: keras.optimizers.Lion(0.01, weight_decay=0.3),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1, momentum=0.9, centered=True),
    "accumulating": lambda: keras.optimizers.AdamW(
        0.1, weight_decay=0.3, gradient_accumulation_steps=2, global_clipnorm=0.5
    ),
    "averaging": lambda: keras.optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2
    ),
    "scheduled": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_joined_steps_are_those_of_the_whole_family(name):
    expected = after_steps(FAMILY[name](), variables(), steps=5)
    joined = JoinedOptimizer(FAMILY[name]())
    assert_same(after_steps(joined, variables(), steps=5), expected)
    assert int(joined.iterations) == int(joined.inner_optimizer.iterations)


def filled(count=3):
    return [keras.Variable(ops.full((3,), i + 1.0), name=f"k{i}") for i in range(count)]


def firsts(members):
    return [float(ops.convert_to_numpy(one)[0]) for one in members]


def decaying(**more):
    return keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.5, **more)


def with_and_without(run, make=decaying):
    """What `run` leaves in three variables: joined, and by Keras alone."""
    return [
        firsts(run(optimizer, filled()))
        for optimizer in (JoinedOptimizer(make()), make())
    ]


def steps_of(*numbers):
    return [ops.full((3,), float(number)) for number in numbers]


def test_gradients_find_their_variables_in_any_order():
    def run(optimizer, members):
        optimizer.build(members)
        optimizer.apply_gradients(zip(steps_of(1, 2, 3), members[::-1], strict=True))
        return members

    found, expected = with_and_without(run)
    assert found == pytest.approx(expected, rel=1e-6)


def test_variables_frozen_on_the_way_stay():
    def run(optimizer, members):
        optimizer.build(members)
        optimizer.apply(steps_of(1, 2, 3))
        optimizer.apply(steps_of(1, 2), members[1:])
        return members

    found, expected = with_and_without(run)
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_variable_without_a_gradient_stays_and_its_neighbors_move():
    def run(optimizer, members):
        optimizer.build(members)
        first, _, third = steps_of(1, 2, 3)
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"Gradients do not exist.*k1"):
                optimizer.apply([first, None, third])
        return members

    found, expected = with_and_without(run)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[1] == 2


def test_no_gradient_at_all_is_an_error_and_an_empty_step_is_none():
    joined, members = JoinedOptimizer(decaying()), filled()
    joined.build(members)
    with pytest.raises(ValueError, match="No gradients provided"):
        joined.apply([None, None, None])
    joined.apply([])
    assert firsts(members) == [1, 2, 3]


def test_variables_of_another_model_are_refused():
    joined, members = JoinedOptimizer(decaying()), filled()
    joined.build(members)
    with pytest.raises(ValueError, match="Unknown variable"):
        joined.apply(steps_of(1, 1, 1), filled())
    with pytest.raises(ValueError, match="must match"):
        joined.apply(steps_of(1, 1))
    assert firsts(members) == [1, 2, 3]


def test_the_loss_is_scaled_as_the_inner_optimizer_wants():
    def run(optimizer, members):
        optimizer.build(members)
        scale = float(optimizer.scale_loss(1.0))
        assert scale == 8
        optimizer.apply(steps_of(scale, scale, scale))
        return members

    found, expected = with_and_without(run, lambda: decaying(loss_scale_factor=8.0))
    assert found == pytest.approx(expected, rel=1e-6)
    config = JoinedOptimizer(decaying(loss_scale_factor=8.0)).get_config()
    assert JoinedOptimizer.from_config(config).loss_scale_factor == 8


def apply(optimizer, members, gradients):
    """A step as training makes it: Keras has JAX keep no state."""
    if keras.backend.backend() != "jax":
        optimizer.apply(gradients)
        return
    states = [[one.value for one in of] for of in (optimizer.variables, members)]
    after, kept = optimizer.stateless_apply(states[0], gradients, states[1])
    for one, value in zip([*members, *optimizer.variables], after + kept, strict=True):
        one.assign(value)


def test_dynamic_loss_scaling_takes_the_place_of_a_fixed_factor():
    inner = decaying(loss_scale_factor=8.0)
    members = filled()
    scaled = keras.optimizers.LossScaleOptimizer(JoinedOptimizer(inner))
    scaled.build(members)
    plain, others = decaying(), filled()
    plain.build(others)
    scale = float(scaled.scale_loss(1.0))
    apply(scaled, members, steps_of(scale, 2 * scale, 0))
    plain.apply(steps_of(1, 2, 0))
    assert firsts(members) == pytest.approx(firsts(others), rel=1e-6)
    apply(scaled, members, steps_of(1, np.inf, 1))
    assert firsts(members) == pytest.approx(firsts(others), rel=1e-6)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_variables_excluded_in_keras_own_way_are_not_decayed(outside, by_name):
    members = filled()
    chosen = {"var_names": ["k1"]} if by_name else {"var_list": members[1:2]}
    inner = decaying()
    joined = JoinedOptimizer(inner, undecayed=["k2"])
    (joined if outside else inner).exclude_from_weight_decay(**chosen)
    joined.build(members)
    joined.apply(steps_of(0, 0, 0))
    assert firsts(members) == pytest.approx([0.95, 2, 3])
    with pytest.raises(DeepLearningException, match="before the optimizer is built"):
        joined.exclude_from_weight_decay(**chosen)


def test_each_type_of_number_keeps_its_precision():
    members = [
        keras.Variable(np.ones(3), dtype=dtype, name=name)
        for name, dtype in (("a", "float32"), ("b", "bfloat16"), ("bias", "float32"))
    ]
    joined = JoinedOptimizer(keras.optimizers.SGD(1.0), undecayed=["bias"])
    joined.build(members)
    joined.apply([ops.full((3,), 1e-4, dtype=one.dtype) for one in members])
    assert [str(one.dtype) for one in joined.joined] == [
        "float32",
        "bfloat16",
        "float32",
    ]
    found = [
        float(ops.convert_to_numpy(ops.cast(one, "float32"))[0]) for one in members
    ]
    assert found == pytest.approx([0.9999, 1, 0.9999], abs=1e-6)


def built():
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(filled())
    return optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (built, "already built"),
        (
            lambda: keras.optimizers.LossScaleOptimizer(decaying()),
            "wrap this optimizer",
        ),
        (lambda: keras.optimizers.Adam(clipnorm=1.0), "global_clipnorm"),
        (lambda: keras.optimizers.Lamb(), "each variable separately"),
    ],
    ids=["built", "scaling", "clipnorm", "lamb"],
)
def test_an_optimizer_that_would_step_differently_is_refused(make, message):
    inner = make()
    with pytest.raises(DeepLearningException, match=message):
        JoinedOptimizer(inner)


def test_gradients_of_a_table_may_be_sparse():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow gives such gradients")
    import tensorflow as tf

    rows = tf.IndexedSlices(
        tf.ones((3, 2)), tf.constant([1, 1, 3]), tf.constant([4, 2])
    )
    values = []
    for optimizer in (JoinedOptimizer(decaying()), decaying()):
        table = keras.Variable(np.ones((4, 2), "float32"), name="table")
        optimizer.build([table])
        for _ in range(2):
            optimizer.apply([rows])
        values.append([ops.convert_to_numpy(table)])
    assert_same(*values)


def test_constraints_hold_after_a_step():
    rng = np.random.default_rng(3)
    kernel = keras.Variable(rng.normal(size=(4, 2)).astype("float32"), name="kernel")
    kernel.constraint = keras.constraints.NonNeg()
    joined = JoinedOptimizer(keras.optimizers.SGD(0.1))
    joined.build([kernel])
    joined.apply([ops.ones((4, 2))])
    assert ops.convert_to_numpy(kernel).min() == 0


def test_its_state_and_config_make_it_again():
    members, others = variables(), variables()
    first = JoinedOptimizer(optimizers()["adamw"](), SPARED)
    after_steps(first, members, steps=2)
    second = JoinedOptimizer.from_config(first.get_config())
    second.build(others)
    assert second.undecayed == SPARED
    store = {}
    first.save_own_variables(store)
    assert len(store) == len({id(one) for one in first.variables})
    second.load_own_variables(store)
    for mine, theirs in zip(others, members, strict=True):
        mine.assign(theirs)
    for optimizer in (first, second):
        optimizer.apply([ops.convert_to_tensor(one) for one in gradients(9)])
    assert_same(
        [ops.convert_to_numpy(one) for one in others],
        [ops.convert_to_numpy(one) for one in members],
    )


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_a_model_learns_the_same_with_it(jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("jit_compile on PyTorch needs a C++ compiler")
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    weights = []
    for optimizer in (apart("adamw"), JoinedOptimizer(optimizers()["adamw"](), SPARED)):
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
        )
        model.compile(optimizer, loss="mse", jit_compile=jit)
        model.optimizer.build(model.trainable_variables)
        for _ in range(5):
            model.train_on_batch(x, y)
        weights.append(model.get_weights())
    assert_same(weights[1], weights[0])


def small_model(optimizer, **more):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(optimizer, loss="mse", **more)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.slow
def test_a_model_loaded_with_it_goes_on_as_if_never_stopped(tmp_path):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    model = small_model(JoinedOptimizer(optimizers()["adamw"](), SPARED))
    for _ in range(3):
        model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, again):
        one.train_on_batch(x, y)
        one.optimizer.finalize_variable_values(one.trainable_variables)
    assert int(again.optimizer.iterations) == 4
    assert_same(again.get_weights(), model.get_weights())


@pytest.mark.slow
def test_a_model_frozen_in_part_after_compiling_trains_the_rest():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    if keras.backend.backend() == "jax":
        pytest.skip("Keras itself needs the model compiled again on JAX")
    weights = []
    for optimizer in (JoinedOptimizer(decaying()), decaying()):
        model = small_model(optimizer)
        model.train_on_batch(x, y)
        model.layers[0].trainable = False
        model.train_function = None
        model.train_on_batch(x, y)
        weights.append(model.get_weights())
    assert_same(*weights)


def test_the_innermost_optimizer_is_found_under_loss_scaling():
    inner = keras.optimizers.Adam(0.01)
    joined = JoinedOptimizer(inner)
    assert innermost(keras.optimizers.LossScaleOptimizer(joined)) is inner
    assert float(joined.learning_rate) == pytest.approx(0.01)
    joined.learning_rate = 0.5
    assert float(inner.learning_rate) == pytest.approx(0.5)
