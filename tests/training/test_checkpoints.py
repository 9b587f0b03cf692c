"""Progress of a training across an interruption."""

import signal

import keras
import numpy as np
import pytest

from vl3d_lite.errors import InterruptedRunError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.training.checkpoints import Progress
from vl3d_lite.training.loop import TrainingLoop

RATE, DECAY, PATIENCE, EPOCHS = 0.5, 0.1, 3, 8
SETTINGS = [
    f"training.schedule={{name: plateau, patience: {PATIENCE}, decay: {DECAY}}}",
    f"training.learning_rate={RATE}",
    f"training.epochs={EPOCHS}",
    "training.optimizer=sgd",
]


class Batches:
    """One batch per epoch, always the same."""

    steps_per_epoch = 1
    wait_seconds = 0.0

    def epoch(self, number, start_step=0):
        for _ in range(start_step, 1):
            yield np.ones((1, 4, 2), "float32"), np.zeros((1, 4), "int32")


def make_loop(place, run, interrupts, scores):
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.layers.Input((4, 2)), keras.layers.Dense(3)])
    spec = read_spec(place / "spec.yaml", SETTINGS).spec
    return TrainingLoop(
        model,
        Batches(),
        spec,
        run,
        interrupts,
        validate=lambda: {"miou": next(scores)},
        quiet=True,
    )


def rates(progress):
    return [row["learning_rate"] for row in progress.history]


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(overwrite=False)
    return folder


# The best score is that of epoch 2, so a plateau of 3 epochs ends with epochs 5, 8.
SCORES = [0.4, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
EXPECTED = [RATE] * 5 + [RATE * DECAY] * 3


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 4, 5, 6])
def test_the_plateau_counter_continues_after_an_interruption(place, run, stop):
    interrupts, scores = Interrupts(), iter(SCORES)
    loop = make_loop(place, run, interrupts, scores)

    def interrupt(epoch, model):
        if epoch == stop:
            interrupts.received = signal.SIGTERM

    loop.on_epoch = interrupt
    with pytest.raises(InterruptedRunError, match="--resume"):
        loop.fit(resume=False)
    resumed = make_loop(place, run, Interrupts(), scores)
    progress = resumed.fit(resume=True)
    np.testing.assert_allclose(rates(progress), EXPECTED, rtol=1e-6)
    assert progress.best_epoch == 2
    assert progress.epochs_without_gain == 6


def test_the_learning_rate_drops_after_a_plateau(place, run):
    progress = make_loop(place, run, Interrupts(), iter(SCORES)).fit(resume=False)
    np.testing.assert_allclose(rates(progress), EXPECTED, rtol=1e-6)
    assert progress.plateau_epochs == 0


def test_progress_survives_a_round_trip():
    progress = Progress(epoch=2, step=3, plateau_epochs=4, history=[{"loss": 0.5}])
    assert Progress.from_json(progress.to_json()) == progress
    progress.end_epoch({"loss": 0.25}, -0.25, improved=True)
    assert (progress.epoch, progress.best_epoch, progress.step) == (3, 3, 0)
    assert progress.epochs_without_gain == progress.plateau_epochs == 0
    assert Progress.from_json(progress.to_json()) == progress
