"""What a run asks of Keras and its backend: threads, seeds, XLA, model files."""

import logging
import zipfile
from pathlib import Path

import keras

import vl3d_lite.model.ensemble
import vl3d_lite.model.layers  # noqa: F401  registers the layers a model file names
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.folder import replacing
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.stderr import hushed

logger = logging.getLogger(__name__)

# Field points after which XLA's compile time is repaid in prediction, on a CPU
# (0.6 to 0.9 million on one core, benchmarks/results/network.md; rounded up).
PREDICTION_BREAK_EVEN = 1_000_000


def prepare_backend(seed: int, threads: int) -> None:
    """Set seeds and threads, before the first tensor is made."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    with hushed():
        devices = tf.config.list_physical_devices("GPU")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        logger.debug("TensorFlow runs already; its threads stay as they are")
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)


def make_deterministic(jit: bool) -> None:
    """Ask the backend for the same numbers in every run on one machine.

    Keras turns XLA off where TensorFlow's own determinism is on; XLA on a CPU
    repeats itself without it, and on a GPU by a flag of its own.
    """
    if keras.backend.backend() == "tensorflow" and not jit:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True, warn_only=True)


def uses_accelerator() -> bool:
    """Whether the backend computes on something else than a CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return jax.default_backend() != "cpu"
    import torch

    return torch.cuda.is_available()


def require_flash_attention(spec: Spec) -> None:
    """Complain where a network asks for flash attention that is not to be had.

    Padded points need a mask, which PyTorch's flash kernel does not take.

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


class Inference:
    """A network made ready to predict, with XLA where that pays.

    XLA is used as `training.jit` says; `auto` uses it on an accelerator, and on
    a CPU where there is enough to predict to repay its compile time. Variables
    are shared with the network; each way is traced once.

    Args:
        model: The network; logits out.
        spec: Says `training.jit` and the size of a batch.

    Attributes:
        xla: Whether the last view is compiled by XLA.
    """

    def __init__(self, model: keras.Model, spec: Spec):
        self.model = model
        self.spec = spec
        self.xla = False
        self._views: dict[bool, keras.Model] = {}

    def view(self, n_batches: int) -> keras.Model:
        """The network, compiled for a cloud of `n_batches` batches."""
        jit = self._pays(n_batches)
        if jit not in self._views:
            view = keras.Model(self.model.inputs, self.model.outputs[0])
            view.compile(jit_compile=jit)
            self._views[jit] = view
        self.xla = bool(self._views[jit].jit_compile)
        return self._views[jit]

    def batches_at_once(self, threads: int) -> int:
        """Batches that the last view best predicts at the same time.

        Two fill two processors of a CPU better than one that is spread over them.
        Keras lets several threads predict with TensorFlow alone, and TensorFlow only
        what XLA compiled: elsewhere its temporary variables of two calls clash.
        """
        alone = keras.backend.backend() != "tensorflow" or uses_accelerator()
        return 2 if self.xla and threads > 1 and not alone else 1

    def _pays(self, n_batches):
        setting = self.spec.training.jit
        if setting != "auto":
            return setting == "on"
        if keras.backend.backend() == "torch":
            return False
        fields = n_batches * self.spec.prediction_batch
        points = fields * self.spec.model.stages[0].points
        return uses_accelerator() or points > PREDICTION_BREAK_EVEN


def load_model(path: Path) -> keras.Model:
    """Read a ``.keras`` file, safe mode on.

    Raises:
        DataError: The file is damaged, is no Keras model, or names layers that
            this version does not have.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file")
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: is not a Keras model (.keras), or it is cut short; restore it "
            "from a copy or train again"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras lets whatever its readers meet through: KeyError, TypeError, OSError...
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{path}: cannot be loaded ({type(error).__name__}: {reason}); restore it "
            "from a copy, or train again with this version"
        ) from error


def save_model(model: keras.Model, path: Path) -> None:
    """Write a ``.keras`` file, whole or not at all.

    It holds the network alone: optimizer, loss and schedule stay in the
    checkpoints, so that loading needs the layers and nothing else.
    """
    bare = keras.Model(model.inputs, model.outputs[0], name=model.name)
    with replacing(path) as part:
        # Keras goes by the suffix.
        draft = part.with_name(part.name + ".keras")
        try:
            bare.save(draft)
            draft.replace(part)
        finally:
            draft.unlink(missing_ok=True)
