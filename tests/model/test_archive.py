"""Model files that claim more than a network needs are refused before Keras reads."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.model.archive import require_bounded
from vl3d_lite.report.model_summary import describe_model

LAYER = {
    "class_name": "KPConvXLayer",
    "name": "a",
    "config": {"name": "a", "DH": 64, "shell_points": [1, 7], "sigma": 0.5},
}


def write_model(path, layer=LAYER, fill=None, config=None, compression=0):
    with h5py.File(path.with_suffix(".h5"), "w") as store:
        group = store.create_group("layers/a/vars")
        if fill is None:
            group["0"] = np.ones((8, 64), np.float32)
        else:  # takes no bytes until it is read
            group.create_dataset("0", fill, "f4", chunks=(1024, 1024))
    with zipfile.ZipFile(path, "w", compression) as archive:
        text = config or json.dumps(
            {"class_name": "Functional", "config": {"layers": [layer]}}
        )
        archive.writestr("metadata.json", '{"keras_version": "3"}')
        archive.writestr("config.json", text)
        archive.write(path.with_suffix(".h5"), "model.weights.h5")


def with_config(**entries):
    return {**LAYER, "config": {**LAYER["config"], **entries}}


def test_a_usual_model_is_accepted(tmp_path):
    write_model(tmp_path / "m.keras")
    require_bounded(tmp_path / "m.keras")
    assert "8 points, influence 0.5 m" in describe_model(tmp_path / "m.keras")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": with_config(shell_points=[1, 10**7])}, "10,000,001 points"),
        ({"layer": with_config(DH=10**9)}, "`DH` of 1,000,000,000"),
        ({"layer": with_config(units=10**9)}, "`units` of 1,000,000,000"),
        ({"fill": (200_000, 200_000)}, "claim more bytes"),
        ({"config": "[" * 500 + "]" * 500}, "recursion limit"),
        ({"config": "{"}, "EOF"),
        (
            {"config": " " * (65 * 2**20) + "{}", "compression": zipfile.ZIP_DEFLATED},
            "must be below",
        ),
    ],
    ids=["kernel", "DH", "units", "weights", "deep", "no JSON", "config bomb"],
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, arguments, message):
    write_model(tmp_path / "m.keras", **arguments)
    with pytest.raises(DataError, match=r"m\.keras: not a Keras model") as caught:
        require_bounded(tmp_path / "m.keras")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        '{"class_name": 3}',
        '{"config": {"layers": [1]}}',
        '{"class_name": "F", "config": {"layers": [{"config": [], "name": 1}]}}',
        '{"class_name": "F", "config": {"layers": {"a": {}}}}',
    ],
)
def test_a_model_of_odd_types_is_described_by_one_message(tmp_path, config):
    write_model(tmp_path / "m.keras", config=config)
    with pytest.raises(DataError, match="is not a readable Keras model"):
        describe_model(tmp_path / "m.keras")
