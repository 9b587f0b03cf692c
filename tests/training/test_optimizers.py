"""Schedules at their corners, and what weight decay leaves alone."""

import keras
import numpy as np
import pytest

from vl3d_lite.spec.schema.training import TrainingSpec
from vl3d_lite.training.joined_optimizer import innermost
from vl3d_lite.training.optimizers import SCHEDULES, OneCycle, build_optimizer


def rates(schedule, steps):
    return np.array([float(schedule(step)) for step in range(steps + 1)])


def test_one_cycle_rises_and_falls():
    values = rates(OneCycle(0.01, 100, 0.2), 100)
    np.testing.assert_allclose(values[[0, 20, 100]], [0.0004, 0.01, 1e-6], rtol=1e-4)
    assert np.all(np.diff(values[:21]) > 0)
    assert np.all(np.diff(values[20:]) < 0)
    np.testing.assert_allclose(values[10], (0.01 + 0.0004) / 2, rtol=1e-4)


def test_one_cycle_survives_its_config():
    schedule = OneCycle(0.01, 100, 0.2)
    config = keras.optimizers.schedules.serialize(schedule)
    again = keras.optimizers.schedules.deserialize(config)
    np.testing.assert_array_equal(rates(again, 9), rates(schedule, 9))


@pytest.mark.parametrize("name", ["onecycle", "cosine", "exponential"])
def test_every_schedule_ends_low_and_peaks_at_the_rate(name):
    training = TrainingSpec.model_validate({"schedule": name, "learning_rate": 0.02})
    values = rates(SCHEDULES[name](0.02, 50, training.schedule), 50)
    assert values.max() == pytest.approx(0.02, rel=0.01)
    assert values[-1] <= 0.0021


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_every_optimizer_takes_a_step(optimizer, clip):
    training = TrainingSpec.model_validate(
        {"optimizer": optimizer, "gradient_clipping": clip, "schedule": "constant"}
    )
    chosen = build_optimizer(training, 10)
    assert innermost(chosen).global_clipnorm == clip
    weight = keras.Variable(np.ones(3, "float32"), name="kernel")
    chosen.build([weight])
    chosen.apply([np.ones(3, "float32")])
    assert np.all(keras.ops.convert_to_numpy(weight) < 1)


def test_decay_pulls_on_weights_and_not_on_offsets():
    training = TrainingSpec.model_validate(
        {"weight_decay": 0.5, "learning_rate": 0.1, "schedule": "constant"}
    )
    optimizer = build_optimizer(training, 10)
    names = ["W", "Phi", "kernel", "phi", "psi", "btilde", "bias", "gamma", "beta"]
    weights = [keras.Variable(np.ones(2, "float32"), name=name) for name in names]
    optimizer.build(weights)
    optimizer.apply([np.zeros(2, "float32") for _ in weights])
    values = [float(keras.ops.convert_to_numpy(weight)[0]) for weight in weights]
    np.testing.assert_allclose(values, [0.95] * 3 + [1.0] * 6, rtol=1e-6)
