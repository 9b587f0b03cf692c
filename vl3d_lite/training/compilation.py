"""Whether training compiles its network with XLA. No Keras."""

import logging

from vl3d_lite.model import (
    TRAINING_BREAK_EVEN,
    pays_to_compile,
    steps_to_break_even,
)
from vl3d_lite.spec import Spec

logger = logging.getLogger(__name__)


def compiles(
    spec: Spec,
    total_steps: int,
    *,
    backend: str = "tensorflow",
    accelerator: bool = False,
) -> bool:
    """Whether a training of `total_steps` steps is compiled with XLA.

    Args:
        spec: The spec of the training.
        total_steps: Steps of all epochs.
        backend: Name of the Keras backend: ``tensorflow``, ``jax`` or ``torch``.
        accelerator: Whether a GPU or TPU computes.
    """
    return pays_to_compile(
        spec,
        total_steps * spec.points_per_batch,
        TRAINING_BREAK_EVEN,
        backend=backend,
        accelerator=accelerator,
    )


def choose_compilation(
    spec: Spec, total_steps: int, *, backend: str, accelerator: bool
) -> bool:
    """Decide as `compiles`, and log what ``training.jit: auto`` chose on a CPU."""
    chosen = compiles(spec, total_steps, backend=backend, accelerator=accelerator)
    if spec.training.jit == "auto" and backend != "torch" and not accelerator:
        logger.info(
            "jit: auto chose %s (%d steps of %d points; XLA pays from about %d such "
            "steps)",
            "XLA" if chosen else "no XLA",
            total_steps,
            spec.points_per_batch,
            steps_to_break_even(spec),
        )
    return chosen
