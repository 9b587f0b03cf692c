"""Report and comparison in a browser, on desktop, phone and paper."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.browser import CHROMIUM, Browser
from tests.report.test_page import find, make_cloud, make_report
from vl3d_lite.report.comparison import Comparison, Row
from vl3d_lite.report.comparison_pages import as_html
from vl3d_lite.report.page import write_report

NAV = "getComputedStyle(document.querySelector('nav')).display"
WIDTH = "document.documentElement.scrollWidth"
PAPER = 688  # pixels of 1/96 inch: A4 less two margins of 14 mm
LONG = '["/a/long/path/to/the/folder/of/a/project/scans/town_train.laz"]'


def report(folder):
    cloud = make_cloud("a_tile_with_a_long_name_0942_6284_LA93_IGN69.laz")
    disagreements = find(cloud, link_distance=2.0, min_points=1)
    content = {
        "clouds": [cloud],
        "disagreements": disagreements,
        "confident_disagreements": disagreements[:4],
    }
    write_report(folder / "report.html", make_report(folder, **content))
    return folder / "report.html"


def comparison(folder):
    rows = (Row("clouds.train", (LONG, LONG[::-1])), Row("training.epochs", ("3", "9")))
    notes = ("The runs used different machines; times are not comparable.",)
    page = as_html(Comparison(("a", "b"), notes, {"Differences of the specs": rows}))
    (folder / "ab.html").write_text(page)
    return folder / "ab.html"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("make", [report, comparison])
def test_a_page_fits_desktop_phone_and_paper(make, tmp_path):
    page = make(tmp_path)
    with Browser(tmp_path / "profile", (1280, 1000)) as browser:
        browser.open(page)
        assert browser.evaluate(WIDTH) <= 1280
        browser.screenshot(tmp_path / "desktop.png")
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.send("Emulation.setDeviceMetricsOverride", **phone)
        assert browser.evaluate(WIDTH) == 390
        if make is comparison:
            right = "document.querySelector('table').getBoundingClientRect().right"
            assert browser.evaluate(right) <= 390
        browser.screenshot(tmp_path / "phone.png")
        browser.send("Emulation.setDeviceMetricsOverride", **phone | {"width": PAPER})
        browser.send("Emulation.setEmulatedMedia", media="print")
        assert browser.evaluate(WIDTH) == PAPER
        assert browser.evaluate(NAV) == "none"
        paper = base64.b64decode(browser.send("Page.printToPDF")["data"])
        assert paper.startswith(b"%PDF")
        assert browser.errors == []
        requests = [url for url in browser.requests if not url.startswith("data:")]
        assert requests == [page.as_uri()]
    for name, width in (("desktop", 1280), ("phone", 390)):
        image = Image.open(io.BytesIO((tmp_path / f"{name}.png").read_bytes()))
        assert width - 20 <= image.width <= width  # less a scroll bar
        assert np.asarray(image.convert("L")).std() > 20
