"""Hashes and versions that identify what a run was made with."""

import hashlib

import numpy as np

from vl3d_lite.runs.provenance import array_hash, file_hash, inputs, text_hash


def test_hashes_are_those_of_the_bytes(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("grün\n".encode())
    expected = hashlib.sha256("grün\n".encode()).hexdigest()
    assert text_hash("grün\n") == file_hash(path) == expected
    assert inputs([path]) == [{"path": str(path), "bytes": 6, "sha256": expected}]


def test_the_hash_of_arrays_depends_on_values_order_and_shape():
    one, two = np.zeros((2, 3), np.float32), np.ones(3, np.float32)
    found = {
        array_hash(arrays)
        for arrays in ([one, two], [two, one], [one.T, two], [one, two + 1], [one])
    }
    assert len(found) == 5
    assert array_hash([one, two]) == array_hash([one.copy(), two.copy()])
