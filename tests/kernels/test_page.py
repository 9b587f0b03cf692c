"""The page of the kernels of a run."""

import json
import re

import numpy as np
import pytest

from tests.browser import CHROMIUM, Browser
from tests.kernels.kernel_folders import NASTY, write_kernels
from vl3d_lite.errors import DataError
from vl3d_lite.kernels.page import kernel_page


@pytest.fixture
def run(tmp_path):
    return write_kernels(tmp_path / "town")


def statistics():
    return {
        "layers": {
            "fine": {
                "modulation_mean": [0.5] * 6,
                "modulation_std": [0.1, 0.2, 0.3, 0.4, 0.5, float("nan")],
                "neighbor_share": [0.5, 0.1, 0.1, 0.1, 0.1, 0.1],
                "neighbor_share_by_class": {"<i>roof": [0.0, 0.2, 0.2, 0.2, 0.2, 0.2]},
            }
        },
        "attention": {"fine_gva": {"entropy": [0.25, 0.75]}},
    }


def payload(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text.group(1), parse_constant=pytest.fail)


def test_kernel_page_contains_the_data_of_the_files(run):
    (run / "kernels" / "statistics.json").write_text(json.dumps(statistics()))
    data = payload(kernel_page(run / "kernels"))
    assert data["title"] == "Kernels of town"
    assert data["stages"] == ["INIT", "TRAINED"]
    layers = {layer["name"]: layer for layer in data["layers"]}
    assert set(layers) == {"fine", NASTY}
    nasty = layers[NASTY]
    assert (nasty["mq"], nasty["blocks"], nasty["channels"]) == (6, 2, 12)
    assert nasty["sigma"] == 2.1
    spread = data["statistics"]["layers"]["fine"]["modulation_std"]
    assert spread == [0.1, 0.2, 0.3, 0.4, 0.5, None]


def test_kernel_page_makes_no_requests_and_escapes_names(run):
    page = kernel_page(run / "kernels")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|@import|<link(?! rel=\"icon\")|src=", page)
    assert NASTY not in page
    assert page.count("</script>") == 2
    assert "{{" not in page


def test_stages_of_different_shape_are_an_error(run):
    last = run / "kernels" / "TRAINED_fine"
    (last / "manifest.json").unlink()
    np.savetxt(last / "W0.csv", np.ones((6, 3)))
    with pytest.raises(DataError, match="stages of layer 'fine' differ in shape"):
        kernel_page(run / "kernels")


def test_a_folder_without_kernels_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="vl3d-lite export RUN"):
            kernel_page(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda s: s["layers"]["fine"]["neighbor_share"].pop(),
            "layers.fine.neighbor_share` must",
        ),
        (
            lambda s: s["attention"]["fine_gva"].pop("entropy"),
            "is not a statistics file",
        ),
        (lambda s: s.update(layers=[1]), "is not a statistics file"),
        (
            lambda s: s["layers"]["fine"].update(neighbor_share="x"),
            "is not a statistics file",
        ),
    ],
)
def test_damaged_statistics_are_an_error(run, spoil, message):
    content = statistics()
    spoil(content)
    (run / "kernels" / "statistics.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=re.escape(message)):
        kernel_page(run / "kernels")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_kernel_page_works_in_a_browser_without_errors(run, tmp_path):
    (run / "kernels" / "statistics.json").write_text(json.dumps(statistics()))
    file = tmp_path / "kernels.html"
    file.write_text(kernel_page(run / "kernels"), encoding="utf-8")
    picture = "document.getElementById('right-view').toDataURL()"
    weights = np.loadtxt(run / "kernels" / "INIT_fine" / "W0.csv")
    with Browser(tmp_path / "profile") as browser:
        browser.open(file)
        drawn = browser.evaluate(picture)
        box = "document.getElementById('right-view').getBoundingClientRect()"
        x, y = browser.evaluate(f"[{box}.x + 60, {box}.y + 60]")
        browser.drag((x, y), (x + 80, y + 30))
        assert browser.evaluate(picture) != drawn
        browser.evaluate("choose(page.layers.findIndex((l) => l.name === 'fine'))")
        shown = browser.evaluate("norms('INIT')")
        assert shown == pytest.approx(list(np.sqrt((weights**2).sum(axis=1))), rel=1e-5)
        shares = "document.getElementById('neighbor-share').textContent"
        assert "<i>roof" in browser.evaluate(shares)
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.send("Emulation.setDeviceMetricsOverride", **phone)
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
        assert browser.errors == []
        assert browser.requests == [file.as_uri()]
