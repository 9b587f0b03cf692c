"""Model files of version 0.1, whose layers have old argument names and values."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from vl3d_lite.model.layers import (
    EquivariantLinear,
    EquivariantRMSNorm,
    KPConvXLayer,
    RegularLift,
    RegularRepresentation,
    RotatedCopies,
)


@pytest.mark.parametrize(
    ("old", "new"),
    [("seed", "vl3d"), ("official", "apple"), ("vl3d", "vl3d"), ("apple", "apple")],
)
def test_the_old_orders_of_kpconvx_load(old, new):
    config = {**KPConvXLayer(order=new).get_config(), "order": old}
    assert KPConvXLayer.from_config(config).order == new
    assert KPConvXLayer.from_config(config).get_config()["order"] == new


def test_a_config_without_an_order_has_the_default():
    config = KPConvXLayer().get_config()
    del config["order"]
    assert KPConvXLayer.from_config(config).order == "vl3d"


@pytest.mark.parametrize(
    "layer",
    [
        RegularLift("C4", 3),
        EquivariantLinear(("C4", 3), 5),
        EquivariantRMSNorm(("D2", 3)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_copies_load_as_multiplicity(layer):
    config = layer.get_config()
    text = json.dumps(config).replace("multiplicity", "copies")
    assert "copies" in text
    again = type(layer).from_config(json.loads(text))
    assert again.get_config() == config


def test_representations_take_the_old_config():
    layer = EquivariantRMSNorm({"group": "C4", "copies": 3})
    assert layer.in_rep == RegularRepresentation("C4", 3)


def test_a_saved_model_with_the_old_names_loads(tmp_path):
    scalars = keras.Input((5, 4), name="scalars")
    lifted = RegularLift("C4", 3, name="lift")(scalars)
    model = keras.Model(scalars, EquivariantLinear(("C4", 3), 2, name="linear")(lifted))
    path, old_path = tmp_path / "new.keras", tmp_path / "old.keras"
    model.save(path)
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(old_path, "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                assert b"multiplicity" in content
                content = content.replace(b"multiplicity", b"copies")
            old.writestr(name, content)
    loaded = keras.saving.load_model(old_path, safe_mode=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(x)), expected)


def test_the_old_name_of_rotated_copies_loads():
    config = keras.saving.serialize_keras_object(RotatedCopies("C4"))
    config = json.loads(json.dumps(config).replace("RotatedCopies", "TurnedCopies"))
    config["module"] = "vl3d_lite.model.layers.equivariant.copies"
    assert type(keras.saving.deserialize_keras_object(config)) is RotatedCopies
