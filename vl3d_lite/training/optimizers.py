"""Optimizers and learning-rate schedules of a training spec."""

import math

import keras
from keras import ops

from vl3d_lite.spec import ScheduleSpec, TrainingSpec
from vl3d_lite.training.joined_optimizer import JoinedOptimizer


@keras.saving.register_keras_serializable(package="vl3d_lite")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """The 1cycle schedule: the learning rate rises once and falls once.

    It rises from ``peak / 25`` to ``peak`` during the warmup, then falls to
    ``peak / 10000``. Both parts are half a cosine.

    Args:
        peak: Highest learning rate. Positive.
        steps: Steps of the whole training. At least 1.
        warmup: Share of the steps during which the rate rises, in [0, 1].

    Call arguments:
        step: Number of the step, from 0; a scalar.

    Returns:
        The learning rate of the step, a scalar.

    Source:
        Smith and Topin, *Super-Convergence* (2018). The divisor 25 is that of
        fastai's implementation; its final divisor is 1e5, ours 1e4.
    """

    def __init__(self, peak, steps, warmup):
        super().__init__()
        self.peak = peak
        self.steps = steps
        self.warmup = warmup

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = max(1.0, self.warmup * self.steps)
        fall = max(1.0, self.steps - rise)
        up = self._half_cosine(self.peak / 25, self.peak, step / rise)
        down = self._half_cosine(
            self.peak, self.peak / 10000, ops.clip((step - rise) / fall, 0.0, 1.0)
        )
        return ops.where(step < rise, up, down)

    def _half_cosine(self, start, end, share):
        return end + (start - end) * 0.5 * (1.0 + ops.cos(math.pi * share))

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


def _cosine(rate: float, steps: int, schedule: ScheduleSpec):
    rise = round(schedule.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=rate / 25 if rise else rate,
        decay_steps=max(1, steps - rise),
        warmup_target=rate if rise else None,
        warmup_steps=rise,
    )


SCHEDULES = {
    "onecycle": lambda rate, steps, schedule: OneCycle(rate, steps, schedule.warmup),
    "cosine": _cosine,
    "exponential": lambda rate, steps, schedule: (
        keras.optimizers.schedules.ExponentialDecay(rate, steps, schedule.decay)
    ),
    # The training loop detects a plateau and lowers the rate itself.
    "plateau": lambda rate, steps, schedule: rate,
    "constant": lambda rate, steps, schedule: rate,
}
OPTIMIZERS = {
    "adamw": lambda training, rate, **options: keras.optimizers.AdamW(
        rate, weight_decay=training.weight_decay, **options
    ),
    "adam": lambda training, rate, **options: keras.optimizers.Adam(rate, **options),
    "sgd": lambda training, rate, **options: keras.optimizers.SGD(
        rate, momentum=0.9, nesterov=True, **options
    ),
}


# Parts of the names of variables without weight decay: decay shrinks weight vectors,
# and biases, scales and offsets of a normalization are none.
UNDECAYED = ("bias", "gamma", "beta", "phi", "psi", "btilde", "bhat")


def build_optimizer(training: TrainingSpec, steps: int) -> JoinedOptimizer:
    """Build the optimizer of a spec.

    Args:
        training: The training section of the spec.
        steps: Steps of the whole training, for the schedule.
    """
    rate = SCHEDULES[training.schedule.name](
        training.learning_rate, steps, training.schedule
    )
    averaging = training.weight_averaging
    options = {"use_ema": True, "ema_momentum": averaging} if averaging else {}
    optimizer = OPTIMIZERS[training.optimizer](
        training, rate, global_clipnorm=training.gradient_clipping, **options
    )
    return JoinedOptimizer(optimizer, UNDECAYED)
