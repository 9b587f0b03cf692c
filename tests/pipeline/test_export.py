"""Export of the kernels of a run."""

import json
import shutil

import numpy as np
import pytest

from tests.pipeline.commands import OPTIONS, copy_of
from vl3d_lite import pipeline
from vl3d_lite.errors import SpecError
from vl3d_lite.kernels.files import read_kernel
from vl3d_lite.kernels.page import kernel_page
from vl3d_lite.runs.options import Options

pytestmark = pytest.mark.usefixtures("nothing_twice")


def test_kernels_are_exported_every_so_many_epochs(trained):
    stages = {path.name.rsplit("_kpconv", 1)[0] for path in trained.kernels.glob("*_*")}
    assert stages == {"INIT", "EPOCH_002", "TRAINED"}
    begin, middle = (
        read_kernel(trained.kernels / f"{stage}_kpconvx_0_0")
        for stage in ("INIT", "EPOCH_002")
    )
    np.testing.assert_array_equal(middle.Q, begin.Q)
    assert np.abs(middle.W - begin.W).max() > 1e-3


@pytest.mark.slow
def test_export_repeats_the_kernels_of_the_run(trained, tmp_path):
    pipeline.export(trained, tmp_path / "kernels", OPTIONS)
    for stage in ("INIT", "TRAINED"):
        for name in ("Q.csv", "W0.csv"):
            relative = f"{stage}_kpconvx_0_0/{name}"
            np.testing.assert_array_equal(
                np.loadtxt(tmp_path / "kernels" / relative),
                np.loadtxt(trained.kernels / relative),
            )
    before = np.loadtxt(tmp_path / "kernels/INIT_kpconvx_0_0/W0.csv")
    after = np.loadtxt(tmp_path / "kernels/TRAINED_kpconvx_0_0/W0.csv")
    assert np.abs(after - before).max() > 1e-3


@pytest.mark.slow
def test_export_without_initial_kernels_writes_the_trained_ones(
    trained, tmp_path, caplog
):
    copy = copy_of(trained, tmp_path / "copy")
    copy.initial_kernels.unlink()
    pipeline.export(copy, tmp_path / "kernels", OPTIONS)
    names = {path.name for path in (tmp_path / "kernels").iterdir()}
    assert names == {"TRAINED_kpconvx_0_0", "TRAINED_kpconvd_1_0"}
    np.testing.assert_array_equal(
        np.loadtxt(tmp_path / "kernels/TRAINED_kpconvx_0_0/W0.csv"),
        np.loadtxt(trained.kernels / "TRAINED_kpconvx_0_0/W0.csv"),
    )
    assert "does not store its initial kernels" in caplog.text


@pytest.mark.slow
def test_export_measures_a_cloud_although_the_run_exported_nothing(
    trained, place, tmp_path
):
    copy = copy_of(trained, tmp_path / "copy")
    shutil.rmtree(copy.kernels)
    text = copy.spec.read_text()
    assert "kernels: true" in text
    copy.spec.write_text(text.replace("kernels: true", "kernels: false"))
    pipeline.export(copy, copy.kernels, OPTIONS, place / "test.laz")
    statistics = json.loads((copy.kernels / "statistics.json").read_text())
    assert set(statistics["layers"]) == {"kpconvx_0_0", "kpconvd_1_0"}
    assert "gva_0_1" in kernel_page(copy.kernels)


@pytest.mark.slow
def test_an_export_keeps_existing_kernels(trained, tmp_path):
    pipeline.export(trained, tmp_path / "out", OPTIONS)
    kernel = next((tmp_path / "out").glob("TRAINED_*/Q.csv"))
    kernel.write_text("mine")
    with pytest.raises(SpecError, match=r"already exists.*--overwrite"):
        pipeline.export(trained, tmp_path / "out", OPTIONS)
    assert kernel.read_text() == "mine"
    overwrite = Options(threads=2, quiet=True, overwrite=True)
    pipeline.export(trained, tmp_path / "out", overwrite)
    assert kernel.read_text() != "mine"
