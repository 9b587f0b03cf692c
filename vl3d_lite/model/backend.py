"""The backend of Keras: threads, seeds, determinism and devices."""

import logging

import keras

from vl3d_lite.errors import SpecError
from vl3d_lite.spec import Spec
from vl3d_lite.system import silenced_stderr

logger = logging.getLogger(__name__)


def prepare_backend(seed: int, threads: int) -> None:
    """Set seeds and threads; call it before the first tensor is made.

    Args:
        seed: Seed of all random number generators.
        threads: Threads of TensorFlow; other backends use their own setting.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    devices = _gpus()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        logger.debug("TensorFlow is already initialized; its number of threads stays")
    for device in devices:
        # Otherwise TensorFlow reserves the whole memory of the GPU.
        tf.config.experimental.set_memory_growth(device, True)


def make_deterministic(jit: bool) -> None:
    """Make the backend repeat its results in every run on one machine.

    Args:
        jit: Whether XLA compiles the network. Keras turns XLA off where
            TensorFlow's own determinism is on; XLA on a CPU is deterministic
            without it, and on a GPU by a flag of its own.
    """
    if keras.backend.backend() == "tensorflow" and not jit:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)


def uses_accelerator() -> bool:
    """Return whether the backend computes on a device other than a CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return bool(_gpus())
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    import torch

    return torch.cuda.is_available()


def _gpus() -> list:
    """The GPUs that TensorFlow sees."""
    import tensorflow as tf

    # TensorFlow prints driver errors where it finds none.
    with silenced_stderr():
        return tf.config.list_physical_devices("GPU")


def require_flash_attention(spec: Spec) -> None:
    """Check that flash attention is available to a network that requires it.

    Padded points need a mask, which PyTorch's flash kernel does not accept.

    Raises:
        SpecError: `gqa.flash_attention` without JAX on an accelerator.
    """
    used = any("gqa" in stage.blocks for stage in spec.model.stages)
    if not (used and spec.model.gqa.flash_attention):
        return
    backend = keras.backend.backend()
    if backend != "jax" or not uses_accelerator():
        raise SpecError(
            "`model.gqa.flash_attention` needs JAX on a GPU or TPU; leave it out, or "
            f"set KERAS_BACKEND=jax. Received: {backend}"
            f"{'' if uses_accelerator() else ' on a CPU'}"
        )
