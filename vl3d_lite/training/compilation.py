"""Whether XLA pays, and compiling a network for training."""

import logging
import math

import keras

from vl3d_lite.model.backend import make_deterministic, uses_accelerator
from vl3d_lite.model.cost import TRAINING_BREAK_EVEN, pays_to_compile
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.training.losses import PointCrossEntropy
from vl3d_lite.training.optimizers import build_optimizer

logger = logging.getLogger(__name__)


def choose_jit(spec: Spec, total_steps: int) -> bool:
    """Whether training compiles with XLA, and say so.

    `auto` compiles on a GPU, and on a CPU where the training is long enough to
    repay the time XLA takes to compile.
    """
    setting = spec.training.jit
    if setting != "auto":
        return setting == "on"
    if keras.backend.backend() == "torch":
        return False
    if uses_accelerator():
        return True
    points = spec.points_per_batch
    jit = pays_to_compile(spec, total_steps)
    logger.info(
        "jit: auto chose %s (%d steps of %d points; XLA pays from about %d such steps)",
        "XLA" if jit else "no XLA",
        total_steps,
        points,
        math.ceil(TRAINING_BREAK_EVEN / points),
    )
    return jit


def compile_model(
    model: keras.Model, spec: Spec, total_steps: int, weights: list[float] | None
) -> None:
    """Give a network its optimizer and loss, and XLA where it pays."""
    training = spec.training
    jit = choose_jit(spec, total_steps)
    if training.deterministic:
        make_deterministic(jit)
    model.compile(
        optimizer=build_optimizer(training, total_steps),
        loss=PointCrossEntropy(weights, training.label_smoothing, training.lovasz),
        jit_compile=jit,
    )
    model.optimizer.build(model.trainable_variables)
