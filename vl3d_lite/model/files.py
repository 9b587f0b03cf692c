"""Model files: loading and saving."""

from collections.abc import Callable
from pathlib import Path

import keras

import vl3d_lite.model.ensemble
import vl3d_lite.model.layers  # noqa: F401  registers the layers a model file names
from vl3d_lite.errors import DataError
from vl3d_lite.model.archive import require_bounded
from vl3d_lite.system import is_out_of_memory, replacing, safe_point


def load_model(path: Path) -> keras.Model:
    """Load a ``.keras`` file in safe mode.

    Raises:
        DataError: The file is missing or damaged, is not a Keras model, or
            contains layers that this version does not have.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file")
    require_bounded(path)
    safe_point()
    try:
        # Safe mode refuses files that would execute code.
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras raises whatever its readers raise: KeyError, TypeError, OSError...
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{path}: cannot be loaded ({type(error).__name__}: {reason}); restore it "
            "from a copy, or train again with this version"
        ) from error
    safe_point()
    return model


def save_model(
    model: keras.Model,
    path: Path,
    before_rename: Callable[[Path], None] = lambda draft: None,
) -> None:
    """Write a ``.keras`` file atomically.

    It contains the network only: optimizer, loss and schedule stay in the
    checkpoints, so that loading requires the layers and nothing else.

    Args:
        model: The network.
        path: The file.
        before_rename: Called with the complete file before it gets its name.
    """
    network = keras.Model(model.inputs, model.outputs[0], name=model.name)
    with replacing(path) as draft:
        network.save(draft)
        before_rename(draft)
