"""The documentation site builds without warnings and contains every page."""

import logging
import re
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    # Third-party plugins of MkDocs.
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, and what MkDocs logged."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    log = logging.getLogger("mkdocs")
    log.addHandler(handler)
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        config = load_config("mkdocs.yml", site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    log.removeHandler(handler)
    return folder, records


@pytest.mark.slow
def test_the_site_builds_without_warnings(site):
    _, records = site
    messages = [r.getMessage() for r in records if r.levelno >= logging.WARNING]
    assert messages == []


def test_every_page_of_the_docs_is_in_the_navigation():
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r": (\S+\.md)$", config, re.MULTILINE))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages <= named
    assert {"readme.md", "models/als_dense/README.md", "CONTRIBUTING.md"} <= named


@pytest.mark.slow
def test_links_out_of_the_docs_lead_into_the_site(site):
    folder, _ = site
    start = (folder / "index.html").read_text(encoding="utf-8")
    assert 'href="readme/' in start
    for path in ("readme/index.html", "models/als_dense/index.html"):
        assert (folder / path).is_file()
    assert (folder / "vl3d_lite/model/network.py").is_file()


def test_the_reference_is_generated_from_docstrings(site):
    folder, _ = site
    page = (folder / "api/index.html").read_text(encoding="utf-8")
    assert "KPConvXLayer" in page
    assert 'id="vl3d_lite.read_spec"' in page
