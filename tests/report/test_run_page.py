"""Content of the page of a run."""

import json
import re
import shutil

import pytest
from PIL import Image

from vl3d_lite.prediction.outcomes import read_outcomes
from vl3d_lite.report.run_page import write_run_report
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.spec.reader import read_spec


@pytest.mark.slow
def test_the_page_contains_kernels_spec_versions_and_timings_of_the_run(
    trained, trained_once, tmp_path
):
    run = RunFolder(shutil.copytree(trained.root, tmp_path / "town"))
    for name in ("TRAINED_kpconvx_0_0/Wend_mat.png", "INIT_kpconvx_0_0/Winit_mat.png"):
        Image.new("L", (4, 4)).save(run.kernels / name)
    spec = read_spec(run.spec, check_files=False).spec
    outcomes = read_outcomes(run.predictions)
    write_run_report(run, spec, None, run.predictions, outcomes)
    page = run.report.read_text()
    assert "TRAINED_kpconvx_0_0/Wend_mat.png" in page
    assert "INIT_kpconvx_0_0/Winit_mat.png" not in page
    words = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page))
    provenance = json.loads(run.provenance.read_text())
    for name in ("vl3d_lite", "seconds_of_training", "seconds_of_preparation"):
        assert name in provenance
        assert f"{name} " in words
    assert f"vl3d_lite {provenance['vl3d_lite']}" in words
    assert f"peak_memory {provenance['peak_memory'] / 2**30:.1f} GiB" in words
    assert "seconds of prediction test.laz" in words
    assert run.spec.read_text().splitlines()[0] in words
    assert "Loss by epoch" in page
    assert " town " in words
    for folder in (run.root, trained.root.parent, trained_once):
        assert str(folder) not in page
    assert "<h1>test.laz</h1>" in page
