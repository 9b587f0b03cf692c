"""Reading of kernel folders: the written digits, and damaged files."""

import json

import numpy as np
import pytest

from tests.kernels.kernel_folders import export
from vl3d_lite.errors import DataError
from vl3d_lite.kernels.files import read_kernel


def test_a_read_kernel_has_the_written_digits(tmp_path, kernel):
    Q, W = kernel
    read = read_kernel(export(tmp_path / "INIT_block", kernel))
    np.testing.assert_array_equal(read.Q, [[float(f"{v:.7f}") for v in q] for q in Q])
    for block in range(3):
        written = [[float(f"{v:.7f}") for v in row] for row in W[block]]
        np.testing.assert_array_equal(read.W[block], written)


@pytest.mark.parametrize(
    ("points", "blocks", "channels"), [(1, 1, 1), (1, 2, 3), (4, 1, 1)]
)
def test_small_kernels_keep_their_shape(tmp_path, points, blocks, channels):
    Q, W = np.zeros((points, 2)), np.ones((blocks, points, channels))
    read = read_kernel(export(tmp_path / "k", (Q, W)))
    assert read.Q.shape == Q.shape
    assert read.W.shape == W.shape


def spoil_row(folder):
    (folder / "W1.csv").write_text("1 2 3 4\n1 2 3\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "Q.csv").unlink(), "Q.csv: not found"),
        (lambda f: (f / "W1.csv").unlink(), "W1.csv: not found"),
        (lambda f: (f / "W2.csv").write_text(""), "W2.csv: must contain numbers"),
        (
            lambda f: (f / "Q.csv").write_text("a b c\n"),
            "Q.csv: must contain the same number",
        ),
        (
            lambda f: (f / "Q.csv").write_bytes(b"\xff\xfe"),
            "Q.csv: is not UTF-8 text",
        ),
        (
            lambda f: (f / "Q.csv").write_text("nan 0 0\n" * 5),
            "Q.csv: must contain finite numbers",
        ),
        (spoil_row, "W1.csv: must contain the same number"),
        (lambda f: np.savetxt(f / "W1.csv", np.ones((5, 3))), "W1.csv: .* 5 x 4"),
        (lambda f: np.savetxt(f / "Q.csv", np.ones((5, 2))), r"Q.csv: .*\(5, 2\)"),
        (lambda f: (f / "manifest.json").write_text("{"), r"manifest\.json: cannot be"),
        (
            lambda f: (f / "manifest.json").write_text("[]"),
            r"manifest\.json: cannot be",
        ),
    ],
)
def test_an_error_of_a_damaged_folder_names_the_file(tmp_path, kernel, spoil, message):
    folder = export(tmp_path / "k", kernel)
    spoil(folder)
    with pytest.raises(DataError, match=message):
        read_kernel(folder)


def test_a_manifest_cannot_refer_to_files_outside_its_folder(tmp_path, kernel):
    folder = export(tmp_path / "k", kernel)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["W"]["files"][0] = "../W0.csv"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="shapes and files do not match"):
        read_kernel(folder)


def test_a_folder_of_vl3d_without_manifest_is_read(tmp_path, kernel):
    folder = export(tmp_path / "INIT_block", kernel)
    whole = read_kernel(folder)
    (folder / "manifest.json").unlink()
    read = read_kernel(folder)
    np.testing.assert_array_equal(read.W, whole.W)
    assert read.manifest == {}
    (folder / "W1.csv").unlink()
    with pytest.raises(DataError, match=r"W1\.csv: not found"):
        read_kernel(folder)
    np.savetxt(folder / "Q.csv", np.ones((4, 3)))
    np.savetxt(folder / "W1.csv", np.ones((5, 4)))
    with pytest.raises(DataError, match=r"W0\.csv: must contain 4 x 4 weights"):
        read_kernel(folder)
