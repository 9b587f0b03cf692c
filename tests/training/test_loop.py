"""The running mean of weights that validation sees."""

import keras
import numpy as np
import pytest
from keras import ops

from vl3d_lite.spec.schema.training import TrainingSpec
from vl3d_lite.training.checkpoints import averaged_weights
from vl3d_lite.training.optimizers import build_optimizer

X = np.ones((2, 3), "float32")
Y = np.full((2, 1), 2, "float32")


def small_model(momentum):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    training = TrainingSpec.model_validate(
        {
            "weight_averaging": momentum,
            "learning_rate": 0.1,
            "schedule": "constant",
            "optimizer": "sgd",
        }
    )
    model.compile(build_optimizer(training, 10), loss="mse")
    return model


def kernel(model):
    return ops.convert_to_numpy(model.trainable_variables[0]).copy()


def test_validation_sees_the_running_mean_and_training_goes_on_with_its_own():
    model = small_model(0.75)
    mean = None
    for _ in range(5):
        model.train_on_batch(X, Y)
        own = kernel(model)
        mean = own if mean is None else 0.75 * mean + 0.25 * own
    assert np.abs(mean - own).max() > 1e-3
    with averaged_weights(model):
        np.testing.assert_allclose(kernel(model), mean, rtol=1e-5)
    np.testing.assert_array_equal(kernel(model), own)


@pytest.mark.slow
def test_an_error_in_validation_leaves_the_own_weights():
    model = small_model(0.75)
    for _ in range(3):
        model.train_on_batch(X, Y)
    own = kernel(model)

    def validate():
        with averaged_weights(model):
            assert np.abs(kernel(model) - own).max() > 1e-3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        validate()
    np.testing.assert_array_equal(kernel(model), own)


@pytest.mark.slow
def test_without_averaging_the_weights_are_their_own():
    model = small_model(0)
    model.train_on_batch(X, Y)
    own = kernel(model)
    with averaged_weights(model):
        np.testing.assert_array_equal(kernel(model), own)
