"""A network that answers batches: compiled where that pays."""

import keras

import vl3d_lite.model.ensemble
import vl3d_lite.model.layers  # noqa: F401  registers the layers a model file names
from vl3d_lite.model.backend import uses_accelerator
from vl3d_lite.spec.schema.spec import Spec

# Field points after which XLA's compile time is repaid in prediction, on a CPU
# (0.6 to 0.9 million on one core, benchmarks/results/network.md; rounded up).
PREDICTION_BREAK_EVEN = 1_000_000


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
