"""The decision whether to compile a network with XLA, without Keras.

Training (`training.compilation`) and prediction (`prediction.inference`) apply it;
`plan` and the memory estimate use it before Keras is loaded.
"""

import math

from vl3d_lite.spec import Spec

# Field points after which XLA's compile time is repaid on a CPU. Measured on one
# core and rounded up (benchmarks/results/network.md): training took 58 to 97 steps
# of 16,384 points, prediction 0.6 to 0.9 million points.
TRAINING_BREAK_EVEN = 1_600_000
PREDICTION_BREAK_EVEN = 1_000_000


def pays_to_compile(
    spec: Spec, points: int, break_even: int, *, backend: str, accelerator: bool
) -> bool:
    """Return whether to compile a network with XLA, following ``training.jit``.

    ``on`` and ``off`` decide alone. ``auto`` compiles on an accelerator, and on a CPU
    if the work is long enough to repay the time XLA takes to compile. It never
    compiles with PyTorch, which has no XLA here.

    Args:
        spec: The spec; only ``training.jit`` is read.
        points: Field points of the whole work.
        break_even: Field points from which compiling saves time on a CPU.
        backend: Name of the Keras backend: ``tensorflow``, ``jax`` or ``torch``.
        accelerator: Whether a GPU or TPU computes.
    """
    setting = spec.training.jit
    if setting != "auto":
        return setting == "on"
    if backend == "torch":
        return False
    return accelerator or points > break_even


def steps_to_break_even(spec: Spec) -> int:
    """Return the number of training steps from which compiling saves time on a CPU."""
    return math.ceil(TRAINING_BREAK_EVEN / spec.points_per_batch)
