"""Plots of kernels."""

import pytest

from tests.kernels.kernel_folders import export, files_of


@pytest.mark.slow
def test_change_is_drawn_against_the_past_weights(tmp_path, kernel):
    near = files_of(export(tmp_path / "a", kernel, plots=True, past=kernel[1] + 1))
    far = files_of(export(tmp_path / "b", kernel, plots=True, past=-kernel[1]))
    differing = {name for name in near if near[name] != far[name]}
    assert differing == {"manifest.json", "Wdiff_mat.png", "Wdiff_hist.png"}


@pytest.mark.slow
@pytest.mark.parametrize("axes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_plots_show_structure_weights_and_change(tmp_path, kernel, axes):
    Q, W = kernel
    start = export(tmp_path / "a", (Q[:, :axes], W), plots=True, name="a$_^{b")
    end = export(tmp_path / "b", (Q[:, :axes], W), plots=True, past=W + 1)
    images = {p.stem for p in start.glob("*.png")}
    assert images == {"Qinit", "Winit_mat", "Winit_hist"}
    images = {p.stem for p in end.glob("*.png")}
    assert images == {"Qend", "Wend_mat", "Wend_hist", "Wdiff_mat", "Wdiff_hist"}
    for path in [*start.glob("*.png"), *end.glob("*.png")]:
        assert path.read_bytes().startswith(b"\x89PNG")
