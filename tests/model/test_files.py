"""Loading of model files: which errors are those of the file."""

import keras
import pytest

from vl3d_lite.errors import DataError, InterruptedRunError
from vl3d_lite.model import files
from vl3d_lite.model.files import load_model


@pytest.fixture
def model(tmp_path):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    network.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def failing(error):
    def load(*_, **__):
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "expected"),
    [(MemoryError(), MemoryError), (KeyError("layers"), DataError)],
    ids=["memory", "content"],
)
def test_short_memory_is_no_damage_of_the_file(model, error, expected, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", failing(error))
    with pytest.raises(expected):
        load_model(model)


def test_a_signal_while_a_model_loads_is_no_damage_of_the_file(model, monkeypatch):
    def stop():
        raise InterruptedRunError("interrupted", 143)

    monkeypatch.setattr(files, "safe_point", stop)
    with pytest.raises(InterruptedRunError):
        load_model(model)
