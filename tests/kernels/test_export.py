"""Kernel folders: the layout of VL3D, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.kernels.kernel_folders import SHELLS, export, files_of
from vl3d_lite.errors import DeepLearningException, ResourceError
from vl3d_lite.kernels.export import export_kernel, export_model_kernels
from vl3d_lite.kernels.files import kernel_folders, read_kernel, read_kernels


def parse_ply(path):
    """Names of vertex properties and their rows, read as the format defines."""
    lines = path.read_text(encoding="ascii").split("\n")
    assert lines[:2] == ["ply", "format ascii 1.0"]
    end = lines.index("end_header")
    header = [line.split() for line in lines[:end]]
    count = next(
        int(words[2]) for words in header if words[:2] == ["element", "vertex"]
    )
    names = [words[2] for words in header if words[0] == "property"]
    rows = [[float(word) for word in line.split()] for line in lines[end + 1 :] if line]
    assert len(rows) == count
    return names, np.array(rows)


def test_files_have_the_layout_of_vl3d(tmp_path, kernel):
    Q, W = kernel
    folder = export(tmp_path / "INIT_block", kernel)
    assert set(files_of(folder)) == {
        *("Q.csv", "W0.csv", "W1.csv", "W2.csv"),
        *("manifest.json", "kernel.ply"),
    }
    np.testing.assert_allclose(np.loadtxt(folder / "Q.csv"), Q, atol=5.1e-8)
    np.testing.assert_allclose(np.loadtxt(folder / "W2.csv"), W[2], atol=5.1e-8)
    first = (folder / "W0.csv").read_text().splitlines()[0]
    assert first == "0.0000000 -0.0000000 12345.6777344 -0.1234567"


def test_the_manifest_describes_the_files(tmp_path, kernel):
    Q, W = kernel
    past = W + np.float32(0.5)
    folder = export(tmp_path / "k", kernel, past=past, extra={"spec_hash": "ab12"})
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["Q"] == {"file": "Q.csv", "shape": [5, 3]}
    assert manifest["W"]["files"] == ["W0.csv", "W1.csv", "W2.csv"]
    assert manifest["W"]["shape"] == [3, 5, 4]
    assert {key: manifest[key] for key in SHELLS} == SHELLS
    assert manifest["layer"] == "block"
    assert manifest["units"] == "meters"
    assert manifest["spec_hash"] == "ab12"
    assert manifest["versions"]["numpy"] == np.__version__
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    nearest = min(np.linalg.norm(Q[i].astype(float) - Q[j]) for i, j in pairs)
    assert manifest["min_distance"] == pytest.approx(nearest, rel=1e-6)
    changes = [np.sqrt(((past[b].astype(float) - W[b]) ** 2).sum()) for b in range(3)]
    assert manifest["change_norm"] == pytest.approx(changes, rel=1e-6)


@pytest.mark.slow
def test_every_file_name_has_the_prefix(tmp_path, kernel):
    plain = files_of(export(tmp_path / "plain", kernel, plots=True))
    folder = export(tmp_path / "named", kernel, plots=True, out_prefix="T1_")
    assert set(files_of(folder)) == {f"T1_{name}" for name in plain}
    np.testing.assert_array_equal(
        read_kernel(folder, "T1_").W, read_kernel(tmp_path / "plain").W
    )
    with pytest.raises(DeepLearningException, match="beginning of a file name"):
        export(tmp_path / "x", kernel, out_prefix="sub/T1")


def test_ply_is_colored_by_the_norm_of_the_weights(tmp_path, kernel):
    Q, W = kernel
    names, rows = parse_ply(export(tmp_path / "k", kernel) / "kernel.ply")
    assert names == ["x", "y", "z", "red", "green", "blue", "scalar_weight_norm"]
    np.testing.assert_allclose(rows[:, :3], Q, atol=1e-7)
    norms = []
    for point in range(5):
        norms.append(sum(np.sqrt((W[b, point] ** 2).sum()) for b in range(3)) / 3)
    np.testing.assert_allclose(rows[:, 6], norms, rtol=1e-5)
    assert rows[np.argmax(norms), 3:6].tolist() == [253, 231, 37]
    assert rows[np.argmin(norms), 3:6].tolist() == [68, 1, 84]


READ_BY_OPEN3D = """
import json, sys
from vl3d_lite.geometry.open3d import load_open3d
cloud = load_open3d().io.read_point_cloud(sys.argv[1])
json.dump([[list(row) for row in rows] for rows in (cloud.points, cloud.colors)],
          sys.stdout)
"""


@pytest.mark.slow
def test_open3d_reads_points_and_colors(tmp_path, kernel):
    path = export(tmp_path / "k", kernel) / "kernel.ply"
    # In its own process: Open3D's libraries must not meet TensorFlow's.
    done = subprocess.run(
        [sys.executable, "-c", READ_BY_OPEN3D, path],
        capture_output=True,
        text=True,
    )
    if "ResourceError" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    points, colors = json.loads(done.stdout.splitlines()[-1])
    _, rows = parse_ply(path)
    np.testing.assert_allclose(points, kernel[0], atol=1e-6)
    np.testing.assert_allclose(colors, rows[:, 3:6] / 255, atol=1e-3)


def test_the_ply_file_of_a_2d_kernel_has_height_zero(tmp_path):
    Q = np.array([[0.0, 0.0], [1.0, 2.0]])
    folder = export(tmp_path / "k", (Q, np.ones((1, 2, 3))), name="fläche\n2")
    _, rows = parse_ply(folder / "kernel.ply")
    assert rows[:, :3].tolist() == [[0, 0, 0], [1, 2, 0]]


@pytest.mark.slow
def test_an_existing_folder_keeps_other_files(tmp_path, kernel):
    Q, W = kernel
    folder = tmp_path / "k"
    export(folder, kernel, past=W + 1, plots=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "Wild.csv").write_text("mine too")
    export(folder, (Q, W[:1]))
    names = set(files_of(folder))
    assert {"notes.txt", "Wild.csv", "W0.csv"} <= names
    assert not names & {"W1.csv", "W2.csv", "Wdiff_mat.png"}
    assert read_kernel(folder).W.shape == (1, 5, 4)


def test_a_failed_export_leaves_no_partial_files(tmp_path, kernel, monkeypatch):
    Q, W = kernel
    old = files_of(export(tmp_path / "old", kernel))

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vl3d_lite.kernels.plots.plot_kernel", refuse)
    for name in ("old", "new"):
        with pytest.raises(ResourceError, match="No space left"):
            export(tmp_path / name, (Q, W + 1), plots=True)
    assert files_of(tmp_path / "old") == old
    assert os.listdir(tmp_path) == ["old"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path, kernel):
    (tmp_path / "k").write_text("in the way")
    with pytest.raises(ResourceError, match="k: cannot be written"):
        export(tmp_path / "k", kernel)
    assert os.listdir(tmp_path) == ["k"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"past": np.zeros((3, 5, 9))}, r"past weights.*\(3, 5, 4\).*\(3, 5, 9\)"),
        ({"Q": np.zeros((5, 4))}, r"\(mq, 2\) or \(mq, 3\)"),
        ({"W": np.zeros((3, 6, 4))}, r"\(blocks, 5, channels\)"),
        ({"W": np.full((3, 5, 4), np.nan)}, "60 of 60 weights are not finite"),
        ({"past": np.full((3, 5, 4), np.inf)}, "past weights are not finite"),
    ],
)
def test_invalid_arrays_are_an_error(tmp_path, kernel, change, message):
    arrays = {"Q": kernel[0], "W": kernel[1], **change}
    with pytest.raises(DeepLearningException, match=f"layer 'block': .*{message}"):
        export_kernel(tmp_path / "k", name="block", plots=False, **SHELLS, **arrays)
    assert not (tmp_path / "k").exists()


def test_each_layer_and_stage_has_a_folder(tmp_path, kernel):
    Q, W = kernel
    meta = {**SHELLS, "influence": "linear"}
    layers = [("enc/a", Q, W, meta), ("b", Q, 2 * W, meta)]
    first = export_model_kernels(layers, tmp_path, "INIT", plots=False)
    assert [path.name for path in first] == ["INIT_enc_a", "INIT_b"]
    past = {name: found.W for name, found in read_kernels(tmp_path, "INIT").items()}
    for stage in ("TRAINED", "EPOCH_010", "EPOCH_002"):
        export_model_kernels(layers, tmp_path, stage, past=past, plots=False)
    assert [stage for stage, layer in kernel_folders(tmp_path) if layer == "enc/a"] == [
        *("INIT", "EPOCH_002", "EPOCH_010", "TRAINED")
    ]
    trained = read_kernels(tmp_path, "TRAINED")
    assert set(trained) == {"enc/a", "b"}
    assert trained["b"].manifest["influence"] == "linear"
    assert trained["b"].manifest["stage"] == "TRAINED"
    assert max(trained["b"].manifest["change_norm"]) < 1e-5
    np.testing.assert_allclose(trained["b"].W, 2 * W, atol=5.1e-8)


def test_layers_that_share_a_folder_are_an_error(tmp_path, kernel):
    layers = [("a/b", *kernel, SHELLS), ("a_b", *kernel, SHELLS)]
    with pytest.raises(DeepLearningException, match="'a_b' a different name"):
        export_model_kernels(layers, tmp_path, "INIT", plots=False)
