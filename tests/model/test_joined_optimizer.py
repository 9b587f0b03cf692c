"""One update of long vectors does what an update each does."""

import keras
import numpy as np
import pytest
from keras import ops

from vl3d_lite.model.joined_optimizer import JoinedOptimizer, innermost

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


def test_a_variable_without_a_gradient_stays_and_its_neighbors_move():
    members = variables()
    before = [ops.convert_to_numpy(one).copy() for one in members]
    joined = JoinedOptimizer(keras.optimizers.Adam(0.1))
    joined.build(members)
    given = [None if step == 2 else one for step, one in enumerate(gradients(0))]
    joined.apply(given)
    moved = [
        np.abs(ops.convert_to_numpy(one) - old).max() > 0
        for one, old in zip(members, before, strict=True)
    ]
    assert moved == [True, True, False, True]


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


def test_the_innermost_optimizer_is_found_under_loss_scaling():
    inner = keras.optimizers.Adam(0.01)
    joined = JoinedOptimizer(inner)
    assert innermost(keras.optimizers.LossScaleOptimizer(joined)) is inner
    assert float(joined.learning_rate) == pytest.approx(0.01)
    joined.learning_rate = 0.5
    assert float(inner.learning_rate) == pytest.approx(0.5)
