"""The network of a training, with its batches."""

import logging
from dataclasses import dataclass

import keras

from vl3d_lite.dataset import TrainingBatches, batch_spec
from vl3d_lite.model import build_network
from vl3d_lite.pipeline.opening import InitialWeights, load_network
from vl3d_lite.pipeline.preparing import TrainingInputs
from vl3d_lite.prediction import Inference
from vl3d_lite.spec import Spec
from vl3d_lite.training import loss_weights, transfer_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuiltTraining:
    """A network that is ready to be trained.

    Attributes:
        model: The network.
        batches: The training batches.
        inference: The same network, ready to predict the validation clouds.
        loss_weights: One loss weight per class, or None.
    """

    model: keras.Model
    batches: TrainingBatches
    inference: Inference
    loss_weights: list[float] | None


def build_training(
    spec: Spec, inputs: TrainingInputs, initial: InitialWeights | None
) -> BuiltTraining:
    """Build the network of a spec, with the initial weights of another run if given.

    Raises:
        DataError: No training cloud has a labeled point.
        SpecError: The initial weights belong to another network.
    """
    # Batches come first: they fail fast, and draw no random number of Keras.
    batches = TrainingBatches(inputs.clouds, spec, inputs.scaling)
    model = build_network(
        spec.model,
        batch_spec(spec, len(inputs.scaling.names)),
        n_classes=len(spec.classes),
        spacings=spec.spacings,
        precision=spec.training.precision,
    )
    if initial:
        network = load_network(initial.run, initial.spec, initial.scaling)
        head = transfer_weights(model, network, spec, initial.spec)
        logger.info("initial weights from %s: %s", initial.run.root, head)
    weights = loss_weights(spec, [cloud.labels for cloud in inputs.clouds])
    return BuiltTraining(model, batches, Inference(model, spec), weights)
