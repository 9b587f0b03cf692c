"""Arrays that are written to one file and mapped from it."""

import os

import numpy as np
import pytest

from vl3d_lite.system.array_file import map_arrays, write_arrays

ARRAYS = {
    "real": np.linspace(0, 1, 30).reshape(10, 3),
    "columns": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3)),
    "every other": np.arange(10, dtype=np.int32)[::2],
    "flags": np.array([True, False, True]),
    "keys": np.array([2**64 - 1, 0], np.uint64),
    "swapped": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 8), np.int32),
    "one": np.float64(3.5).reshape(()),
}
RECORD = {"source": "town.laz", "nested": {"a": [1, 2.5, None]}}


@pytest.fixture
def path(tmp_path):
    write_arrays(tmp_path / "a.npys", ARRAYS, RECORD)
    return tmp_path / "a.npys"


def test_arrays_and_record_come_back(path):
    found = map_arrays(path, verify=True)
    assert found.record == RECORD
    assert list(found.arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        array = found.arrays[name]
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
        assert array.shape == expected.shape
        by_columns = expected.flags.f_contiguous and not expected.flags.c_contiguous
        assert array.flags.f_contiguous or not by_columns


def test_arrays_are_aligned_and_read_only(path):
    for array in map_arrays(path).arrays.values():
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0 or not array.size
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_file_that_is_not_there_is_none(tmp_path):
    assert map_arrays(tmp_path / "b.npys") is None


def test_any_changed_byte_is_found(path):
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(whole), size=60):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged|cut short"):
            map_arrays(path)
    path.write_bytes(whole)
    assert map_arrays(path).record == RECORD


def test_any_cut_is_found(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut short|another kind"):
            map_arrays(path)


def test_a_copy_with_another_time_is_verified_once(path):
    before = path.stat().st_mtime_ns
    os.utime(path, ns=(0, before - 10**9))
    assert map_arrays(path).record == RECORD
    assert path.stat().st_mtime_ns == before


def test_a_mapped_array_outlives_its_file(path):
    array = map_arrays(path).arrays["real"]
    path.unlink()
    np.testing.assert_array_equal(array, ARRAYS["real"])
