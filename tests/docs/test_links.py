"""Every link between files of the project leads to a file and a heading."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "site", "build"} & set(path.relative_to(ROOT).parts)
    and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name(path):
    return str(path.relative_to(ROOT))


def prose(text):
    """The text without blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    """Anchors of the headings, as a forge and the site derive them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def broken_links(page, text):
    """Links of a page without a target in the project."""
    for link in LINK.findall(prose(text)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = target.exists() and ROOT in target.parents
        if not inside or (anchor and anchor not in anchors(target.read_text())):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page):
    assert list(broken_links(page, page.read_text(encoding="utf-8"))) == []


def test_broken_links_are_found():
    page = ROOT / "docs/index.md"
    text = "# A `b.c` heading, and more\n[a](#a-bc-heading-and-more) [b](none.md)\n"
    text += "[c](index.md#none) [d](https://example.org) [e](../../x)\n"
    text += "![f](pictures/none.png)\n```\n[g](code.md)\n```\n"
    assert anchors(text) == {"a-bc-heading-and-more"}
    found = list(broken_links(page, text.replace("(#a", "(index.md#a")))
    assert found == [
        "index.md#a-bc-heading-and-more",
        "none.md",
        "index.md#none",
        "../../x",
        "pictures/none.png",
    ]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_short(page):
    """At most 100 columns, also in tables; only the commands of CI are longer."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!-- ci:(\w+) -->.*?<!-- /ci:\1 -->", "", text, flags=re.DOTALL)
    assert [line for line in text.splitlines() if len(line) > 100] == []


def test_all_kinds_of_pages_are_checked():
    names = {name(page) for page in PAGES}
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md", "data/README.md"} <= names
    assert "models/als_dense/README.md" in names
