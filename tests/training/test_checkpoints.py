"""Progress of a training across an interruption."""

import errno
import signal

import keras
import numpy as np
import pytest

from vl3d_lite.errors import DataError, InterruptedRunError, ResourceError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.system.writing import output_errors
from vl3d_lite.training.checkpoints import Progress, restore, resumable, save
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
    progress.end_epoch({"loss": 0.25}, -0.25)
    assert (progress.epoch, progress.best_epoch, progress.step) == (3, 3, 0)
    assert progress.epochs_without_gain == progress.plateau_epochs == 0
    assert Progress.from_json(progress.to_json()) == progress


def test_of_equal_scores_the_later_epoch_is_the_best_and_no_gain():
    progress = Progress()
    for score in (0.5, 1.0, 1.0, 0.9, 1.0):
        progress.end_epoch({}, score)
    assert (progress.best_epoch, progress.best_score) == (5, 1.0)
    assert progress.epochs_without_gain == progress.plateau_epochs == 3
    progress.end_epoch({}, float("nan"))
    assert progress.best_epoch == 5


def test_undefined_scores_of_the_history_survive_a_round_trip():
    progress = Progress(history=[{"epoch": 1, "val_miou": float("nan")}])
    again = Progress.from_json(progress.to_json())
    assert again.history[0]["epoch"] == 1
    assert np.isnan(again.history[0]["val_miou"])


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"epoch": -1}', Progress().to_json().replace("0", "[]")]
)
def test_other_json_is_no_progress(text):
    with pytest.raises(ValueError, match=r"."):
        Progress.from_json(text)


@pytest.fixture
def saved(run):
    """A network, and two checkpoints of it, whose weights are 1 and then 2."""
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    for epoch in (1, 2):
        for variable in model.trainable_variables:
            variable.assign(np.full(variable.shape, epoch))
        save(run, model, Progress(epoch=epoch))
    for variable in model.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    return model


def test_the_last_checkpoint_is_restored_and_the_one_before_kept(run, saved):
    assert restore(run, saved).epoch == 2
    np.testing.assert_array_equal(saved.get_weights()[0], np.full((2, 3), 2))
    assert run.previous_checkpoint.is_file()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"PK"),
        lambda path: path.write_bytes(path.read_bytes()[:-200]),
        lambda path: np.savez(path, v0=np.ones((2, 3))),
        lambda path: np.savez(path, **{**np.load(path), "progress": np.array("{}")}),
        lambda path: np.savez(path, **{**np.load(path), "v1": np.array(["a"] * 3)}),
    ],
    ids=["no zip", "cut short", "of another network", "no progress", "text"],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, saved, caplog, damage):
    damage(run.last_checkpoint)
    assert restore(run, saved).epoch == 1
    np.testing.assert_array_equal(saved.get_weights()[0], np.ones((2, 3)))
    assert "last.npz: " in caplog.text
    assert "The checkpoint before it is used" in caplog.text
    damage(run.previous_checkpoint)
    saved.set_weights([np.zeros_like(value) for value in saved.get_weights()])
    with pytest.raises(DataError, match=r"last\.npz: .*--overwrite"):
        restore(run, saved)
    assert not np.any(saved.get_weights()[0])


def test_a_checkpoint_that_was_being_replaced_is_still_there(run, saved):
    run.last_checkpoint.unlink()
    assert restore(run, saved).epoch == 1


def test_a_full_disk_in_a_training_names_the_way_on(run, saved):
    way_on = pytest.raises(ResourceError, match=r"free some .*continue with --resume")
    with way_on, resumable(run), output_errors(run.history):
        raise OSError(errno.ENOSPC, "No space left on device")
