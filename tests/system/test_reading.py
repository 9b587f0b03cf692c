"""Files that anybody may have changed give a valid value or one message."""

import io
import os
import zipfile
from typing import Annotated

import numpy as np
import pytest
from pydantic import BaseModel, Field

from vl3d_lite.errors import DataError
from vl3d_lite.system import read_arrays, read_bytes, read_record, read_text


class Height(BaseModel):
    mean: float
    points: Annotated[int, Field(ge=0)] = 0


BAD_JSON = {
    "not JSON": b"{mean",
    "bad bytes": b'{"mean": "\xff"}',
    "lone surrogate": b'{"mean": "\\ud800"}',
    "deep": b'{"a":' * 400 + b"1" + b"}" * 400,
    "deeper than the stack": b"[" * 100_000 + b"]" * 100_000,
    "nested below a valid entry": b'{"mean": 1, "x": ' + b"[" * 90 + b"]" * 90 + b"}",
    "huge integer": b'{"mean": 1, "points": 1' + b"0" * 5000 + b"}",
    "NaN": b'{"mean": NaN}',
    "overflow": b'{"mean": 1e999}',
    "another type": b'{"mean": [1]}',
    "a list": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("data", BAD_JSON.values(), ids=BAD_JSON.keys())
def test_bad_json_is_one_message_with_file_and_remedy(tmp_path, data):
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(DataError, match=r"run\.json: .*; train again") as caught:
        read_record(tmp_path / "run.json", Height, "train again")
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_good_record_is_typed(tmp_path):
    (tmp_path / "run.json").write_text('{"mean": 2, "points": 3}')
    read = read_record(tmp_path / "run.json", Height, "train again")
    assert (read.mean, read.points) == (2.0, 3)


def test_the_message_names_the_entry(tmp_path):
    (tmp_path / "f").write_text('{"h": {"mean": 1, "points": -2}}')
    with pytest.raises(DataError, match=r"`h\.points`: .*greater than or equal to 0"):
        read_record(tmp_path / "f", dict[str, Height], "train again")


def test_pipes_folders_devices_and_large_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"0" * 11)
    for name, what in (("pipe", "a pipe"), ("", "a folder"), ("large", "at most 10")):
        with pytest.raises(DataError, match=what):
            read_bytes(tmp_path / name, "remove it", most=10)
    with pytest.raises(DataError, match="a pipe or a device"):
        read_bytes("/dev/zero", "remove it")
    with pytest.raises(DataError, match="null"):
        read_bytes("a\0b", "remove it")


def test_text_is_utf8_whatever_the_locale(tmp_path):
    (tmp_path / "utf8").write_bytes("Gebäude".encode())
    (tmp_path / "latin1").write_bytes("Gebäude".encode("latin-1"))
    assert read_text(tmp_path / "utf8", "restore it") == "Gebäude"
    with pytest.raises(DataError, match="latin1: is not UTF-8 text"):
        read_text(tmp_path / "latin1", "restore it")


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npy_claiming(shape: str) -> bytes:
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n"
    head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", head + b"\0" * 16)
    return stream.getvalue()


def test_arrays_round_trip(tmp_path):
    arrays = {
        "a": np.arange(6, dtype="<i4").reshape(2, 3),
        "b": np.asfortranarray(np.ones((3, 2))),
        "c": np.array("text"),
        "d": np.zeros((0, 4), np.float32),
    }
    (tmp_path / "x.npz").write_bytes(npz(**arrays))
    read = read_arrays(tmp_path / "x.npz", "train again")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x05\x06",
        npz(a=np.arange(9))[:-30],
        npy_claiming("(99999999999,)"),
        npy_claiming("(" * 300),
        npz(a=np.array([{}], dtype=object)),
        npz(a=np.zeros(2000)),
    ],
    ids=["empty", "zip", "short", "claim", "header", "pickle", "large"],
)
def test_bad_arrays_are_one_message(tmp_path, data):
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.npz: cannot be read .*; train again"):
        read_arrays(tmp_path / "x.npz", "train again", most=10_000)


def test_every_flipped_byte_of_arrays_is_found_or_changes_nothing(tmp_path):
    original = {"a": np.arange(5), "b": np.array("progress")}
    data, rng = npz(**original), np.random.default_rng(0)
    for _ in range(80):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "x.npz").write_bytes(damaged)
        try:
            read = read_arrays(tmp_path / "x.npz", "train again")
        except DataError:
            continue
        # A name, a date or an attribute of the archive changed; no value did.
        for array, value in zip(read.values(), original.values(), strict=True):
            np.testing.assert_array_equal(array, value)
