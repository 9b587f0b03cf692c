"""MkDocs hook: pages and files outside ``docs/`` become part of the site.

The pages link to files of the repository by relative paths, so that the links work
in an editor and on a forge. Here every linked file is added to the site, and links
are rewritten to its place there: ``docs/`` is the root of the site, all other
folders keep their names, and the README becomes ``readme.md``, since MkDocs takes a
``README.md`` in the root for the start page.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def site_path(path: str) -> str:
    """Place in the site of a file, given by its path in the repository."""
    if path == "README.md":
        return "readme.md"
    return path.removeprefix("docs/")


def repository_path(place: str) -> str:
    """Path in the repository of a file, given by its place in the site."""
    if place == "readme.md":
        return "README.md"
    return place if (ROOT / place).is_file() else f"docs/{place}"


def linked(page: str) -> list[str]:
    """Repository paths that a page links to; pages and files, not folders."""
    text = (ROOT / page).read_text(encoding="utf-8")
    folder = posixpath.dirname(page)
    targets = (
        posixpath.normpath(posixpath.join(folder, match[2]))
        for match in LINK.finditer(text)
    )
    return [target for target in targets if (ROOT / target).is_file()]


def on_files(files: Files, config) -> Files:
    """Add what the pages link to, and what those pages link to in turn."""
    waiting = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    waiting = [page for page in waiting if page.endswith(".md")]
    seen = set(waiting)
    while waiting:
        for target in linked(waiting.pop()):
            if target in seen:
                continue
            seen.add(target)
            if files.get_file_from_path(site_path(target)) is None:
                path = str(ROOT / target)
                files.append(
                    File.generated(config, site_path(target), abs_src_path=path)
                )
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Rewrite the links of a page to the places of the site."""
    here = repository_path(page.file.src_uri)

    def rewritten(match: re.Match) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        start = posixpath.dirname(page.file.src_uri) or "."
        place = posixpath.relpath(site_path(target), start)
        return f"{match[1]}{place}{match[3]}"

    return LINK.sub(rewritten, markdown)
