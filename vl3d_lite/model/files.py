"""Model files: loading and saving."""

import zipfile
from pathlib import Path

import keras

import vl3d_lite.model.ensemble
import vl3d_lite.model.layers  # noqa: F401  registers the layers a model file names
from vl3d_lite.errors import DataError
from vl3d_lite.system.writing import replacing


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
