"""A network that predicts batches, compiled where that pays."""

import keras

from vl3d_lite.model import PREDICTION_BREAK_EVEN, pays_to_compile, uses_accelerator
from vl3d_lite.spec import Spec


class Inference:
    """A network ready to predict, with XLA where that pays.

    ``training.jit`` holds for prediction, too; ``auto`` compiles where the cloud is
    large enough (`model.compilation`). Variables are shared with the network; each
    of the two ways is traced once.

    Args:
        model: The network, which returns logits.
        spec: Its `training.jit` and the size of a batch count.

    Attributes:
        xla: Whether XLA compiled the view that `view` returned last.
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
        """Number of batches that the last view predicts best at the same time.

        Two batches use two processors of a CPU better than one batch spread over
        both. Keras lets several threads predict with TensorFlow only, and TensorFlow
        only what XLA compiled: elsewhere temporary variables of two calls clash.
        """
        alone = keras.backend.backend() != "tensorflow" or uses_accelerator()
        return 2 if self.xla and threads > 1 and not alone else 1

    def _pays(self, n_batches: int) -> bool:
        fields = n_batches * self.spec.prediction_batch
        return pays_to_compile(
            self.spec,
            fields * self.spec.model.stages[0].points,
            PREDICTION_BREAK_EVEN,
            backend=keras.backend.backend(),
            accelerator=uses_accelerator(),
        )
